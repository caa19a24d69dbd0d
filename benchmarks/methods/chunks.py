"""Features of some images at a time: what lies between pixels and features is larger than both."""

from __future__ import annotations

import functools

import numpy as np

from pipeline.cache import Features

CHUNK = 32  # images; their arrays stay in the processor's cache


def some_at_a_time(function: Features) -> Features:
    """Call `function`, which turns (N, ...) into (N, D), each row from its image, on chunks.

    No image at all gives (0, D); `function` itself never meets that.
    """

    @functools.wraps(function)
    def whole(pixels: np.ndarray) -> np.ndarray:
        if not len(pixels):
            return function(np.zeros((1, *pixels.shape[1:]), pixels.dtype))[:0]
        starts = range(0, len(pixels), CHUNK)
        return np.concatenate([function(pixels[start : start + CHUNK]) for start in starts])

    return whole
