"""What the probe `bands` sees in each generator: where its spectrum differs from the photographs'.

`python -m benchmarks.spectra` reads the manifests that params.yaml names and prints a table. It
says of each generator, and of each collection of photographs against the others, how well the
energy by band tells it apart, from luma alone and from chroma alone; how much fine structure its
luma has; and whether its spectrum has peaks where up-sampling by two leaves them, a checkerboard.
With `--as-trained deepfd` it looks at the pictures as the training of that method meets them, its
treatment included.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from deepfd.options import Treatment
from deepfd.treatment import treated
from pipeline import manifest
from pipeline.errors import UserError, one_line
from pipeline.folds import MANIFESTS, Images, sources
from pipeline.gates.bands import bands, planes_of
from pipeline.params import Params
from pipeline.params import load as load_params
from pipeline.seeds import seed_for

# Of each source so many images, as the audit's probes.
IMAGES = 1000
# Cycles per pixel above which luma is fine structure.
FINE = 0.25
# Where peaks are looked for, cycles per pixel each way: periods of 4 and 2 pixels.
LATTICE = (0.0, 0.25, 0.5)
# A peak is measured against the median of what lies 2 and 3 coefficients off.
NEAR, FAR = 1, 3
PLANES = {"luma": ("Y",), "chroma": ("Cb", "Cr")}


@dataclass(frozen=True)
class Spectrum:
    """What is measured of a source of pictures.

    Attributes:
        features: of `pipeline.gates.bands.bands`, a row per picture.
        power: mean power spectrum of luma, (S, S // 2 + 1), under a Hann window.
    """

    features: pd.DataFrame
    power: np.ndarray


def treatment_of(params: Params, method: str) -> Treatment:
    """Return what the training pictures of a method meet.

    Raises:
        UserError: no such method, or one without a treatment.
    """
    treatment = getattr(params.methods.get(method), "treatment", None)
    if treatment is None:
        raise UserError(
            f"method {method!r} is no entry of `methods` with a treatment; leave --as-trained out, "
            "or name one"
        )
    return treatment


def met(
    rows: pd.DataFrame, pixels: np.ndarray, treatment: Treatment, params: Params, seed: int
) -> np.ndarray:
    """Return pictures as a training meets them: `treatment.share` of them treated.

    Args:
        rows: of their manifest.
        pixels: uint8 (N, S, S, C).
        treatment: of the method.
        params: the checked params.yaml.
        seed: of which are treated.
    """
    about = (rows[name].to_numpy() for name in ("label", "generator", "image_id"))
    changed = treated(Images(pixels, *about), treatment, 0, params.faces.finish)
    meets = np.random.default_rng(seed).random(len(pixels)) < treatment.share
    return np.where(meets[:, None, None, None], changed, pixels)


def measure(pixels: Iterable[np.ndarray]) -> Spectrum:
    """Measure uint8 pictures (S, S, C), at least one."""
    rows, power = [], 0.0
    for one in pixels:
        planes = planes_of(one.astype(np.float64))
        rows.append(bands(planes))
        luma = planes["Y"]
        window = np.hanning(len(luma))[:, None] * np.hanning(luma.shape[1])
        power = power + np.abs(np.fft.rfft2((luma - luma.mean()) * window)) ** 2
    return Spectrum(pd.DataFrame(rows), np.asarray(power) / len(rows))


def told_apart(one: pd.DataFrame, other: pd.DataFrame, planes: Iterable[str], seed: int) -> float:
    """AUC of a logistic regression on the bands of some planes, the mean over 5 folds.

    Args:
        one: features of a source.
        other: those of another.
        planes: names of planes; of those that there are.
        seed: of the folds.

    Returns:
        NaN where there are no such planes (chroma of grey pictures).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    starts = tuple(f"bands: {plane} " for plane in planes)
    names = [name for name in one if name.startswith(starts)]
    if not names:
        return float("nan")
    x = np.concatenate([one[names].to_numpy(), other[names].to_numpy()])
    y = np.repeat([0, 1], [len(one), len(other)])
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return float(cross_val_score(model, x, y, cv=folds, scoring="roc_auc").mean())


def fine(one: np.ndarray, other: np.ndarray) -> float:
    """Median ratio of two power spectra (S, S // 2 + 1) above `FINE` cycles per pixel."""
    size = len(one)
    down = np.abs(np.fft.fftfreq(size))[:, None]
    right = np.fft.rfftfreq(size)[None]
    return float(np.median((one / other)[np.hypot(down, right) > FINE]))


def peak(one: np.ndarray, other: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Find the largest peak of the ratio of two power spectra on the lattice of up-sampling.

    Returns:
        How many times its neighbourhood it is (1 of what has none), and where: cycles per pixel
        down and right.
    """
    ratio, size = one / other, len(one)
    places = [place for place in product(LATTICE, LATTICE) if any(place)]
    reach = range(-FAR, FAR + 1)
    offsets = [(i, j) for i, j in product(reach, reach) if max(abs(i), abs(j)) > NEAR]
    found = {}
    for v, h in places:
        row, column = round(v * size), round(h * size)
        around = []
        for i, j in offsets:
            # The other half of the spectrum is the mirror of this one.
            r, c = (row + i) % size, (column + j) % size
            around.append(ratio[r, c] if c < ratio.shape[1] else ratio[-r % size, size - c])
        found[v, h] = float(ratio[row, column] / np.median(around))
    place = max(found, key=found.__getitem__)
    return found[place], place


def compare(spectra: Mapping[str, Spectrum], params: Params) -> pd.DataFrame:
    """Compare every generator with the photographs trained on, and collections with each other.

    Returns:
        A row each: `source`, `all`, `luma`, `chroma` (AUC), `fine`, `peak`, `at`.
    """
    seed = seed_for(params.seed, "spectra") % 2**32
    rows = []

    def add(name: str, mine: Spectrum, features: pd.DataFrame, power: np.ndarray) -> None:
        size, (down, right) = peak(mine.power, power)
        aucs = {
            head: told_apart(features, mine.features, planes, seed)
            for head, planes in {"all": sum(PLANES.values(), ()), **PLANES}.items()
        }
        at = f"{down:g}, {right:g}"
        rows.append(
            {"source": name, **aucs, "fine": fine(mine.power, power), "peak": size, "at": at}
        )

    trained = [spectra[name] for name in params.train_collections]
    # As many of each collection as of a generator in all: evenly, as training draws them.
    share = IMAGES // len(trained)
    features = pd.concat([one.features.iloc[:share] for one in trained], ignore_index=True)
    power = np.mean([one.power for one in trained], axis=0)
    for name in params.generators:
        add(name, spectra[name], features, power)
    names = list(params.collections)
    for place, name in enumerate(names[1:], 1):
        for before in names[:place]:
            other = spectra[before]
            add(f"{name} against {before}", spectra[name], other.features, other.power)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Write the table of `compare`."""
    head = ["", "AUC", "luma alone", "chroma alone", "fine luma", "peak", "at (down, right)"]
    lines = [head, ["---"] * len(head)]
    for row in table.itertuples():
        aucs = ["" if np.isnan(v) else f"{v:.3f}" for v in (row.all, row.luma, row.chroma)]
        lines.append([f"`{row.source}`", *aucs, f"{row.fine:.2f}", f"{row.peak:.1f}", row.at])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@one_line
def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spectra", description=__doc__)
    parser.add_argument("--as-trained", metavar="METHOD", help="an entry of `methods`")
    args = parser.parse_args(argv)
    params = load_params()
    treatment = treatment_of(params, args.as_trained) if args.as_trained else None
    spectra = {}
    for name, folder in sources(params).items():
        frame = manifest.read(MANIFESTS / folder)
        draw = seed_for(params.seed, "spectra", name) % 2**32
        chosen = frame.sample(min(len(frame), IMAGES), random_state=draw)
        pixels = np.stack(list(manifest.pixels(chosen)))
        if treatment:
            pixels = met(chosen, pixels, treatment, params, draw)
        spectra[name] = measure(pixels)
    print(markdown(compare(spectra, params)))


if __name__ == "__main__":
    main()
