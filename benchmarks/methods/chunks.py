"""Features of some images at a time, of many by all cores.

What lies between pixels and features is larger than both.
"""

from __future__ import annotations

import functools

import numpy as np

from pipeline.cache import Features
from pipeline.forked import split

CHUNK = 32  # images; their arrays stay in the processor's cache
MANY = 1000  # images that are worth a process


def some_at_a_time(function: Features) -> Features:
    """Call `function`, which turns (N, ...) into (N, D), each row from its image, on chunks.

    Many images are shared out to processes.

    No image at all gives (0, D); `function` itself never meets that.
    """

    @functools.wraps(function)
    def whole(pixels: np.ndarray) -> np.ndarray:
        if not len(pixels):
            return function(np.zeros((1, *pixels.shape[1:]), pixels.dtype))[:0]

        def part(start: int, stop: int) -> np.ndarray:
            starts = range(start, stop, CHUNK)
            return np.concatenate([function(pixels[at : min(at + CHUNK, stop)]) for at in starts])

        return np.concatenate(split(part, len(pixels), MANY))

    return whole
