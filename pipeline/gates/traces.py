"""What the gates know of an image: every feature of every probe, its hash and its thumbnail."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from pipeline import cores, images, manifest
from pipeline.errors import UserError
from pipeline.gates.bands import BLOCK, bands, grid, planes_of
from pipeline.gates.sources import features

# Copies are sought in grey, standardised thumbnails: brightness and contrast do not hide one.
THUMB_SIDE = 32
# Parts of fewer images are described in this process: starting workers would take longer.
FEW, AT_A_TIME = 250, 32
COLUMNS = ["image_id", "label", "generator", "split", "identity", "sha256", "source"]


@dataclass(frozen=True)
class Traces:
    """What the gates know of the images of one source.

    Attributes:
        rows: one row per image: the manifest's columns, `digest` of the pixels as they are, `std`,
            and a column `<probe>: <feature>` for every feature of the probes.
        hashes: float32 (N, 256), bits of the perceptual hash as -1 and 1.
        thumbs: float32 (N, 1024), grey thumbnails of zero mean and unit norm.
    """

    rows: pd.DataFrame
    hashes: np.ndarray
    thumbs: np.ndarray


def _header(picture: Image.Image) -> str:
    """Format, mode and header fields of an encoded picture, as one category."""
    return " ".join([str(picture.format), picture.mode, *sorted(map(str, picture.info))])


def _borders(pixels: np.ndarray) -> dict[str, float]:
    """Mean of each border, and how much it differs from its inner neighbour."""
    found = {}
    for side, lines in {
        "top": pixels[:2],
        "bottom": pixels[:-3:-1],
        "left": pixels[:, :2].swapaxes(0, 1),
        "right": pixels[:, :-3:-1].swapaxes(0, 1),
    }.items():
        found[f"border: {side} mean"] = lines[0].mean()
        found[f"border: {side} step"] = np.abs(lines[0] - lines[1]).mean()
    return found


def _blockiness(grey: np.ndarray) -> dict[str, float]:
    """Step across each of the 8 phases of an 8x8 grid, relative to the mean step, both ways."""
    found = {}
    for axis, name in ((0, "row"), (1, "column")):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        phases = np.arange(len(steps)) % 8
        means = np.bincount(phases, steps) / np.bincount(phases) / (steps.mean() + 1e-6)
        found |= {f"blockiness: {name} {phase}": mean for phase, mean in enumerate(means)}
    return found


def trace(
    row: Mapping[str, Any], channels: int, periods: Sequence[float]
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Describe one image of a manifest: its row, hash bits (256,) and thumbnail (1024,).

    Args:
        row: of the manifest, picture and all.
        channels: of the profile.
        periods: of the blocks that may be seen, in pixels; see `grid`.

    Raises:
        UserError: the bytes are no picture.
    """
    data, path = row["image"]["bytes"], row["image"]["path"] or ""
    try:
        picture = Image.open(io.BytesIO(data))
        header = _header(picture)
        picture.load()
    except Exception as error:  # whatever Pillow raises on damaged bytes
        raise UserError(
            f"{row['image_id']} is no picture ({error}); delete its manifest and run dvc repro"
        ) from None
    found = np.asarray(picture, dtype=np.uint8)
    native = found[..., None] if found.ndim == 2 else found
    pixels = np.asarray(images.to_mode(picture, channels), dtype=np.float64)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    grey = pixels.mean(axis=2)
    small = picture.convert("L")
    thumb = np.asarray(
        small.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX), dtype=np.float32
    ).ravel()
    thumb = thumb - thumb.mean()
    # The encoder's own choices (level, filters, extra chunks) show as bytes more or less than the
    # project's encoder needs for the same pixels.
    excess = len(data) - len(images.encode_png(native)) if native.shape[2] in (1, 3) else -1
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1]
    laplacian -= grey[1:-1, :-2] + grey[1:-1, 2:]
    planes = planes_of(pixels)
    described = {
        **{name: row.get(name) for name in COLUMNS},
        "digest": images.pixel_sha256(native),
        "std": grey.std(),
        "container": header,
        "container: excess bytes": excess,
        "container: other encoder": float(excess != 0),
        "size": f"{picture.width}x{picture.height}",
        "naming": f"suffix {Path(path).suffix or 'none'}"
        + ("" if Path(path).stem == row["image_id"] else ", stem is not the id"),
        "file_size: log bytes": np.log(len(data)),
        **{f"moments: mean {c}": pixels[..., c].mean() for c in range(channels)},
        **{f"moments: deviation {c}": pixels[..., c].std() for c in range(channels)},
        **_borders(grey),
        **_blockiness(grey),
        "sharpness: log energy": np.log((laplacian**2).mean() + 1e-6),
        **bands(planes),
        **grid(planes, periods),
        **features(row.get("source")),
    }
    bits = images.perceptual_hash(picture)
    norm = np.linalg.norm(thumb)
    return described, np.where(bits, 1, -1).astype(np.float32), thumb / (norm if norm else 1)


def traces_of(
    name: str, folder: Path, channels: int, periods: Sequence[float] = (BLOCK,)
) -> Traces:
    """Describe every image of the manifest in `folder`, large parts on all cores.

    Raises:
        UserError: a missing or damaged manifest.
    """
    found = []
    describe = joblib.delayed(partial(trace, channels=channels, periods=periods))
    with tqdm(desc=f"audit: {name}", unit=" images", mininterval=2) as bar:
        for part in manifest.parts(folder):
            # Processes, not threads: a picture is some hundred short calls of numpy.
            several = joblib.Parallel(
                n_jobs=cores.available() if len(part) >= FEW else 1, batch_size=AT_A_TIME,
                return_as="generator",
            )  # fmt: skip
            for one in several(map(describe, part.to_pylist())):
                found.append(one)
                bar.update()
    rows, hashes, thumbs = zip(*found, strict=True)
    return Traces(pd.DataFrame(rows), np.stack(hashes), np.stack(thumbs))


def together(sources: Iterable[Traces]) -> Traces:
    """Put the images of several sources, at least one, behind each other."""
    parts = list(sources)
    return Traces(
        pd.concat([one.rows for one in parts], ignore_index=True),
        np.concatenate([one.hashes for one in parts]),
        np.concatenate([one.thumbs for one in parts]),
    )
