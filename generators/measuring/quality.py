"""Do the generators copy, do they collapse? One contact sheet and one row of figures each.

`python -m generators.measuring.quality` reads data/manifests (run the sample stages first) and
writes docs/generators/<profile>/<name>.png and quality.csv. Distances are root mean square
differences of grey levels (0..255) between images reduced to 16x16, the smaller of the plain and
the mirrored one, since training mirrors photographs. The yardstick is how far photographs of other
people (valid and test splits) lie from the nearest training photograph:

- `nearest_ratio`: median distance of a fake to its nearest training photograph, over the same
  median for unseen photographs. Far below 1: the generator copies.
- `copies`: share of fakes nearer to a training photograph than 99 % of unseen photographs are.
- `diversity_ratio`: mean distance between two fakes, over that between two training photographs.
  Far below 1: it collapses.
- `duplicates`: share of fakes that have another fake nearer than 99 % of the unseen photographs
  have a training photograph.
- `distance`, `distance_error`: kernel distance to the photographs of the valid split with its
  standard error (distance.py says in which features; no other project's KID compares), and
  `floor`: that of as many training photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline import folds, images, manifest, params
from pipeline.errors import one_line

REDUCED = 16
COMPARED = 1000  # images of each set that go into `distance`
SHEET = (4, 10)  # rows and columns of a contact sheet


def contact_sheet(pixels: np.ndarray, columns: int) -> np.ndarray:
    """Lay uint8 (N, H, W, C) out in rows of `columns`: uint8 (rows * H, columns * W, C).

    What the last row lacks is white.

    >>> contact_sheet(np.zeros((5, 64, 64, 1), np.uint8), columns=3).shape
    (128, 192, 1)
    """
    count, height, width, channels = pixels.shape
    rows = -(-count // columns)
    grid = np.full((rows * columns, height, width, channels), 255, np.uint8)
    grid[:count] = pixels
    grid = grid.reshape(rows, columns, height, width, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def reduce(pixels: np.ndarray) -> np.ndarray:
    """Reduce uint8 (N, H, W, C) to grey float64 (N, 16, 16)."""
    size = (REDUCED, REDUCED)
    small = [
        np.asarray(images.to_pil(one).convert("L").resize(size, Image.Resampling.BOX))
        for one in pixels
    ]
    return np.stack(small).astype(np.float64)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Root mean square differences (N, M) of reduced images, the smaller of plain and mirrored."""

    def plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
        squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
        return np.sqrt(np.maximum(squared, 0) / x.shape[1])

    return np.minimum(plain(a, b), plain(a, b[:, :, ::-1]))


def assess(fakes: np.ndarray, training: np.ndarray, unseen: np.ndarray) -> dict[str, float]:
    """Return the figures of the module's docstring for reduced images (N, 16, 16) each."""
    yardstick = distances(unseen, training).min(1)
    close = np.quantile(yardstick, 0.01)
    to_training = distances(fakes, training).min(1)
    between = distances(fakes, fakes)
    pairs = ~np.eye(len(fakes), dtype=bool)
    photo_pairs = ~np.eye(len(training), dtype=bool)
    nearest_fake = np.where(pairs, between, np.inf).min(1)
    return {
        "n": len(fakes),
        "nearest": float(np.median(to_training)),
        "nearest_ratio": float(np.median(to_training) / np.median(yardstick)),
        "copies": float((to_training < close).mean()),
        "diversity_ratio": float(
            between[pairs].mean() / distances(training, training)[photo_pairs].mean()
        ),
        "duplicates": float((nearest_fake < close).mean()),
    }


@one_line
def main() -> None:
    """Write sheets and figures of every generator of params.yaml."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder (docs/generators/<profile>)")
    args = parser.parse_args()
    from generators.measuring import distance  # torch: not for those who only want a contact sheet

    settings = params.load()
    out = args.out or Path("docs/generators") / settings.profile
    real = pd.concat(
        [
            manifest.read(folds.MANIFESTS / folds.sources(settings)[name], ["image", "split"])
            for name in settings.train_collections
        ]
    )
    photographs = manifest.pixels(real)
    small = reduce(photographs)
    split = real["split"].to_numpy()
    in_training = split == "train"
    valid = distance.features(photographs[split == "valid"][:COMPARED])
    training = distance.features(photographs[in_training][:COMPARED])
    floor = distance.kernel_distance(training, valid).value
    rows = []
    for name in settings.generators:
        pixels = manifest.pixels(manifest.read(f"data/manifests/{name}", columns=["image"]))
        sheet = contact_sheet(pixels[: SHEET[0] * SHEET[1]], SHEET[1])
        manifest.write_atomic(out / f"{name}.png", images.encode_png(sheet))
        figures = assess(reduce(pixels), small[in_training], small[~in_training])
        found = distance.kernel_distance(distance.features(pixels[:COMPARED]), valid)
        figures |= {"distance": found.value, "distance_error": found.error, "floor": floor}
        rows.append({"generator": name, **figures})
    table = pd.DataFrame(rows).round(3)
    manifest.write_atomic(out / "quality.csv", table.to_csv(index=False).encode())
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
