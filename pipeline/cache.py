"""Features of images that a process asked for before.

The folds of a run share their images: a process that fits several of them, or scores several seeds,
asks for the features of the same image again and again. They are kept under a digest of its pixels,
so that neither a method nor its caller says which fold an image came in.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

import numpy as np

BUDGET = 1 << 30  # bytes that the rows of one function may take; the oldest go first

Features = Callable[[np.ndarray], np.ndarray]


def cached_per_image(function: Features) -> Features:
    """Remember the rows of `function`, which turns (N, ...) into (N, D), each row from its image.

    Only images that are new reach `function`, each once; rows come back as copies.
    """
    rows: dict[tuple[tuple[int, ...], bytes], np.ndarray] = {}
    used = 0

    @functools.wraps(function)
    def cached(pixels: np.ndarray) -> np.ndarray:
        nonlocal used
        shape = pixels.shape[1:]
        keys = [(shape, hashlib.blake2b(one.tobytes(), digest_size=16).digest()) for one in pixels]
        new = {key: place for place, key in enumerate(keys) if key not in rows}
        if len(pixels) and not new:
            return np.stack([rows[key] for key in keys])
        found = function(pixels[list(new.values())])
        fresh = dict(zip(new, found, strict=True))
        answer = [fresh[key] if key in fresh else rows[key] for key in keys]
        for key, row in fresh.items():
            rows[key] = row.copy()  # a view would keep the whole array
            used += row.nbytes
        while used > BUDGET:
            used -= rows.pop(next(iter(rows))).nbytes
        return np.stack(answer) if answer else found

    return cached
