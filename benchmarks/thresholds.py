"""Named rules that set a threshold on the valid split of a fit's own photographs.

An image is called fake iff its score >= the threshold.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import UserError

# Keeps 0.05 * 60 at 3 where rounding would give 2.9999999999999996.
SLACK = 1e-9


def rule_name(rule: str, target: float) -> str:
    """Name a rule with its target, as rows of scores and results do.

    >>> rule_name("fpr", 0.05)
    'fpr <= 0.05'
    """
    return f"{rule} <= {target:g}"


def fpr_thresholds(scores: np.ndarray, weights: np.ndarray, target: float) -> np.ndarray:
    """Smallest thresholds with an expected false-positive rate of at most `target`.

    A new photograph is as likely to fall into any of the n + 1 gaps that n photographs leave
    between them as into any other. With the threshold just above the (k + 1)-th largest score, k
    are called fake, and a new one is with probability (k + 1) / (n + 1), in the mean over
    photographs to set it on: k + 1 <= target (n + 1). (k <= target n, which looks alike, expects
    6.6 % for 5 % of 60.) Tied photographs are called alike, which only lowers the rate.

    Args:
        scores: float (n,), P(fake) of photographs, n > 0.
        weights: float (n, B), how often each counts, one column per resample.
        target: the allowed rate, in (0, 1).

    Returns:
        float (B,); above every score where even k = 0 is too many (n + 1 < 1 / target).
    """
    order = np.argsort(-scores, kind="stable")
    above = np.cumsum(weights[order], axis=0)
    allowed = target * (above[-1] + 1) - 1 + SLACK
    # The first photograph that may not be called any more. Where the weight of none may be called,
    # it is the first with any weight, and the threshold lies above all.
    last = np.argmax(above > np.maximum(allowed, 0), axis=0)
    return np.nextafter(scores[order][last], np.inf)


def shortfall(photographs: int, target: float) -> str:
    """Say that there are too few photographs for a target, "" where there are enough.

    >>> shortfall(19, 0.05)
    ''
    """
    if photographs + 1 >= 1 / target - SLACK:
        return ""
    return (
        f"{photographs} valid photographs are too few for a false-positive rate of {target:g}: "
        f"a threshold above all of them, which was taken, expects {1 / (photographs + 1):.3g}; "
        f"{int(np.ceil(1 / target - SLACK)) - 1} or more are needed"
    )


# Rule name of `matrix.threshold` -> (photographs' scores, weights, target) -> thresholds.
RULES = {"fpr": fpr_thresholds}


def thresholds_by(name: str, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Set the threshold anew in resamples of the photographs it was set on.

    Args:
        name: of the rule and its target, see `rule_name`.
        scores: float (n,), P(fake) of photographs, n > 0.
        weights: float (n, B), how often each counts, one column per resample.

    Returns:
        float (B,).
    """
    rule, _, target = name.partition(" <= ")
    return RULES[rule](scores, weights, float(target))


def threshold_by(rule: str, scores: np.ndarray, labels: np.ndarray, target: float) -> float:
    """Apply the rule named in params.yaml to the photographs among some images.

    Args:
        rule: of `RULES`.
        scores: float (N,), P(fake).
        labels: int (N,), 1 = fake, 0 = photograph. Fakes have no say.
        target: the allowed false-positive rate, in (0, 1).

    >>> scores, labels = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 0, 0, 1])
    >>> 0.2 < threshold_by("fpr", scores, labels, 0.5) <= 0.3  # the highest photograph may pass
    True

    Raises:
        UserError: no such rule, no photograph, or a score that is NaN or infinite.
    """
    if rule not in RULES:
        raise UserError(f"threshold rule {rule!r} is unknown; expected one of {', '.join(RULES)}")
    real = scores[labels == 0]
    if not len(real):
        raise UserError("no photograph to set the threshold on; expected some in the valid split")
    if not np.isfinite(scores).all():
        raise UserError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} valid scores are NaN or "
            "infinite; expected P(fake) in [0, 1]: lower the method's learning rate in params.yaml"
        )
    return float(RULES[rule](real, np.ones((len(real), 1)), target)[0])
