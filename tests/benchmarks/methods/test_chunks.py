"""Features of some images at a time are those of all at once."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.methods import chunks
from benchmarks.methods.colour import colour_features, rgb_features
from benchmarks.methods.spectrum import radial_spectrum
from benchmarks.methods.srm import luma_features, srm_features


def test_a_function_meets_chunks_and_never_nothing(monkeypatch):
    met = []

    @chunks.some_at_a_time
    def sums(pixels):
        met.append(len(pixels))
        return pixels.reshape(len(pixels), -1).sum(axis=1, keepdims=True)

    monkeypatch.setattr(chunks, "CHUNK", 3)
    pixels = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1)
    np.testing.assert_array_equal(sums(pixels)[:, 0], pixels.sum(axis=(1, 2, 3)))
    assert met == [3, 3, 1]
    assert sums(pixels[:0]).shape == (0, 1) and met[-1] == 1


@pytest.mark.parametrize(
    "features", [radial_spectrum, colour_features, rgb_features, luma_features, srm_features]
)
def test_chunks_do_not_show_in_features(features, monkeypatch):
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (7, 16, 16, 3)).astype(np.uint8)
    bare = features
    while hasattr(bare, "__wrapped__"):  # neither chunks nor a cache
        bare = bare.__wrapped__
    expected = bare(pixels)
    monkeypatch.setattr(chunks, "CHUNK", 3)
    assert features(pixels) == pytest.approx(expected, abs=1e-12)
    assert features(pixels[:0]).shape == (0, expected.shape[1])
