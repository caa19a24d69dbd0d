"""Random treatment of training pictures, so that no treatment is taken for a sign of a fake.

A detector that saw sharp photographs of one collection and the fakes of young generators takes
softness, JPEG and resampling for signs of a fake, and calls photographs of another origin fake. So
copies of the training pictures of *both* classes are resized, blurred, sharpened and coded at
random, whatever their class. Two steps are not the same for both unless it is asked for: by default
only photographs are made soft, as those are that were small, enlarged and compressed, and only of
photographs a part is cut out and enlarged (`deepfd.options.Treatment`). The draw of a copy depends
on the image's id, its class and the number of the copy alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from deepfd.options import Treatment
from pipeline import cores
from pipeline.changes import Change, blurred, resized, sharpened, zoomed
from pipeline.folds import Images
from pipeline.images import Jpeg, finished, to_pil
from pipeline.seeds import seed_for
from pipeline.softness import ENLARGING, FILTERS, jpeg, pick, soft

# Shares of the pictures of the ordinary branch that are resized, blurred, sharpened; and how much.
RESIZED, BLURRED, SHARPENED = 0.3, 0.2, 0.2
FACTORS, SIGMAS = (0.625, 1.5625), (0.2, 0.9)
# Side of the part of a photograph that is enlarged, of the whole; where in the free room it lies;
# share of such photographs that meet nothing else.
PART, PLACE, ALONE = (0.45, 0.95), (0.2, 0.8), 0.5

# Copies are the same in every fold and for every seed of a run: made once, by image id.
_made: dict[tuple[Treatment, int, Jpeg | None, str], np.ndarray] = {}


def plan(options: Treatment, draw: np.random.Generator, photograph: bool) -> list[Change]:
    """Draw what happens to one picture, in order."""
    changes: list[Change] = []
    # Not drawn for where it cannot happen, so that treatments without it stay what they were.
    if photograph and options.zoom and draw.random() < options.zoom:
        part, at = draw.uniform(*PART), (draw.uniform(*PLACE), draw.uniform(*PLACE))
        changes.append(partial(zoomed, part=part, at=at, way=pick(draw, ENLARGING)))
        if draw.random() < ALONE:
            return changes
    chance = options.soft
    if photograph and options.soft_photographs is not None:
        chance = options.soft_photographs
    if draw.random() < chance:
        changes.append(soft(draw))
    else:
        if draw.random() < RESIZED:
            down, up = pick(draw, FILTERS), pick(draw, FILTERS)
            factor = draw.uniform(*FACTORS)
            changes.append(partial(resized, factor=factor, down=down, up=up))
        if draw.random() < BLURRED:
            changes.append(partial(blurred, sigma=draw.uniform(*SIGMAS)))
    if draw.random() < SHARPENED:
        changes.append(partial(sharpened, percent=int(draw.integers(20, 150))))
    if draw.random() < options.jpeg:
        changes.append(jpeg(draw))
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


def forget() -> None:
    """Let go of the copies that were made: what still needs one makes it again."""
    _made.clear()
