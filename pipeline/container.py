"""How a photograph came: the format of its file, what its JPEG tables say, how far it is reduced.

A codec leaves traces in pixels, less of them the more a picture is reduced. Generators have none:
what is recorded here says what a detector could live on (`pipeline.gates.sources`).
"""

from __future__ import annotations

import hashlib
import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from pipeline.images import Crop, crop_box

# Formats that lose something, mostly on a grid of blocks.
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF", "HEIF")
SUBSAMPLING = {0: "444", 1: "422", 2: "420"}
# Luma of the JPEG standard (ITU-T T.81, table K.1), row by row: libjpeg scales it by the quality.
LUMA = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ]
)  # fmt: skip


@cache
def _scaled() -> np.ndarray:
    """Tables of quality 1 to 100, int (100, 64), as libjpeg scales them (jcparam.c)."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((LUMA * scale[:, None] + 50) // 100, 1, 255)


def quality_of(table: list[int]) -> int:
    """Return the quality, 1 to 100, whose luma table is nearest in mean absolute difference.

    Exact for what libjpeg wrote; an estimate for encoders with tables of their own.
    """
    return int(np.abs(_scaled() - np.asarray(table)).mean(axis=1).argmin()) + 1


def describe(data: bytes, upright: tuple[int, int], crop: Crop, size: int) -> dict[str, Any]:
    """Describe a readable picture: the columns of `manifest.SOURCE`.

    Args:
        data: the encoded picture.
        upright: its width and height, turned as its EXIF data say.
        crop: how it is cropped.
        size: the side it comes to, in pixels.

    Returns:
        `format`; `quality`, `tables` (digest of all quantisation tables) and `subsampling` of a
        JPEG, else None; `width` and `height`; `reduction`: pixels of the crop's shorter side per
        pixel of the result (1.4: a little smaller; below 1: enlarged).
    """
    image = Image.open(io.BytesIO(data))  # the header alone
    left, upper, right, lower = crop_box(*upright, crop)
    found: dict[str, Any] = {
        "format": str(image.format),
        "quality": None,
        "tables": None,
        "subsampling": None,
        "width": upright[0],
        "height": upright[1],
        "reduction": min(right - left, lower - upper) / size,
    }
    tables = getattr(image, "quantization", None)
    if tables:
        listed = repr([tables[key] for key in sorted(tables)])
        found["quality"] = quality_of(tables[min(tables)])
        found["tables"] = hashlib.sha256(listed.encode()).hexdigest()[:12]
        if image.mode != "L":
            found["subsampling"] = SUBSAMPLING.get(JpegImagePlugin.get_sampling(image))
    return found
