"""Third-order co-occurrences of quantised residuals: what `srm` and `colour` count."""

from __future__ import annotations

import numpy as np

ROWS, COLUMNS = 2, 1  # axes of (N, H, W): triples along rows (left to right), along columns


def triples(codes: np.ndarray, levels: int, axis: int) -> np.ndarray:
    """Count each triple of neighbours in a row along one axis.

    Args:
        codes: unsigned integers (N, H, W), values 0..levels - 1.
        levels: 5 gives 125 bins, 8 gives 512.
        axis: `ROWS` or `COLUMNS`.

    Returns:
        float64 (N, levels**3), bin (a levels + b) levels + c: whole numbers, so that sums of them
        are exact in whatever order, and an image's features are the same bits in every batch.
    """
    # The smallest type that holds a bin: four times the pixels in a register.
    small = np.min_scalar_type(levels**3 - 1).type
    along = codes.swapaxes(axis, ROWS)
    bins = along[..., :-2] * small(levels**2)
    bins += along[..., 1:-1] * small(levels)
    bins += along[..., 2:]
    count = levels**3
    places = bins.reshape(len(codes), -1) + np.arange(len(codes))[:, None] * count
    found = np.bincount(places.ravel(), minlength=len(codes) * count)
    return found.reshape(len(codes), count).astype(np.float64)


def merged_bins(levels: int, signs: bool = False) -> np.ndarray:
    """Give each triple (a, b, c) of 0..levels - 1 a number that it shares with (c, b, a).

    Args:
        levels: number of values of a residual.
        signs: whether a triple shares its number with that of the opposite signs, (levels - 1 - a,
            ...), too: what holds of a picture then holds of its negative.

    Returns:
        int (levels**3,), entry (a levels + b) levels + c: for 5 levels 75 numbers, with signs 39.
    """
    codes = np.arange(levels**3).reshape(levels, levels, levels)
    least = np.minimum(codes, codes.transpose(2, 1, 0))
    if signs:
        least = np.minimum(least, least[::-1, ::-1, ::-1])
    return np.unique(least, return_inverse=True)[1].ravel()


def merged_shares(counts: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Sum the counts of triples that have one number, and divide by how many there are in all.

    Args:
        counts: what `triples` returns, or a sum of it, (N, levels**3).
        bins: a number for each triple, as `merged_bins` gives them.

    Returns:
        float64 (N, numbers), each row summing to 1.
    """
    return counts @ np.eye(int(bins.max()) + 1)[bins] / counts.sum(axis=1, keepdims=True)
