from __future__ import annotations

import numpy as np
import pytest

from pipeline import cache
from pipeline.cache import cached_per_image


@pytest.fixture
def counted():
    """A cached function and the images that reached it."""
    seen: list[np.ndarray] = []

    def means(pixels: np.ndarray) -> np.ndarray:
        seen.extend(pixels)
        return pixels.reshape(len(pixels), -1, pixels.shape[-1]).mean(axis=1)

    return cached_per_image(means), seen


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)


def test_rows_are_those_of_the_function_in_any_order_and_repeated(counted, pixels):
    cached, _ = counted
    for index in ([0, 1, 2], [4, 2, 2, 0, 5], [3], [5, 4, 3, 2, 1, 0]):
        np.testing.assert_array_equal(cached(pixels[index]), cached.__wrapped__(pixels[index]))


def test_an_image_is_computed_once_whatever_slice_it_comes_in(counted, pixels):
    cached, seen = counted
    cached(pixels[:4])
    cached(pixels[2:])
    cached(np.concatenate([pixels, pixels])[::-1])
    assert len(seen) == len(pixels)


def test_the_same_bytes_in_another_shape_are_another_image(counted, pixels):
    cached, seen = counted
    cached(pixels)
    assert cached(pixels.reshape(6, 2, 8, 3)).shape == (6, 3) and len(seen) == 12


def test_what_a_caller_does_to_its_rows_stays_with_it(counted, pixels):
    cached, _ = counted
    first = cached(pixels)
    expected = first.copy()
    first[:] = -1
    cached(pixels)[:] = -1
    np.testing.assert_array_equal(cached(pixels), expected)


def test_of_no_image_the_rows_are_as_wide_as_ever(pixels):
    def wide(pixels: np.ndarray) -> np.ndarray:
        return np.zeros((len(pixels), 5))

    assert cached_per_image(wide)(pixels[:0]).shape == (0, 5)


def test_beyond_its_budget_the_oldest_rows_go_and_the_answer_stays_right(
    counted, pixels, monkeypatch
):
    monkeypatch.setattr(cache, "BUDGET", 2 * 3 * 8)  # two rows of three float64
    cached, seen = counted
    cached(pixels)
    seen.clear()
    cached(pixels[4:])
    assert not seen
    found = cached(pixels)
    assert len(seen) == 4
    np.testing.assert_array_equal(found, cached.__wrapped__(pixels))
