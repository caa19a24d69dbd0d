"""D2 fitted anew on whole pictures, once D1 and D2 have been trained on crops.

A crop of 16 pixels of a soft fake and one of a soft photograph say nearly the same, and D2, trained
on crops, gives both up. Over a whole picture the means of what it reads do differ. A picture's
logit is linear in those means, so this one boundary is drawn again, on whole pictures:

    mean cross-entropy + penalty / 2 |w - w_crops|^2,    w of standardised means.

A large penalty leaves what the crops taught; a small one finds more soft fakes and calls more of
the soft photographs from elsewhere fake. How far to go is chosen on valid photographs of the
training collections, made soft (docs/research.md, 6).

Of the pictures some are treated as crops are, and of some what they show is varied
(`deepfd.treatment`): which, a picture's id decides, so that all fits of a run show each alike. For
one that is drawn again, as those of a small collection are, it is decided anew, up to four times.

Where the network has a backbone (`deepfd.backbone`), its statistics of the picture are read beside
those means, by weights that the crops left at 0, and standardised to `deepfd.backbone.spreads`.
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from deepfd import backbone, data
from deepfd.detector import Detector, Network
from deepfd.options import OnCrops, Refit, Treatment
from deepfd.treatment import treated, varied
from pipeline.folds import Images
from pipeline.images import Jpeg
from pipeline.seeds import seed_for

# From what the crops taught to what whole pictures say.
PENALTIES = (
    30.0, 17.0, 10.0, 5.5, 3.0, 1.7, 1.0, 0.55, 0.3, 0.17, 0.1, 0.055, 0.03, 0.017, 0.01,
)  # fmt: skip
# Steps of the minimiser: with the smallest penalties more move no score to speak of.
STEPS = 300
# Share of valid photographs above the threshold at which their soft copies are looked at; how many
# of them are looked at.
CALLED, LOOKED_AT = 0.05, 500


# Ways in which a picture is shown at most; beyond them the first again.
COPIES = 4

# Pictures as they are shown, the same in every fold and for every seed: made once, by id and copy.
_shown: dict[tuple[Treatment | None, Refit, Jpeg | None, str, int], np.ndarray] = {}


def shown(
    images: Images, options: OnCrops, finish: Jpeg | None, copies: np.ndarray | int = 0
) -> np.ndarray:
    """Return training pictures as the refit shows them, uint8 (N, S, S, C).

    By its id and the number of its copy each is a treated one (`share`), a varied one (`varied`,
    `varied_fakes`), or as it is.

    Args:
        images: N training pictures.
        options: of the training.
        finish: the last step to pixels of every picture.
        copies: (N,), the number of the copy of each, or of all.
    """
    refit = options.refit or Refit()
    copies = np.broadcast_to(copies, len(images))
    keys = [
        (options.treatment, refit, finish, str(one), int(number))
        for one, number in zip(images.ids, copies, strict=True)
    ]
    new = np.array([key not in _shown for key in keys], dtype=bool)
    for number in np.unique(copies[new]).tolist():
        places = np.flatnonzero(new & (copies == number))
        made = _made(images.subset(places), options, refit, finish, number)
        _shown.update(zip((keys[place] for place in places), made, strict=True))
    return np.stack([_shown[key] for key in keys]) if keys else images.pixels.copy()


def _made(
    images: Images, options: OnCrops, refit: Refit, finish: Jpeg | None, number: int
) -> np.ndarray:
    """Make one copy of each picture, as `shown` says."""
    drawn = np.array(
        [np.random.default_rng(seed_for(number, "refit", one)).random() for one in images.ids]
    )
    meets = (drawn < refit.share) & (options.treatment is not None)
    of_fakes = refit.varied if refit.varied_fakes is None else refit.varied_fakes
    varied_share = np.where(images.labels == 1, of_fakes, refit.varied)
    varies = (drawn >= refit.share) & (drawn < refit.share + varied_share)
    pixels = images.pixels.copy()
    if options.treatment:
        pixels[meets] = treated(images.subset(meets), options.treatment, number, finish)
    pixels[varies] = varied(images.subset(varies), finish, number)
    return pixels


def all_shown(train: Images, options: OnCrops, finish: Jpeg | None) -> list[np.ndarray]:
    """Return what fits on all of `train` are shown: an array a copy.

    A fit that leaves a collection or a family out draws the others oftener, and makes for itself
    what is missing.
    """
    if options.refit is None:
        return []
    names, places, counts = np.unique(train.generators, return_inverse=True, return_counts=True)
    # How many of a source are drawn, and how often each of its pictures then is.
    fake = np.array([train.labels[train.generators == name][0] == 1 for name in names])
    drawn = options.refit.pictures // 2 / np.where(fake, fake.sum(), (~fake).sum())
    times = np.ceil(drawn / counts)[places]
    return [
        shown(train.subset(times > number), options, finish, number)
        for number in range(min(COPIES, int(times.max(initial=0))))
    ]


def softened(photographs: Images, options: OnCrops, finish: Jpeg | None) -> np.ndarray:
    """Make each photograph soft, as the treatment does, its `zoom` too: uint8 (N, S, S, C)."""
    treatment = options.treatment or Treatment()
    return treated(photographs, treatment.model_copy(update={"soft_photographs": 1.0}), 0, finish)


def looked_at(images: Images) -> Images:
    """Choose the photographs among valid images that are made soft, at most `LOOKED_AT`."""
    photographs = images.subset(images.labels == 0)
    order = np.random.default_rng(0).permutation(np.argsort(photographs.ids))
    return photographs.subset(order[:LOOKED_AT])


def fitted(
    x: np.ndarray, labels: np.ndarray, start: tuple[np.ndarray, float], penalty: float,
    spreads: np.ndarray | float = 1.0,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """Draw a linear boundary near another one.

    Args:
        x: features, float (N, K).
        labels: (N,), 1 = fake, 0 = photograph.
        start: weights (K,) and bias of the other one.
        penalty: of the squared distance of the weights, of standardised features, from it.
        spreads: (K,), the standard deviation that each feature is standardised to.

    Returns:
        Weights (K,) and bias of the log-odds of a fake.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    scale = np.maximum(x.std(axis=0, dtype=np.float64), 1e-12) / spreads
    # Memory's speed bounds the fit: half of the bytes, and the gradient is right to a millionth.
    z, near = x - mean.astype(np.float32), start[0] * scale
    z = np.divide(z, scale, out=np.empty(z.shape, np.float32), casting="same_kind")

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        weights, away = found[:-1].astype(np.float32), found[:-1] - near
        logits = (z @ weights).astype(np.float64) + found[-1]
        error = (expit(logits) - labels) / len(labels)
        value = (np.logaddexp(0, logits) - labels * logits).mean() + penalty / 2 * away @ away
        slope = (error.astype(np.float32) @ z).astype(np.float64)
        return float(value), np.append(slope + penalty * away, error.sum())

    first = np.append(near, start[1] + start[0] @ mean)
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    weights = found[:-1] / scale
    return weights, float(found[-1] - weights @ mean)


