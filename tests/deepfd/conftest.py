import json

import numpy as np
import pytest
from PIL import Image

from deepfd import calibrate, refit, treatment
from deepfd.detector import Detector, Network

FRAMING = (0.1, 0.19, 0.94, 1.03)


@pytest.fixture(autouse=True)
def no_pictures_of_another_test():
    """Pictures planted by two tests have the same ids."""
    treatment._made.clear()
    refit._shown.clear()


def write_model(
    folder, channels=1, size=32, threshold=None, calibration=None, about=None, finish=None
):
    network = Network(channels, size, body={"kind": "paper", "width": 6}, seed=0)
    detector = Detector(network, about, finish=finish)
    detector.save(folder)
    if threshold is not None:
        facts = {"rule": "fpr", "target": 0.05, "threshold": threshold}
        if calibration:
            facts["calibration"] = calibration
        (folder / "threshold.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def make_model(tmp_path):
    def make(name="model", **kinds):
        return write_model(tmp_path / name, **kinds)

    return make


@pytest.fixture
def make_photo(tmp_path):
    """Write a picture of smooth noise, unlike any other of another seed."""

    def make(name="photo.jpg", size=(40, 50), channels=3, seed=0, **options):
        draw = np.random.default_rng(seed)
        values = draw.integers(0, 256, (size[1], size[0], channels)).astype(np.uint8)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values[..., 0] if channels == 1 else values).save(path, **options)
        return path

    return make


@pytest.fixture
def calibration():
    draw = np.random.default_rng(0)
    labels = np.arange(400) % 2
    scores = 1 / (1 + np.exp(-(3 * (labels * 2 - 1) + 4 * draw.normal(size=400))))
    return calibrate.fit(scores, labels)
