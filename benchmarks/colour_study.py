"""Stage `colour-study`: which colour component gives a generator away.

`python -m benchmarks.colour_study` reads the manifests that params.yaml names and writes
benchmarks/colour_study.parquet and benchmarks/colour_study.png: for each generator and each of
R, G, B, H, S, V, Y, Cb, Cr the chi-square distance between the residual histograms of photographs
and fakes, and the AUC of that component's residual co-occurrences alone. Both as the pictures are
and after the same JPEG for both classes: photographs have mostly been through a codec that halves
chroma and fakes have not, so that only what is left after a common codec speaks of the generator.
On grey faces there is nothing to compare: the table is empty and the figure says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.components import COMPONENTS, DIRECTIONS, components, residual
from benchmarks.methods.chunks import CHUNK
from benchmarks.methods.colour import plane_features
from benchmarks.methods.linear import regression
from benchmarks.perturb import perturb
from pipeline import cores, manifest
from pipeline.errors import UserError, one_line
from pipeline.folds import MANIFESTS, sources
from pipeline.manifest import REAL
from pipeline.params import NONE, Params
from pipeline.params import load as load_params

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = Path("benchmarks/colour_study.parquet")
FIGURE = Path("benchmarks/colour_study.png")
VIEWS = (NONE, "jpeg75")
NEEDS_COLOUR = "The study of colour components needs colour; the faces of this profile are grey."

# Photographs that are described at a time; of fewer than that nothing is worth a second process.
FEW = 1000

# Of every component: (residual histogram (511,), features (N, 75)).
Described = dict[str, tuple[np.ndarray, np.ndarray]]

SCHEMA = pa.schema(
    [
        ("component", pa.string()),
        ("generator", pa.string()),
        ("perturbation", pa.string()),
        ("chi_square", pa.float64()),
        ("auc", pa.float64()),
        ("n_real", pa.int64()),
        ("n_fake", pa.int64()),
        ("n_real_test", pa.int64()),
        ("n_fake_test", pa.int64()),
    ]
)


def residual_histogram(plane: np.ndarray) -> np.ndarray:
    """Return the shares of the residuals -255..255 to all four neighbours.

    Args:
        plane: uint8 (N, H, W).

    Returns:
        float64 (511,), sums to 1.
    """
    counts = np.zeros(511)
    for way in DIRECTIONS:
        for start in range(0, len(plane), CHUNK):
            values = residual(plane[start : start + CHUNK], way).ravel() + 255
            counts += np.bincount(values, minlength=511)
    return counts / counts.sum()


def chi_square(first: np.ndarray, second: np.ndarray) -> float:
    """Return 1/2 sum (p - q)^2 / (p + q) of two histograms: 0 if equal, 1 if disjoint."""
    total = first + second
    filled = total > 0
    return float(0.5 * ((first - second)[filled] ** 2 / total[filled]).sum())


def component_auc(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> float:
    """AUC on `test` of a logistic regression fitted on `train`, features (N, D), 1 = fake."""
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), regression(0.1))
    model.fit(train, train_labels)
    return float(roc_auc_score(test_labels, model.decision_function(test)))


def _described(pixels: np.ndarray) -> Described:
    """Describe every component of some pictures."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in COMPONENTS}
    for start in range(0, len(pixels), CHUNK):
        for name, plane in components(pixels[start : start + CHUNK]).items():
            parts[name].append(plane)
    found = {}
    for name, planes in parts.items():
        features = np.concatenate([plane_features(plane) for plane in planes])
        found[name] = residual_histogram(np.concatenate(planes)), features
    return found


def _together(parts: Iterable[Described]) -> Described:
    """Put what is known of several sets of pictures together."""
    found = list(parts)
    together = {}
    for component in COMPONENTS:
        histograms, features = zip(*(one[component] for one in found), strict=True)
        shares = np.average(histograms, axis=0, weights=[*map(len, features)])
        together[component] = shares, np.concatenate(features)
    return together


def _read(folder: Path, parts: Sequence[str], name: str) -> pd.DataFrame:
    """Read the manifests of a source.

    Raises:
        UserError: one is missing or damaged, or a split is without images.
    """
    frame = pd.concat([manifest.read(folder / part) for part in parts], ignore_index=True)
    if {"train", "test"} - {*frame["split"]}:
        raise UserError(f"{name} has no image in train or test; expected both: dvc repro")
    return frame


def _seen(frame: pd.DataFrame, view: str) -> Described:
    """Describe the pictures of a source under a view."""
    pixels = perturb(view, manifest.pixels(frame), frame["image_id"].to_list())
    return _described(pixels)


