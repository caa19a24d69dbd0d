"""Which fakes of the training a picture is nearest to, by the detector's own feature."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepfd.hub import READS, trained_on
from deepfd.predict import Predictor
from pipeline import images, manifest
from pipeline.errors import UserError
from pipeline.folds import MANIFESTS, ids_digest
from pipeline.manifest import is_real


@dataclass(frozen=True)
class Neighbour:
    """A generated training picture.

    Attributes:
        generator: what made it.
        image_id: its name in the manifest.
        distance: of its feature from the picture's, Euclidean, at least 0.
        pixels: uint8 (size, size, C).
    """

    generator: str
    image_id: str
    distance: float
    pixels: np.ndarray


def _train_ids(path: Path) -> np.ndarray:
    rows = manifest.read(path, ["image_id", "split"])
    return rows[rows["split"] == "train"]["image_id"].to_numpy()


def _fitted(folder: Path) -> str | None:
    """Return the digest of the images that a model was fitted on."""
    return json.loads((folder / READS).read_text())["fit"].get("digest")


class Neighbours:
    """The fakes a detector was trained on, by their features; photographs are not among them.

    Args:
        predictor: a fitted detector with its folder, whose `reads.json` says what it was fitted on.
        folder: the manifests of the run that fitted it.

    Raises:
        UserError: they are not here, or other pictures are.
    """

    def __init__(self, predictor: Predictor, folder: Path = MANIFESTS) -> None:
        counts = {one["source"]: one["images"] for one in trained_on(predictor.folder)}
        if not counts:
            raise UserError(f"{predictor.name} has no record of what it was trained on")
        paths = {name: folder / name.replace(":", "_") for name in counts}
        if missing := [name for name, path in paths.items() if not path.is_dir()]:
            raise UserError(
                f"the pictures that {predictor.name} was trained on do not lie in this folder "
                f"({missing[0]}: no {paths[missing[0]]}); after make benchmark they do"
            )
        # Images are only ever added behind those that there are.
        ids = {name: _train_ids(path)[: counts[name]] for name, path in paths.items()}
        if ids_digest(np.concatenate(list(ids.values()))) != _fitted(predictor.folder):
            raise UserError(
                f"the pictures in {folder} are not those that {predictor.name} was trained on; "
                "after dvc repro they are"
            )
        self.detector = predictor.detector
        self._rows: list[tuple[str, str, bytes]] = []
        found = []
        # A part at a time, and kept as coded: decoded, all of them may not fit into memory.
        for name in paths:
            if is_real(name):
                continue
            for part in manifest.parts(paths[name]):
                frame = part.select(["image", "image_id"]).to_pandas()
                frame = frame[frame["image_id"].isin(ids[name])]
                if len(frame):
                    found.append(self.detector.features(manifest.pixels(frame)))
                    coded = (cell["bytes"] for cell in frame["image"])
                    self._rows += zip([name] * len(frame), frame["image_id"], coded, strict=True)
        self._features = np.concatenate(found)

    def nearest(self, pixels: np.ndarray, count: int = 8) -> list[Neighbour]:
        """Return the nearest first.

        Args:
            pixels: uint8 (size, size, C), what was judged (`deepfd.predict.Item.pixels`).
            count: how many at most.
        """
        distances = np.linalg.norm(self._features - self.detector.features(pixels[None]), axis=1)
        return [
            Neighbour(
                *self._rows[at][:2], float(distances[at]), images.decode_png(self._rows[at][2])
            )
            for at in np.argsort(distances, kind="stable")[:count]
        ]
