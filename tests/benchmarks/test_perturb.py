from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from PIL import features

from benchmarks.perturb import PERTURBATIONS, perturb
from pipeline.errors import UserError
from pipeline.params import NONE, Perturbation


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def pixels(request) -> np.ndarray:
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    base = 128 + 60 * np.sin(x / 5)[..., None] * np.cos(y / 4)[..., None]
    shape = (4, 32, 32, request.param)
    return np.clip(base + draw.normal(0, 8, shape), 0, 255).astype(np.uint8)


IDS = ["real-1", "real-2", "dcgan-1", "dcgan-2"]


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a.astype(float) - b) ** 2).mean()))


def test_params_name_exactly_the_registry():
    assert get_args(Perturbation) == (NONE, *PERTURBATIONS)


def test_none_changes_nothing(pixels):
    assert perturb(NONE, pixels, IDS) is pixels


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_changes_the_picture_a_little_and_keeps_shape_and_type(pixels, name):
    before = pixels.copy()
    changed = perturb(name, pixels, IDS)
    assert changed.shape == pixels.shape and changed.dtype == np.uint8
    assert 0.3 < rms(changed, pixels) < 30
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_an_image_is_perturbed_alike_alone_and_in_any_order(pixels, name):
    whole = perturb(name, pixels, IDS)
    turned = perturb(name, pixels[::-1], IDS[::-1])[::-1]
    np.testing.assert_array_equal(whole, turned)
    np.testing.assert_array_equal(whole[2:3], perturb(name, pixels[2:3], IDS[2:3]))


@pytest.mark.parametrize("name", ["noise", "social"])
def test_what_is_random_differs_from_image_to_image(pixels, name):
    same = np.repeat(pixels[:1], 4, axis=0)
    changed = perturb(name, same, IDS)
    assert len({one.tobytes() for one in changed}) == 4


def test_lower_jpeg_quality_moves_pictures_farther(pixels):
    moved = [rms(perturb(f"jpeg{q}", pixels, IDS), pixels) for q in (95, 75, 50)]
    assert moved == sorted(moved)


def test_noise_has_its_deviation():
    grey = np.full((4, 64, 64, 1), 128, np.uint8)
    assert perturb("noise", grey, IDS).std() == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("name", ["blur", "resize"])
def test_blur_and_resize_take_away_fine_detail_only(pixels, name):
    def detail(p: np.ndarray) -> float:
        return float(np.abs(np.diff(p.astype(float), axis=2)).mean())

    changed = perturb(name, pixels, IDS)
    assert detail(changed) < 0.7 * detail(pixels)
    assert changed.mean() == pytest.approx(pixels.mean(), abs=1)


def test_an_unknown_name_lists_the_known_ones(pixels):
    with pytest.raises(UserError, match=r"'rotate' is unknown; expected one of none, jpeg95"):
        perturb("rotate", pixels, IDS)


def test_pillow_writes_webp():
    assert features.check("webp")
