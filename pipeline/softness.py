"""How photographs come to be soft: small once and enlarged, coded in between, or out of focus.

`deepfd.treatment` lays it on training pictures, `generators.train` on the photographs of a
generator whose faces are to be soft by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from pipeline.changes import Change, blurred, coded

FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
ENLARGING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
QUALITIES = (60, 97)
# Share that is blurred, and by how many pixels; small sides, enlarged ones, as shares of the
# picture's; qualities of a small picture's JPEG; share of those steps that end in a JPEG.
BLURRED, SIGMAS = 0.25, (0.4, 1.6)
SMALL, LARGE, SMALL_QUALITIES, CODED = (0.4, 0.9), (1.0, 2.5), (25, 96), 0.6


def pick(draw: np.random.Generator, filters: Sequence[Image.Resampling]) -> Image.Resampling:
    """Draw one of `filters`."""
    return filters[int(draw.integers(len(filters)))]


def jpeg(draw: np.random.Generator, qualities: tuple[int, int] = QUALITIES) -> Change:
    """Draw a JPEG of a quality in `qualities`, the upper one left out."""
    return partial(coded, kind="JPEG", quality=int(draw.integers(*qualities)))


def _was_small(
    picture: Image.Image, draw: np.random.Generator, steps: Sequence[Change]
) -> Image.Image:
    """Take the steps of a picture that was small, was enlarged, and is brought to its size now."""
    size = picture.size
    for step in steps:
        picture = step(picture, draw)
    return picture if picture.size == size else picture.resize(size, pick(draw, FILTERS))


def _scaled(
    picture: Image.Image, draw: np.random.Generator, factor: float, way: Image.Resampling
) -> Image.Image:
    return picture.resize([max(8, round(side * factor)) for side in picture.size], way)


def soft(draw: np.random.Generator) -> Change:
    """Draw a way to be soft: three in four were small once, the others are out of focus."""
    if draw.random() < BLURRED:
        return partial(blurred, sigma=draw.uniform(*SIGMAS))
    small = draw.uniform(*SMALL)
    steps: list[Change] = [partial(_scaled, factor=small, way=pick(draw, FILTERS))]
    if draw.random() < CODED:
        steps.append(jpeg(draw, SMALL_QUALITIES))
    large = draw.uniform(*LARGE) if draw.random() < CODED else 1.0
    steps.append(partial(_scaled, factor=large / small, way=pick(draw, ENLARGING)))
    if large > 1 and draw.random() < CODED:
        steps.append(jpeg(draw))
    return partial(_was_small, steps=steps)