def refit(
    network: Network, train: Images, valid: Images, options: OnCrops, seed: int,
    finish: Jpeg | None,
) -> dict[str, object]:  # fmt: skip
    """Fit D2 of a trained network anew, in place.

    Nothing is done where `options.refit` is None. Else the smallest of `PENALTIES` that is no
    smaller than `options.refit.penalty` is taken at which at most `options.refit.soft` of the valid
    photographs' soft copies are called fake, where `CALLED` of the photographs themselves are; is
    there none, D2 stays as it is.

    Args:
        network: D1 and D2, trained on crops.
        train: what it was trained on.
        valid: the other split of the same sources.
        options: of the training.
        seed: of every draw.
        finish: the last step to pixels of every picture.

    Returns:
        What is to be kept on record: the penalty (None: D2 stayed), and the share of the soft
        copies that are called fake.
    """
    if options.refit is None:
        return {}
    detector = Detector(copy.deepcopy(network), finish=finish)

    # Drawn as the crops of a batch are.
    count = options.refit.pictures
    seed = seed_for(seed_for(seed, "refit"), "batches")
    positions = pd.Series(data.balanced(train, 1, count, seed)[0].numpy())
    copies = positions.groupby(positions).cumcount() % COPIES
    each, where = np.unique(np.c_[positions, copies], axis=0, return_inverse=True)
    of_training = train.subset(each[:, 0])
    means = detector.pooled(shown(of_training, options, finish, each[:, 1]))[where]
    labels = of_training.labels[where]

    photographs = looked_at(valid)
    sharp = detector.pooled(photographs.pixels)
    soft = detector.pooled(softened(photographs, options, finish))

    def called(weights: np.ndarray, bias: float) -> float:
        threshold = np.quantile(sharp @ weights + bias, 1 - CALLED)
        return float((soft @ weights + bias > threshold).mean())

    # Away from the crops' boundary, as far as soft photographs allow.
    start = network.boundary()
    spreads = np.ones(network.d1.outputs)
    if name := network.config.get("backbone"):
        spreads = np.concatenate([spreads, backbone.spreads(name)])
    for penalty in sorted(one for one in PENALTIES if one >= options.refit.penalty):
        found = fitted(means, labels, start, penalty, spreads)
        if (share := called(*found)) <= options.refit.soft:
            network.set_boundary(*found)
            break
    else:
        penalty, share = None, called(*start)
    return {"refit": {"pictures": count, "penalty": penalty, "soft": round(share, 4)}}
