"""What can happen to a picture between its making and a detector, as functions of Pillow images.

`benchmarks.perturb` lays them on test images, `deepfd.treatment` on training images.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

# Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)

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


def moved(
    picture: Image.Image,
    draw: np.random.Generator,
    angle: float,
    scale: float,
    stretch: tuple[float, float, float] = (0.0, 0.0, 0.0),
    by: tuple[float, float] = (0.0, 0.0),
) -> Image.Image:
    """Turn, enlarge, stretch and shift what is shown.

    What comes in from outside is mirrored, as far as one side of the picture; beyond it is black.

    Args:
        picture: of any size.
        draw: unused; every change takes one.
        angle: of the turn, in radians.
        scale: how much it is enlarged, above 0.
        stretch: log of the factor by which width shrinks and height grows; two shears.
        by: shift in pixels, right and down.
    """
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    around = [(height, height), (width, width), (0, 0)][: pixels.ndim]
    wide = Image.fromarray(np.pad(pixels, around, mode="symmetric"))
    ratio = np.exp(stretch[0])
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    where = np.array(turn) @ [[ratio, stretch[1]], [stretch[2], 1 / ratio]] / scale
    half = np.array([width, height]) / 2
    start = 3 * half - by - where @ half
    data = (*where[0], start[0], *where[1], start[1])
    return wide.transform(picture.size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)


def toned(
    picture: Image.Image,
    draw: np.random.Generator,
    gamma: float,
    gain: float,
    contrast: float,
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
    hue: float = 0.0,
    saturation: float = 1.0,
) -> Image.Image:
    """Change light and colours, as another camera, lamp or developing would.

    Args:
        picture: grey or RGB.
        draw: unused; every change takes one.
        gamma: exponent of values in [0, 1].
        gain: factor of what comes out of it.
        contrast: factor of the distance of every value from the picture's mean.
        tint: factor of each colour component.
        hue: angle in radians by which colours turn about grey.
        saturation: factor of the distance of every colour from its grey.
    """
    values = np.asarray(picture, dtype=np.float32) / 255
    values = values**gamma * gain
    mean = values.mean()
    values = (values - mean) * contrast + mean
    if values.ndim == 3:
        values = values * np.float32(tint)
        luma = (values @ np.float32(LUMA))[..., None]
        colour, grey = values - luma, np.full(3, 1 / np.sqrt(3))
        turn = np.cos(hue) * np.eye(3) + np.sin(hue) * np.cross(np.eye(3), -grey)
        values = luma + colour @ np.float32(turn) * saturation
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def noisy(picture: Image.Image, draw: np.random.Generator, sigma: float) -> Image.Image:
    """Add Gaussian noise of `sigma` grey levels to every value."""
    pixels = np.asarray(picture, dtype=np.float64)
    pixels = np.rint(pixels + draw.normal(0, sigma, pixels.shape))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
