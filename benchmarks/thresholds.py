"""Named rules that set a threshold on the valid split of the training generators.

An image is called fake iff its score >= the threshold.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import UserError


def fpr_threshold(scores: np.ndarray, labels: np.ndarray, target: float) -> float:
    """Smallest threshold at which at most the share `target` of the photographs is called fake.

    With n photographs and k = floor(target n) allowed, this is the next float above the (k + 1)-th
    largest of their scores. Tied photographs are called alike, so that ties only ever lower the
    false-positive rate; where they all would be, it stays below `target`. Fakes have no say.

    Args:
        scores: float (N,), P(fake).
        labels: int (N,), 1 = fake, 0 = photograph.
        target: the allowed false-positive rate, in (0, 1).

    Raises:
        UserError: no photograph, or a score that is NaN or infinite.
    """
    real = np.sort(scores[labels == 0])[::-1]
    if not len(real):
        raise UserError("no photograph to set the threshold on; expected some in the valid split")
    if not np.isfinite(scores).all():
        raise UserError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} valid scores are NaN or "
            "infinite; expected P(fake) in [0, 1]: lower the method's learning rate in params.yaml"
        )
    # The small term keeps 0.05 * 60 at 3 where rounding would give 2.9999999999999996.
    allowed = int(np.floor(target * len(real) + 1e-9))
    return float(np.nextafter(real[allowed], np.inf))


# Rule name of `matrix.threshold` -> (scores, labels, target) -> threshold.
RULES = {"fpr": fpr_threshold}


def threshold_by(rule: str, scores: np.ndarray, labels: np.ndarray, target: float) -> float:
    """Apply the rule named in params.yaml.

    Raises:
        UserError: no such rule, or the rule's own errors.
    """
    if rule not in RULES:
        raise UserError(f"threshold rule {rule!r} is unknown; expected one of {', '.join(RULES)}")
    return RULES[rule](scores, labels, target)
