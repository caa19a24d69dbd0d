"""Random treatment of training pictures: photographs and fakes meet the same, whatever their class.

A detector that saw sharp photographs of one collection and the fakes of young generators takes
softness, JPEG and resampling for signs of a fake, and calls photographs of another origin fake. So
copies of the training pictures of *both* classes are resized, blurred, sharpened and coded at
random; a part of them is made soft, as photographs are that were small, enlarged and compressed.
The draw of a copy depends on the image's id and the number of the copy alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image

from deepfd.options import Treatment
from pipeline.changes import Change, blurred, coded, resized, sharpened
from pipeline.images import Jpeg, finished, to_pil
from pipeline.seeds import seed_for

FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
ENLARGING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
# Shares of the pictures of the ordinary branch that are resized, blurred, sharpened.
RESIZED, BLURRED, SHARPENED = 0.3, 0.2, 0.2
SOFT_FACTORS, FACTORS = (0.4, 0.8), (0.625, 1.5625)
QUALITIES = (60, 97)

# Copies are the same in every fold and for every seed of a run: made once, by image id.
_made: dict[tuple[Treatment, int, Jpeg | None, str], np.ndarray] = {}


def _pick(draw: np.random.Generator, filters: Sequence[Image.Resampling]) -> Image.Resampling:
    return filters[int(draw.integers(len(filters)))]


def _jpeg(draw: np.random.Generator) -> Change:
    return partial(coded, kind="JPEG", quality=int(draw.integers(*QUALITIES)))


def _small(
    picture: Image.Image, draw: np.random.Generator, factor: float, down: Image.Resampling,
    up: Image.Resampling, quality: int | None,
) -> Image.Image:  # fmt: skip
    """Shrink, code where `quality` says so, and enlarge again."""
    other = picture.resize([max(8, round(side * factor)) for side in picture.size], down)
    if quality is not None:
        other = coded(other, draw, "JPEG", quality)
    return other.resize(picture.size, up)


def plan(options: Treatment, draw: np.random.Generator) -> list[Change]:
    """Draw what happens to one picture, in order."""
    changes: list[Change] = []
    if draw.random() < options.soft:
        if draw.random() < 0.6:
            quality = int(draw.integers(*QUALITIES)) if draw.random() < 0.5 else None
            changes.append(
                partial(
                    _small, factor=draw.uniform(*SOFT_FACTORS), down=_pick(draw, FILTERS),
                    up=_pick(draw, ENLARGING), quality=quality,
                )
            )  # fmt: skip
        else:
            changes.append(partial(blurred, sigma=draw.uniform(0.5, 1.6)))
    else:
        if draw.random() < RESIZED:
            down, up = _pick(draw, FILTERS), _pick(draw, FILTERS)
            factor = draw.uniform(*FACTORS)
            changes.append(partial(resized, factor=factor, down=down, up=up))
        if draw.random() < BLURRED:
            changes.append(partial(blurred, sigma=draw.uniform(0.2, 0.9)))
    if draw.random() < SHARPENED:
        changes.append(partial(sharpened, percent=int(draw.integers(20, 150))))
    if draw.random() < options.jpeg:
        changes.append(_jpeg(draw))
    return changes


def treated(
    pixels: np.ndarray, ids: Sequence[str], options: Treatment, copy: int,
    finish: Jpeg | None = None,
) -> np.ndarray:  # fmt: skip
    """Treat one copy of each picture.

    Args:
        pixels: uint8 (N, S, S, C).
        ids: image ids (N,).
        options: what may happen.
        copy: number of the copy, 0 ...
        finish: the last step to pixels, which every picture of the profile meets.

    Returns:
        uint8 (N, S, S, C).
    """
    keys = [(options, copy, finish, str(one)) for one in ids]
    new = [place for place, key in enumerate(keys) if key not in _made]

    def one(place: int) -> np.ndarray:
        draw = np.random.default_rng(seed_for(copy, "treatment", str(ids[place])))
        picture = to_pil(pixels[place])
        for change in plan(options, draw):
            picture = change(picture, draw)
        return finished(np.asarray(picture, dtype=np.uint8).reshape(pixels.shape[1:]), finish)

    # Pillow frees the interpreter; the order of the threads decides nothing.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(one, new, chunksize=64)
        _made.update(zip((keys[place] for place in new), found, strict=True))
    return np.stack([_made[key] for key in keys]) if keys else pixels.copy()
