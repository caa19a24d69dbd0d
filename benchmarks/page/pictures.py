"""Pictures of the report: contact sheets of the generators and each method's worst mistakes.

They are made small and lossy for the page (WebP); the manifests hold the pixels that were scored.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.page.tables import number
from generators.measuring import quality
from pipeline import manifest
from pipeline.errors import UserError
from pipeline.folds import MANIFESTS, sources
from pipeline.images import FILTER, to_pil
from pipeline.params import Params

SHEET_COLUMNS, SHEET_ROWS = 8, 3
SIDE = 96  # of a picture in the page at most, in pixels
QUALITY = 85
MISTAKES = 8  # of each kind
# Kinds of mistakes, as the page calls them.
MISSED, ACCUSED, FOREIGN = (
    "Fakes taken for photographs",
    "Photographs called fake",
    "Photographs of collections never seen called fake",
)


@dataclass(frozen=True)
class Picture:
    """A picture of the page: a data URI, and what is said of it."""

    uri: str
    text: str


def data_uri(picture: Image.Image) -> str:
    """Write a picture as a WebP data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def small(pixels: np.ndarray) -> np.ndarray:
    """Shrink uint8 (H, W, C) to at most `SIDE` pixels a side."""
    if max(pixels.shape[:2]) <= SIDE:
        return pixels
    shrunk = np.asarray(to_pil(pixels).resize((SIDE, SIDE), FILTER))
    return shrunk.reshape(SIDE, SIDE, pixels.shape[-1])


def contact_sheet(name: str, folder: Path = MANIFESTS) -> np.ndarray:
    """Lay the first fakes of a generator out in rows: uint8 (H, W, C).

    Raises:
        UserError: the manifest holds anything but fakes of this generator.
    """
    frame = next(manifest.parts(folder / name)).to_pandas().head(SHEET_COLUMNS * SHEET_ROWS)
    if set(frame["label"]) != {1} or set(frame["generator"]) != {name}:
        raise UserError(
            f"{folder / name} holds images that are not fakes of {name}: delete the folder and run "
            "dvc repro"
        )
    faces = np.stack([small(one) for one in manifest.pixels(frame)])
    return quality.contact_sheet(faces, SHEET_COLUMNS)


def mistakes(scores: pd.DataFrame) -> pd.DataFrame:
    """Pick the images that each method is most sure of and wrong about.

    Means over seeds count. Fakes are of the generator held out; a photograph, which every fit is
    tested on, counts in the fit that is most wrong about it.

    Args:
        scores: per-image `method`, `held_out`, `generator`, `image_id`, `label`, `score`,
            `threshold`, `seen` of the fits that left a generator out.

    Returns:
        rows of `method`, `kind`, `held_out`, `generator`, `image_id`, `score`, the worst first; at
        most `MISTAKES` of each kind and method.
    """
    keys = ["method", "held_out", "generator", "image_id", "label", "seen"]
    scores = scores.assign(called=scores["score"] >= scores["threshold"])
    means = scores.groupby(keys, sort=False, observed=True)[["score", "called"]].mean()
    means = means.reset_index()
    wrong = means[(means["called"] >= 0.5) != (means["label"] == 1)]
    wrong = wrong.assign(sure=(wrong["score"] - wrong["label"]).abs())
    wrong = wrong.sort_values(["sure", "image_id"], ascending=[False, True], kind="stable")
    wrong = wrong.drop_duplicates(["method", "image_id"])
    photographs = np.where(wrong["seen"], ACCUSED, FOREIGN)
    wrong = wrong.assign(kind=np.where(wrong["label"] == 1, MISSED, photographs))
    return wrong.groupby(["method", "kind"]).head(MISTAKES)


def read_pictures(wanted: pd.DataFrame, params: Params, folder: Path = MANIFESTS) -> dict[str, str]:
    """Read the pictures of images: image id -> data URI.

    Args:
        wanted: rows of `generator` and `image_id`.
        params: the checked params.yaml.
        folder: where the manifests lie.

    Raises:
        UserError: an image is in no manifest.
    """
    found = {}
    for name, rows in wanted.groupby("generator", observed=True):
        missing = set(rows["image_id"])
        for part in manifest.parts(folder / sources(params)[name]):
            ids = part["image_id"].to_pylist()
            for index in [i for i, image_id in enumerate(ids) if image_id in missing]:
                pixels = manifest.pixels(part.slice(index, 1).to_pandas())[0]
                found[ids[index]] = data_uri(to_pil(small(pixels)))
            missing -= set(ids)
            if not missing:
                break
        if missing:
            raise UserError(
                f"{folder / sources(params)[name]} lacks {len(missing)} images that were scored "
                f"(such as {min(missing)}); run dvc repro"
            )
    return found


def mistake_pictures(
    scores: pd.DataFrame, params: Params, folder: Path = MANIFESTS
) -> dict[str, dict[str, list[Picture]]]:
    """Show the worst mistakes of each method, by kind; a kind without any is an empty list."""
    worst = mistakes(scores)
    uris = read_pictures(worst, params, folder)
    photographs = scores[scores["label"] == 0]
    kinds = (MISSED, ACCUSED, *((FOREIGN,) if (~photographs["seen"]).any() else ()))
    shown = {method: {kind: [] for kind in kinds} for method in params.methods}
    for row in worst.itertuples():
        text = f"{row.generator} {number(row.score)}"
        shown[row.method][row.kind].append(Picture(uris[row.image_id], text))
    return shown
