"""Softness: of the picture's size, softer than it, and named by its draw alone."""

import numpy as np
import pytest
from PIL import Image

from pipeline.softness import soft


def picture(mode, seed=0):
    shape = (64, 64, 3) if mode == "RGB" else (64, 64)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def made(one, seed):
    draw = np.random.default_rng(seed)
    return soft(draw)(one, draw)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_whatever_is_drawn_a_picture_keeps_size_and_mode_and_loses_fine_detail(mode):
    sharp = picture(mode)
    detail = [
        (np.diff(np.asarray(made(sharp, seed), dtype=float), axis=1) ** 2).mean()
        for seed in range(60)
    ]
    for seed in range(60):
        assert made(sharp, seed).size == (64, 64) and made(sharp, seed).mode == mode
    before = (np.diff(np.asarray(sharp, dtype=float), axis=1) ** 2).mean()
    assert max(detail) < before and np.median(detail) < before / 4
    assert np.ptp(detail) > before / 10  # much and little


def test_a_draw_names_one_softness():
    sharp = picture("RGB")
    assert np.array_equal(np.asarray(made(sharp, 3)), np.asarray(made(sharp, 3)))
    assert not np.array_equal(np.asarray(made(sharp, 3)), np.asarray(made(sharp, 4)))
