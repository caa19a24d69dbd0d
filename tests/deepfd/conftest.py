import numpy as np
import pytest

from pipeline.folds import Images


def planted_fold(count=120, size=32, channels=1, seed=0, strength=25, shuffled=False):
    """Noise pictures; the fakes (of generators a and b) carry a checkerboard."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(60, 190, (count, 1, 1, channels))
    pixels = pixels + draw.normal(0, 12, (count, size, size, channels))
    labels = np.arange(count) % 2
    board = np.indices((size, size)).sum(0) % 2 * 2 - 1
    pixels += strength * labels[:, None, None, None] * board[None, ..., None]
    if shuffled:
        labels = draw.permutation(labels)
    fakes = np.where(np.arange(count) % 4 < 2, "a", "b")
    return Images(
        np.clip(pixels, 0, 255).astype(np.uint8),
        labels.astype(np.int8),
        np.where(labels == 1, fakes, "real"),
        np.array([f"{seed}-{i}" for i in range(count)]),
    )


@pytest.fixture(scope="session")
def planted():
    return planted_fold
