"""From pictures to verdicts, in Python: `deepfd.load().predict(pictures)`.

A `Predictor` is a fitted detector with what a verdict needs beside its score: the threshold and the
rule that set it, the calibration of P(fake), and how faces were framed in training. Its folder
holds `model.safetensors`, `model.json` and `threshold.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from PIL import Image

from deepfd import calibrate, pictures
from deepfd.detector import Detector, Picture
from deepfd.hub import OnHub
from deepfd.pictures import Opened, View
from pipeline.errors import UserError

THRESHOLD = "threshold.json"
EVEN_ODDS = 0.5
BATCH = 256

Verdict = Literal["fake", "no sign"]


@dataclass(frozen=True)
class Threshold:
    """When a picture is called fake.

    Attributes:
        score: the detector's own score from which on it is.
        rule: in words.
        calibration: `a` and `b` of `deepfd.calibrate`, None where the model has none.
    """

    score: float = EVEN_ODDS
    rule: str = "even odds; this model has no threshold of its own"
    calibration: dict[str, float] | None = None

    @property
    def probability(self) -> float:
        """The threshold as a calibrated P(fake): the same decision."""
        return float(calibrate.apply(np.array(self.score), self.calibration))

    @classmethod
    def read(cls, folder: Path) -> Threshold:
        """Read `threshold.json` of a model's folder; without one it is even odds.

        Raises:
            UserError: the file is there but cannot be read.
        """
        path = folder / THRESHOLD
        if not path.exists():
            return cls()
        try:
            found = json.loads(path.read_text())
            rule, target = str(found["rule"]), float(found["target"])
            calibration = found.get("calibration")
            if calibration is not None:
                calibration = {name: float(calibration[name]) for name in ("a", "b")}
            return cls(float(found["threshold"]), f"{rule} <= {target:g}", calibration)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is not a threshold ({type(error).__name__}: {error}); expected rule, "
                "target, threshold and calibration: run the fit stage again"
            ) from None


@dataclass(frozen=True)
class Face:
    """One judged part of a picture.

    Attributes:
        box: left, upper, right, lower in the picture's pixels.
        probability: calibrated P(fake) of it, in [0, 1].
        score: the detector's own score, in [0, 1].
    """

    box: tuple[int, int, int, int]
    probability: float
    score: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a detector says of one picture.

    Of several faces the most suspicious one decides, and the figures are its own.

    Attributes:
        probability: calibrated P(fake), in [0, 1], where one picture in two is a fake.
        threshold: P(fake) from which a picture is called fake.
        verdict: `fake`, or `no sign` of one (which is not "a photograph").
        map: float32 (size, size), what each place of the judged part says for "fake" (above 0) or
            against it, in log-odds from the threshold: its mean is 0 or more where the verdict is
            `fake`; None if it was not asked for.
        rule: the rule behind the threshold.
        score: the detector's own score, which the matrix is made of.
        how: what was judged: the `whole` picture, a `face` in it, or the training `crop` of it.
        box: that part, (left, upper, right, lower) in the picture's pixels.
        faces: every part that was judged.
        notes: what else was done to the picture.
    """

    probability: float
    threshold: float
    verdict: Verdict
    map: np.ndarray | None = field(repr=False)
    rule: str
    score: float
    how: str
    box: tuple[int, int, int, int]
    faces: tuple[Face, ...]
    notes: tuple[str, ...]

    @property
    def fake(self) -> bool:
        """Whether the picture is called fake."""
        return self.verdict == "fake"


@dataclass
class Item:
    """A picture ready to be judged; the decoded picture itself is no longer held.

    Attributes:
        size: width and height of the picture.
        format: of the file, None where the picture came decoded.
        mode: Pillow's name of its pixel format.
        notes: what was done to it.
        views: the parts to judge.
        pixels: these, uint8 (views, size, size, C).
    """

    size: tuple[int, int]
    format: str | None
    mode: str
    notes: list[str]
    views: list[View]
    pixels: np.ndarray


