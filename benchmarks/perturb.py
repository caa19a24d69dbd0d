"""Test-time perturbations: what happens to pictures between their making and a detector.

Each is applied to photographs and fakes alike, by Pillow, on the pixels that a detector is given.
What is random in one is drawn from a seed of its own per perturbation and image, so that an image
is perturbed in the same way whatever the others, their order or the detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageFilter

from pipeline.changes import Change, blurred, coded, noisy, resized
from pipeline.errors import UserError
from pipeline.images import to_pil
from pipeline.params import NONE
from pipeline.seeds import seed_for


def _social(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Imitate an upload that is shared on: resized and coded, then shown smaller and coded again.

    Upload: a factor of 0.7 to 1 and JPEG 70 to 90. Shared on: sharpened a little, as networks do
    when they shrink, and JPEG 60 to 85.
    """
    picture = resized(picture, draw, draw.uniform(0.7, 1.0))
    picture = coded(picture, draw, "JPEG", int(draw.integers(70, 91)))
    picture = picture.filter(ImageFilter.UnsharpMask(radius=1, percent=30, threshold=0))
    return coded(picture, draw, "JPEG", int(draw.integers(60, 86)))


# A new one is a line here and a name in `pipeline.params.Perturbation`.
PERTURBATIONS: dict[str, Change] = {
    "jpeg95": partial(coded, kind="JPEG", quality=95),
    "jpeg75": partial(coded, kind="JPEG", quality=75),
    "jpeg50": partial(coded, kind="JPEG", quality=50),
    "webp75": partial(coded, kind="WEBP", quality=75),
    "blur": partial(blurred, sigma=1.0),
    "resize": partial(resized, factor=0.5),
    "noise": partial(noisy, sigma=5.0),
    "social": _social,
}


def perturb(name: str, pixels: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Perturb images.

    Args:
        name: a key of `PERTURBATIONS`, or `none`, which returns `pixels` themselves.
        pixels: uint8 (N, H, W, 1 or 3).
        ids: the image ids (N,), which seed what is random.

    Returns:
        uint8 of the same shape.

    >>> faces = np.full((1, 64, 64, 3), 128, np.uint8)
    >>> perturb("noise", faces, ["a"]).shape, perturb("none", faces, ["a"]) is faces
    ((1, 64, 64, 3), True)

    Raises:
        UserError: no such perturbation.
    """
    if name == NONE:
        return pixels
    if name not in PERTURBATIONS:
        names = ", ".join([NONE, *PERTURBATIONS])
        raise UserError(f"perturbation {name!r} is unknown; expected one of {names}")
    changed = np.empty_like(pixels)
    for index, image_id in enumerate(ids):
        draw = np.random.default_rng(seed_for(0, "perturb", name, str(image_id)))
        picture = PERTURBATIONS[name](to_pil(pixels[index]), draw)
        changed[index] = np.asarray(picture, dtype=np.uint8).reshape(pixels.shape[1:])
    return changed
