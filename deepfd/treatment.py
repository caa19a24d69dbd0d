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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from deepfd.options import Treatment
from pipeline.changes import Change, blurred, moved, resized, sharpened, toned, zoomed
from pipeline.folds import Images
from pipeline.forked import split
from pipeline.images import Jpeg, finished, to_pil
from pipeline.seeds import seed_for
from pipeline.softness import ENLARGING, FILTERS, jpeg, pick, soft

# Shares of the pictures of the ordinary branch that are resized, blurred, sharpened; and how much.
RESIZED, BLURRED, SHARPENED = 0.3, 0.2, 0.2
FACTORS, SIGMAS = (0.625, 1.5625), (0.2, 0.9)
# Side of the part of a photograph that is enlarged, of the whole; where in the free room it lies;
# share of such photographs that meet nothing else.
PART, PLACE, ALONE = (0.45, 0.95), (0.2, 0.8), 0.5

# Pictures that are worth a process.
MANY = 256

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

    def plan_of(place: int, draw: np.random.Generator) -> list[Change]:
        return plan(options, draw, images.labels[place] == 0)

    found = _changed(images, new, plan_of, ("treatment", copy), finish)
    _made.update(zip((keys[place] for place in new), found, strict=True))
    return np.stack([_made[key] for key in keys]) if keys else images.pixels.copy()


def forget() -> None:
    """Let go of the copies that were made: what still needs one makes it again."""
    _made.clear()


@dataclass(frozen=True)
class Variation:
    """How far what a picture shows is varied; each value is drawn evenly.

    Attributes:
        turn: degrees, to either side.
        scale: how much it is enlarged, evenly in its log.
        stretch: log of the factor of a side, and shears, to either side.
        hue: radians by which colours turn, to either side.
        grey: share of pictures that lose their colours.
    """

    turn: float
    scale: tuple[float, float]
    stretch: float
    hue: float = 0.0
    grey: float = 0.0


# Fakes as another collection's photographs would be framed; photographs as far as photographs go.
FAKES = Variation(15.0, (0.85, 1.35), 0.05)
PHOTOGRAPHS = Variation(60.0, (0.8, 3.2), 0.3, hue=0.4, grey=0.1)
# Shift to either side, in 64ths of the side; ranges of log gamma, gain, log contrast, tint and log
# saturation.
SHIFT, GAMMA, GAIN, CONTRAST = 5.0, (-0.6, 0.9), (0.5, 1.1), (-0.4, 0.35)
TINT, SATURATION = (0.88, 1.12), (-0.9, 0.4)


def variation(how: Variation, draw: np.random.Generator, side: int) -> list[Change]:
    """Draw how what one picture shows is varied: framing, then light and colours."""
    shift = SHIFT * side / 64
    move = partial(
        moved,
        angle=np.deg2rad(draw.uniform(-how.turn, how.turn)),
        scale=np.exp(draw.uniform(*np.log(how.scale))),
        stretch=tuple(draw.uniform(-how.stretch, how.stretch, 3)),
        by=tuple(draw.uniform(-shift, shift, 2)),
    )
    tone = partial(
        toned,
        gamma=np.exp(draw.uniform(*GAMMA)),
        gain=draw.uniform(*GAIN),
        contrast=np.exp(draw.uniform(*CONTRAST)),
        tint=tuple(draw.uniform(*TINT, 3)),
        hue=draw.uniform(-how.hue, how.hue),
        saturation=0.0 if draw.random() < how.grey else np.exp(draw.uniform(*SATURATION)),
    )
    turned = [lambda picture, _: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    return [move, *(turned if draw.random() < 0.5 else []), tone]


def varied(images: Images, finish: Jpeg | None = None, copy: int = 0) -> np.ndarray:
    """Vary what each picture shows, as if another collection had been photographed or drawn.

    A frozen network that knows what is seen (`deepfd.backbone`) would else learn what seen fakes
    show: the framing, light and colours of the collection that their generators were trained on.
    Photographs are varied further than fakes: what is new is to speak for a photograph.

    Args:
        images: N pictures of side S.
        finish: the last step to pixels, which every picture of the profile meets.
        copy: number of the copy, 0 ...

    Returns:
        uint8 (N, S, S, C); each depends on its id, its class and the number of the copy alone.
    """
    side = images.pixels.shape[1]

    def plan_of(place: int, draw: np.random.Generator) -> list[Change]:
        return variation(FAKES if images.labels[place] else PHOTOGRAPHS, draw, side)

    found = _changed(images, list(range(len(images))), plan_of, ("variation", copy), finish)
    return np.stack(found) if found else images.pixels.copy()


def _changed(
    images: Images,
    places: list[int],
    plan_of: Callable[[int, np.random.Generator], list[Change]],
    purpose: tuple[str, int],
    finish: Jpeg | None,
) -> list[np.ndarray]:
    """Lay on the pictures at `places` what `plan_of` draws for each, then the finish."""
    name, copy = purpose

    def one(place: int) -> np.ndarray:
        draw = np.random.default_rng(seed_for(copy, name, str(images.ids[place])))
        picture = to_pil(images.pixels[place])
        for change in plan_of(place, draw):
            picture = change(picture, draw)
        pixels = np.asarray(picture, dtype=np.uint8).reshape(images.pixels.shape[1:])
        return finished(pixels, finish)

    def some(start: int, stop: int) -> list[np.ndarray]:
        return [one(place) for place in places[start:stop]]

    # By processes: most of it holds the interpreter, so that a second thread gains nothing.
    return [made for part in split(some, len(places), MANY) for made in part]