def _compared(
    name: str, frame: pd.DataFrame, view: str, real: Described, real_split: np.ndarray
) -> list[dict[str, Any]]:
    """Compare a generator under a view with the photographs: a row per component."""
    # Hundreds of products of 75 columns: a second thread makes them wait for each other.
    with threadpool_limits(1):
        fake, split, rows = _seen(frame, view), frame["split"].to_numpy(), []
        for component in COMPONENTS:
            histograms, features = zip(real[component], fake[component], strict=True)
            found, labels = {}, {}
            for part in ("train", "test"):
                cut = [f[s == part] for f, s in zip(features, (real_split, split), strict=True)]
                found[part] = np.concatenate(cut)
                labels[part] = np.repeat([0, 1], [*map(len, cut)])
            auc = component_auc(found["train"], labels["train"], found["test"], labels["test"])
            rows.append(
                {
                    "component": component,
                    "generator": name,
                    "perturbation": view,
                    "chi_square": chi_square(*histograms),
                    "auc": auc,
                    "n_real": len(real_split),
                    "n_fake": len(split),
                    "n_real_test": int((labels["test"] == 0).sum()),
                    "n_fake_test": int((labels["test"] == 1).sum()),
                }
            )
    return rows


def study(params: Params, folder: Path = MANIFESTS) -> Iterator[dict[str, Any]]:
    """Yield a row per view, generator and component; none where the faces are grey.

    Histograms are those of all images; the AUC is fitted on the train split and measured on the
    test split. Generators are compared side by side, one a core.

    Raises:
        UserError: a manifest is missing or damaged, or a split without images.
    """
    if params.faces.channels == 1:
        return
    names, folders = params.train_generators, sources(params)
    # The photographs of all collections that are trained on, as one source.
    photographs = _read(folder, [folders[name] for name in params.train_collections], REAL)
    fakes = {name: _read(folder, [folders[name]], name) for name in names}
    split = photographs["split"].to_numpy()
    processes = cores.available() if len(photographs) >= FEW else 1
    several = Parallel(n_jobs=processes, return_as="generator")
    with tqdm(total=len(VIEWS) * (1 + len(names)), desc="colour-study", unit="source") as bar:
        for view in VIEWS:
            parts = (photographs[at : at + FEW] for at in range(0, len(photographs), FEW))
            real = _together(several(delayed(_seen)(part, view) for part in parts))
            bar.update()
            for rows in several(
                delayed(_compared)(name, frame, view, real, split) for name, frame in fakes.items()
            ):
                bar.update()
                yield from rows


def draw(table: pd.DataFrame) -> Figure:
    """Draw the table as heat maps: AUC and chi-square, before and after the common JPEG."""
    from matplotlib.figure import Figure

    if table.empty:
        figure = Figure(figsize=(7, 1.2))
        figure.text(0.5, 0.5, NEEDS_COLOUR, ha="center", va="center", wrap=True)
        return figure
    names = list(dict.fromkeys(table["generator"]))
    figure = Figure(figsize=(11, 2.6 + 0.9 * len(names)), layout="constrained")
    axes = figure.subplots(2, len(VIEWS), squeeze=False)
    for row, (value, title, low, high) in enumerate(
        (("auc", "AUC of one component alone", 0.5, 1.0),
         ("chi_square", "chi-square distance of residuals", 0.0, float(table["chi_square"].max()))),
    ):  # fmt: skip
        for column, view in enumerate(VIEWS):
            cells = table[table["perturbation"] == view].pivot_table(
                index="generator", columns="component", values=value, sort=False
            )
            cells = cells.loc[names, list(COMPONENTS)]
            axis = axes[row, column]
            axis.imshow(cells, vmin=low, vmax=high, cmap="viridis", aspect="auto")
            axis.set_xticks(range(len(COMPONENTS)), COMPONENTS)
            axis.set_yticks(range(len(names)), names)
            axis.set_title(f"{title}, {'as they are' if view == NONE else f'both {view}'}", size=9)
            middle = (low + high) / 2
            for (y, x), number in np.ndenumerate(cells.to_numpy()):
                colour = "black" if number > middle else "white"
                axis.text(x, y, f"{number:.2f}", ha="center", va="center", color=colour, size=7)
    return figure


@one_line
def main() -> None:
    """Write the table and the figure."""
    params = load_params()
    table = pa.Table.from_pylist(list(study(params)), SCHEMA)
    manifest.write_table(TABLE, table)
    # No metadata: the same table gives the same bytes.
    draw(table.to_pandas()).savefig(FIGURE, dpi=150, metadata={"Software": None})
    print(
        f"colour-study: {len(table)} rows in {TABLE}" if len(table) else NEEDS_COLOUR,
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