class Predictor(OnHub):
    """A fitted detector that says "fake" or not.

    Attributes:
        detector: scores pixels.
        threshold: when a picture is called fake.
        name: what the model is called in records: its folder or shipped name.
        folder: where it was read from, None for one made in memory.
    """

    def __init__(
        self,
        detector: Detector,
        threshold: Threshold | None = None,
        name: str = "",
        folder: Path | None = None,
    ) -> None:
        self.detector = detector
        self.threshold = threshold or Threshold()
        self.name = name
        self.folder = folder

    @classmethod
    def load(cls, folder: str | Path, name: str = "") -> Predictor:
        """Read a fitted detector's folder.

        Raises:
            UserError: a file is missing, damaged or of another format.
        """
        folder = Path(folder)
        threshold = Threshold.read(folder)
        return cls(Detector.load(folder), threshold, name or folder.as_posix(), folder)

    def prepare(self, picture: Picture | Opened, find_faces: bool = True) -> Item:
        """Open one picture and choose what of it is judged.

        Raises:
            UserError: it cannot be read.
        """
        if isinstance(picture, str | Path):
            opened = pictures.read(Path(picture))
        elif isinstance(picture, Opened):
            opened = picture
        else:
            if not isinstance(picture, Image.Image):
                _is_one(picture)  # neither an array nor a tensor: it says so
            opened = Opened(self.detector.open(picture))
        size, channels = self.detector.size, self.detector.channels
        if channels == 1 and not opened.is_grey:
            opened.notes.append("in colour: judged in grey, as the model reads it")
        framing = self.detector.about.get("framing")
        chosen = pictures.views(opened, size, self.detector.crop, framing, find_faces)
        pixels = pictures.pixels(opened, chosen, size, channels, self.detector.finish)
        image = opened.image
        return Item(image.size, opened.format, image.mode, opened.notes, chosen, pixels)

    def judge(self, items: Sequence[Item], maps: bool = False) -> list[Prediction]:
        """Score prepared pictures together, in one batch of pixels.

        Args:
            items: what `prepare` returned.
            maps: make the maps too.
        """
        if not items:
            return []
        scores = self.detector.score(np.concatenate([item.pixels for item in items]))
        probabilities = calibrate.apply(scores, self.threshold.calibration)
        parts, start = [], 0
        for item in items:
            parts.append(range(start, start + len(item.views)))
            start += len(item.views)
        worst = [max(part, key=lambda place: scores[place]) for part in parts]
        heat: Sequence[np.ndarray | None] = [None] * len(items)
        if maps:
            from deepfd.localise import heat_maps

            shown = [
                item.pixels[at - part.start]
                for item, part, at in zip(items, parts, worst, strict=True)
            ]
            limit = calibrate.logits(np.array(self.threshold.score)).astype(np.float32)
            heat = heat_maps(self.detector, np.stack(shown)) - limit
        return [
            Prediction(
                probability=float(probabilities[at]),
                threshold=self.threshold.probability,
                # By the scores: calibrated, two of them could round to one.
                verdict="fake" if scores[at] >= self.threshold.score else "no sign",
                map=one,
                rule=self.threshold.rule,
                score=float(scores[at]),
                how=item.views[at - part.start].how,
                box=item.views[at - part.start].box,
                faces=tuple(
                    Face(view.box, float(probabilities[i]), float(scores[i]))
                    for view, i in zip(item.views, part, strict=True)
                ),
                notes=tuple(item.notes),
            )
            for item, part, at, one in zip(items, parts, worst, heat, strict=True)
        ]

    @overload
    def predict(
        self, images: str | Path | Image.Image, *, maps: bool = True, find_faces: bool = True
    ) -> Prediction: ...
    @overload
    def predict(
        self, images: Picture | Sequence[Picture], *, maps: bool = True, find_faces: bool = True
    ) -> Prediction | list[Prediction]: ...
    def predict(
        self, images: Picture | Sequence[Picture], *, maps: bool = True, find_faces: bool = True
    ) -> Prediction | list[Prediction]:
        """Say of one or many pictures whether they look fake.

        Args:
            images: a path, a Pillow image, a uint8 array (H, W) or (H, W, 1 or 3), or a tensor
                (C, H, W) of uint8 or of floats in [-1, 1]; or several: a sequence of these, an
                array (N, H, W, C), a tensor (N, C, H, W).
            maps: make the maps too, which doubles the time.
            find_faces: look for faces in what is larger than the detector's pictures.

        Returns:
            One prediction for one picture, a list for several.

        Raises:
            UserError: a picture cannot be read. (To go on with the others, call it one by one, or
                use `deepfd detect`.)
        """
        one = isinstance(images, str | Path | Image.Image) or (
            not isinstance(images, Sequence) and _is_one(images)
        )
        several = [images] if one else images
        found: list[Prediction] = []
        prepared = ((item, len(item.views)) for item in (
            self.prepare(picture, find_faces) for picture in several
        ))  # fmt: skip
        for group in pictures.batched(prepared, BATCH):
            found += self.judge(group, maps)
        return found[0] if one else found


def _is_one(array: Any) -> bool:
    """Whether an array or tensor is one picture and not a batch.

    Raises:
        UserError: it is neither an array nor a tensor.
    """
    if not hasattr(array, "ndim"):
        raise UserError(
            f"a {type(array).__name__} is no picture; expected a path, a Pillow image, an array, a "
            "tensor, or a sequence of these"
        )
    return array.ndim < 4
