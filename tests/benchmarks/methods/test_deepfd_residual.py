from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.components import COMPONENTS, components, residual
from benchmarks.methods.deepfd_residual import DeepFDResidual, ResidualNetwork, planes, residuals
from deepfd.detector import initialised
from pipeline.errors import UserError
from pipeline.images import to_unit
from pipeline.params import DeepFDResidual as Options


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)


def test_planes_are_the_components_of_the_colour_study_but_for_their_rounding(pixels):
    x = torch.from_numpy(to_unit(pixels))
    found = planes(x, COMPONENTS)
    expected = np.stack(list(components(pixels).values()), axis=1).astype(float)
    # Half up, hence just over a half where float32 meets a tie.
    assert np.abs(found.numpy() - expected).max() <= 0.5 + 1e-3


def test_grey_pictures_have_y_alone():
    x = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    assert torch.equal(planes(x, ["Y"]), (x + 1) / 2 * 255)
    with pytest.raises(UserError, match=r"H, S and the pictures are grey; set `components: \[Y\]`"):
        ResidualNetwork(1, 32, 8, components=("H", "S"))


def test_residuals_are_those_of_the_colour_study_clipped_at_the_reach(pixels):
    found = residuals(torch.from_numpy(pixels[..., 0].astype(np.float32))[:, None], reach=8.0)
    for number, direction in enumerate(("right", "down")):
        expected = np.clip(residual(pixels[..., 0], direction), -8, 8) / 8
        np.testing.assert_allclose(found[:, number, 1:-1, 1:-1].numpy(), expected)
    assert not found[:, 0, :, -1].any() and not found[:, 1, -1].any()


def test_a_change_of_brightness_does_not_move_the_score():
    network = initialised(3, 32, 8, 0, ResidualNetwork, components=("Y", "Cb")).eval()
    x = torch.rand(2, 3, 32, 32) - 0.5
    torch.testing.assert_close(network(x)[0], network(x + 0.1)[0], atol=1e-3, rtol=1e-3)


def test_components_and_reach_are_kept_with_the_weights(small_profile, tmp_path):
    from pipeline import folds

    profile, folder = small_profile(channels=3)
    fold = folds.load(profile, folder).fold("c")
    options = Options(
        method="deepfd_residual", components=("Cb", "Cr"), reach=4, width=8, contrastive_steps=1,
        classifier_steps=1, batch=8, lr=0.001,
    )  # fmt: skip
    model = DeepFDResidual.fit(fold.train, fold.valid, options, seed=0)
    model.save(tmp_path)
    loaded = DeepFDResidual.load(tmp_path)
    assert loaded.network.config["components"] == ["Cb", "Cr"]
    assert loaded.network.config["reach"] == 4
    assert loaded.network.d1.stem.in_channels == 4
    np.testing.assert_array_equal(loaded.score(fold.test.pixels), model.score(fold.test.pixels))
