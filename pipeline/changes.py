"""What can happen to a picture between its making and a detector, as functions of Pillow images.

`benchmarks.perturb` lays them on test images, `deepfd.treatment` on training images.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def coded(
    picture: Image.Image, draw: np.random.Generator, kind: str, quality: int, **options: Any
) -> Image.Image:
    """Encode and decode, with Pillow's `options`; by default JPEG halves chroma (4:2:0)."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, quality=quality, **options)
    return Image.open(buffer).convert(picture.mode)


def blurred(picture: Image.Image, draw: np.random.Generator, sigma: float) -> Image.Image:
    """Blur with a Gaussian of `sigma` pixels (Pillow's three box filters)."""
    return picture.filter(ImageFilter.GaussianBlur(sigma))


def sharpened(picture: Image.Image, draw: np.random.Generator, percent: int) -> Image.Image:
    """Add `percent` of the difference from the picture blurred with a radius of 1 pixel."""
    return picture.filter(ImageFilter.UnsharpMask(1, percent, 0))


def resized(
    picture: Image.Image,
    draw: np.random.Generator,
    factor: float,
    down: Image.Resampling = Image.Resampling.BICUBIC,
    up: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Resize by `factor` and back, by the filters `down` and `up`."""
    other = [max(1, round(side * factor)) for side in picture.size]
    return picture.resize(other, down).resize(picture.size, up)


def zoomed(
    picture: Image.Image,
    draw: np.random.Generator,
    part: float,
    at: tuple[float, float],
    way: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Cut out a part and enlarge it to the picture's size.

    Args:
        picture: of any size.
        draw: unused; every change takes one.
        part: side of the part, of the picture's, in (0, 1].
        at: share of the free room that lies left of it and above it, each in [0, 1].
        way: the filter.
    """
    width, height = picture.size
    left, top = (1 - part) * width * at[0], (1 - part) * height * at[1]
    box = (left, top, left + part * width, top + part * height)
    return picture.resize(picture.size, way, box=box)


def noisy(picture: Image.Image, draw: np.random.Generator, sigma: float) -> Image.Image:
    """Add Gaussian noise of `sigma` grey levels to every value."""
    pixels = np.asarray(picture, dtype=np.float64)
    pixels = np.rint(pixels + draw.normal(0, sigma, pixels.shape))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
