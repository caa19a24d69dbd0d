"""`srm`: co-occurrences of the residuals of a small rich model, and logistic regression.

Fridrich and Kodovsky, "Rich Models for Steganalysis of Digital Images" (IEEE TIFS 7, 2012): what
high-pass kernels leave of a picture, quantised, truncated and counted together with its neighbours,
says how its pixels were made and little of what it shows. Of their model this is a small part:
differences of first, second and third order along rows and columns, their 3x3 and 5x5 squares; two
quantisations (steps 1 and 2), truncated at 2; triples (theirs: four in a row); reversed triples and
those of opposite signs merged. Their ensemble of Fisher discriminants is here the one linear
classifier of all fixed features.

A bin's share varies as its mean does: its square root (Hellinger) evens that. Triples along and
across a difference stay apart. Both, and `c`, were chosen on valid images of a generator left out
of training (docs/methods.md).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from benchmarks.components import components
from benchmarks.methods import linear
from benchmarks.methods.chunks import some_at_a_time
from benchmarks.methods.cooccurrence import COLUMNS, ROWS, merged_bins, merged_shares, triples
from benchmarks.methods.linear import Linear
from pipeline.cache import cached_per_image

STEPS = (1, 2)
CUT = 2
LEVELS = 2 * CUT + 1
# The divisor of a kernel, as in the paper: the size of the centre's coefficient.
DIFFERENCES = {"first": ((-1, 1), 1), "second": ((1, -2, 1), 2), "third": ((1, -3, 3, -1), 3)}
SQUARE = {
    "3x3": (((-1, 2, -1), (2, -4, 2), (-1, 2, -1)), 4),
    "5x5": (
        (
            (-1, 2, -2, 2, -1),
            (2, -6, 8, -6, 2),
            (-2, 8, -12, 8, -2),
            (2, -6, 8, -6, 2),
            (-1, 2, -2, 2, -1),
        ),
        12,
    ),
}
BINS = merged_bins(LEVELS, signs=True)
# Histograms of one plane: three differences along and across, two squares, at each step.


def filtered(planes: np.ndarray, kernel: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Correlate with a kernel wherever it fits: (N, H, W) to int16 (N, H - h + 1, W - w + 1).

    The residual of 8-bit values is exact: at most 48 * 255 in size, for the 5x5 square.
    """
    height, width = (s - k + 1 for s, k in zip(planes.shape[1:], np.shape(kernel), strict=True))
    found = np.zeros((len(planes), height, width), np.int16)
    for y, row in enumerate(kernel):
        for x, weight in enumerate(row):
            found += np.int16(weight) * planes[:, y : y + height, x : x + width]
    return found


def quantised(residuals: np.ndarray, step: int) -> np.ndarray:
    """Divide by `step`, round (half away from 0), truncate at 2: uint8, 0..4, 2 for a residual 0.

    Args:
        residuals: int16, of any shape.
        step: grey levels of a bin.
    """
    one, two = ((n * step + 1) // 2 for n in (1, 3))  # the first residual of a bin: ceil(n step/2)
    edges = (residuals >= one, residuals >= two, residuals > -one, residuals > -two)
    return sum(edge.view(np.uint8) for edge in edges)


def plane_features(planes: np.ndarray) -> np.ndarray:
    """Return square roots of the merged shares of all triples of one component.

    Args:
        planes: uint8 (N, H, W).

    Returns:
        float64 (N, 624): for each difference and step 39 numbers along and 39 across it, the sum of
        rows and columns; then 39 for each square and step, likewise a sum.
    """
    planes = planes.astype(np.int16)
    turned = np.ascontiguousarray(planes.swapaxes(1, 2))
    counts = []
    for kernel, divisor in DIFFERENCES.values():
        both = filtered(planes, (kernel,)), filtered(turned, (kernel,))
        for step in STEPS:
            codes = [quantised(one, divisor * step) for one in both]
            counts += [sum(triples(one, LEVELS, axis) for one in codes) for axis in (ROWS, COLUMNS)]
    for kernel, divisor in SQUARE.values():
        residuals = filtered(planes, kernel)
        for step in STEPS:
            codes = quantised(residuals, divisor * step)
            counts.append(sum(triples(codes, LEVELS, axis) for axis in (ROWS, COLUMNS)))
    return np.sqrt(np.hstack([merged_shares(one, BINS) for one in counts]))


def _of_planes(pixels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Features of grey pictures, or of components of colour ones."""
    grey = pixels.shape[-1] == 1
    planes = [pixels[..., 0]] if grey else components(pixels, names).values()
    return np.hstack([plane_features(plane) for plane in planes])


@cached_per_image
@some_at_a_time
def luma_features(pixels: np.ndarray) -> np.ndarray:
    """Rich features of the luma: uint8 (N, H, W, 1 or 3) to float64 (N, 624)."""
    return _of_planes(pixels, ("Y",))


@cached_per_image
@some_at_a_time
def srm_features(pixels: np.ndarray) -> np.ndarray:
    """Rich features of grey, or of Y, Cb and Cr.

    Args:
        pixels: uint8 (N, H, W, 1 or 3), H and W 7 or more.

    Returns:
        float64 (N, 624) or (N, 1872).
    """
    return _of_planes(pixels, ("Y", "Cb", "Cr"))


class Options(linear.Options):
    """What params.yaml can say of it; grey or colour."""

    method: Literal["srm"]
    c: PositiveFloat = 0.1


class Srm(Linear):
    """Logistic regression on `srm_features`."""

    features = staticmethod(srm_features)
    kept = True
