"""Random treatment of training pictures, so that no treatment is taken for a sign of a fake.

A detector that saw sharp photographs of one collection and the fakes of young generators takes
softness, JPEG and resampling for signs of a fake, and calls photographs of another origin fake. So
copies of the training pictures of *both* classes are resized, blurred, sharpened and coded at
random, whatever their class. One step is not the same for both unless it is asked for: by default
only photographs are made soft, as those are that were small, enlarged and compressed
(`deepfd.options.Treatment`). The draw of a copy depends on the image's id, its class and the number
of the copy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image

from deepfd.options import Treatment
from pipeline import cores
from pipeline.changes import Change, blurred, coded, resized, sharpened
from pipeline.folds import Images
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
# Shares of the pictures of the ordinary branch that are resized, blurred, sharpened; and how much.
RESIZED, BLURRED, SHARPENED = 0.3, 0.2, 0.2
FACTORS, SIGMAS, QUALITIES = (0.625, 1.5625), (0.2, 0.9), (60, 97)
# The soft branch: share that is blurred; small sides, enlarged ones, as shares of the picture's;
# share of those steps that end in a JPEG.
BLURRED_SOFT, SOFT_SIGMAS = 0.25, (0.4, 1.6)
SOFT_FACTORS, LARGE_FACTORS, SMALL_QUALITIES, CODED = (0.4, 0.9), (1.0, 2.5), (25, 96), 0.6

# Copies are the same in every fold and for every seed of a run: made once, by image id.
_made: dict[tuple[Treatment, int, Jpeg | None, str], np.ndarray] = {}


def _pick(draw: np.random.Generator, filters: Sequence[Image.Resampling]) -> Image.Resampling:
    return filters[int(draw.integers(len(filters)))]


def _jpeg(draw: np.random.Generator, qualities: tuple[int, int] = QUALITIES) -> Change:
    return partial(coded, kind="JPEG", quality=int(draw.integers(*qualities)))


def _was_small(
    picture: Image.Image, draw: np.random.Generator, steps: Sequence[Change]
) -> Image.Image:
    """Take the steps of a picture that was small, was enlarged, and is brought to its size now."""
    size = picture.size
    for step in steps:
        picture = step(picture, draw)
    return picture if picture.size == size else picture.resize(size, _pick(draw, FILTERS))


def _scaled(
    picture: Image.Image, draw: np.random.Generator, factor: float, way: Image.Resampling
) -> Image.Image:
    return picture.resize([max(8, round(side * factor)) for side in picture.size], way)


def _soft(draw: np.random.Generator) -> Change:
    """Draw a way to be soft: three in four were small once, the others are out of focus."""
    if draw.random() < BLURRED_SOFT:
        return partial(blurred, sigma=draw.uniform(*SOFT_SIGMAS))
    small = draw.uniform(*SOFT_FACTORS)
    steps: list[Change] = [partial(_scaled, factor=small, way=_pick(draw, FILTERS))]
    if draw.random() < CODED:
        steps.append(_jpeg(draw, SMALL_QUALITIES))
    large = draw.uniform(*LARGE_FACTORS) if draw.random() < CODED else 1.0
    steps.append(partial(_scaled, factor=large / small, way=_pick(draw, ENLARGING)))
    if large > 1 and draw.random() < CODED:
        steps.append(_jpeg(draw))
    return partial(_was_small, steps=steps)


def plan(options: Treatment, draw: np.random.Generator, photograph: bool) -> list[Change]:
    """Draw what happens to one picture, in order."""
    changes: list[Change] = []
    soft = options.soft
    if photograph and options.soft_photographs is not None:
        soft = options.soft_photographs
    if draw.random() < soft:
        changes.append(_soft(draw))
    else:
        if draw.random() < RESIZED:
            down, up = _pick(draw, FILTERS), _pick(draw, FILTERS)
            factor = draw.uniform(*FACTORS)
            changes.append(partial(resized, factor=factor, down=down, up=up))
        if draw.random() < BLURRED:
            changes.append(partial(blurred, sigma=draw.uniform(*SIGMAS)))
    if draw.random() < SHARPENED:
        changes.append(partial(sharpened, percent=int(draw.integers(20, 150))))
    if draw.random() < options.jpeg:
        changes.append(_jpeg(draw))
    return changes


def treated(
    images: Images, options: Treatment, copy: int, finish: Jpeg | None = None
) -> np.ndarray:
    """Treat one copy of each picture.

    Args:
        images: N pictures of side S.
        options: what may happen.
        copy: number of the copy, 0 ...
        finish: the last step to pixels, which every picture of the profile meets.

    Returns:
        uint8 (N, S, S, C).
    """
    keys = [(options, copy, finish, str(one)) for one in images.ids]
    new = [place for place, key in enumerate(keys) if key not in _made]

    def one(place: int) -> np.ndarray:
        draw = np.random.default_rng(seed_for(copy, "treatment", str(images.ids[place])))
        picture = to_pil(images.pixels[place])
        for change in plan(options, draw, images.labels[place] == 0):
            picture = change(picture, draw)
        pixels = np.asarray(picture, dtype=np.uint8).reshape(images.pixels.shape[1:])
        return finished(pixels, finish)

    # Pillow frees the interpreter; the order of the threads decides nothing.
    with ThreadPoolExecutor(cores.available()) as pool:
        found = pool.map(one, new, chunksize=64)
        _made.update(zip((keys[place] for place in new), found, strict=True))
    return np.stack([_made[key] for key in keys]) if keys else images.pixels.copy()
