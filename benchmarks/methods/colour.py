"""Co-occurrences of the residuals of colour components, and logistic regression.

Li, Li, Tan, Huang (arXiv 1808.07276): generators make R, G and B jointly, cameras do not, which
shows in the chroma components. (The authors classify by an ensemble of Fisher discriminants; the
regularised logistic regression here is the one linear classifier of all fixed features.)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from benchmarks.components import (
    CUT,
    DIRECTIONS,
    check_colour,
    components,
    neighbour,
    quantised,
    residual,
)
from benchmarks.methods import linear
from benchmarks.methods.chunks import some_at_a_time
from benchmarks.methods.cooccurrence import COLUMNS, ROWS, merged_bins, merged_shares, triples
from benchmarks.methods.linear import Linear
from pipeline.cache import cached_per_image

PLANES = ("H", "S", "Cb", "Cr")
LEVELS = 2 * CUT + 1
RGB_CODES = 8


def cooccurrences(codes: np.ndarray, levels: int) -> np.ndarray:
    """Third-order co-occurrences along rows plus those along columns, mirror images merged.

    Args:
        codes: uint8 (N, H, W), values 0..levels - 1.
        levels: 5 gives 75 bins, 8 gives 288.

    Returns:
        float64 (N, bins); each direction is divided by its number of triples, so a row sums to 2.
    """
    bins = merged_bins(levels)
    return sum(merged_shares(triples(codes, levels, axis), bins) for axis in (ROWS, COLUMNS))


def plane_features(plane: np.ndarray) -> np.ndarray:
    """Residual co-occurrences of one component, summed over the four neighbours.

    Args:
        plane: uint8 (N, H, W).

    Returns:
        float64 (N, 75).
    """
    return sum(cooccurrences(quantised(residual(plane, way)), LEVELS) for way in DIRECTIONS)


@cached_per_image
@some_at_a_time
def colour_features(pixels: np.ndarray) -> np.ndarray:
    """Residual co-occurrences of H, S, Cb and Cr, summed over the four neighbours.

    Args:
        pixels: uint8 (N, H, W, 3).

    Returns:
        float64 (N, 300).

    Raises:
        UserError: grey pictures.
    """
    check_colour(pixels, "method colour")
    return np.hstack([plane_features(plane) for plane in components(pixels, PLANES).values()])


@cached_per_image
@some_at_a_time
def rgb_features(pixels: np.ndarray) -> np.ndarray:
    """Co-occurrences of which of R, G, B is larger than at the neighbour, summed over the four.

    Each pixel is coded by three bits, [pixel > neighbour] in R, G and B.

    Args:
        pixels: uint8 (N, H, W, 3).

    Returns:
        float64 (N, 288).
    """
    check_colour(pixels, "method colour_rgb")
    codes = [
        sum(
            (pixels[:, 1:-1, 1:-1, c] > neighbour(pixels[..., c], way)).astype(np.uint8) << (2 - c)
            for c in range(3)
        )
        for way in DIRECTIONS
    ]
    return sum(cooccurrences(one, RGB_CODES) for one in codes)


class Options(linear.Options):
    """What params.yaml can say of `colour`; it needs colour."""

    method: Literal["colour"]
    c: PositiveFloat = 0.1


class RgbOptions(Options):
    """The same of `colour_rgb`."""

    method: Literal["colour_rgb"]


class Colour(Linear):
    """Logistic regression on `colour_features`."""

    features = staticmethod(colour_features)


class ColourRgb(Linear):
    """Logistic regression on `colour_features` and `rgb_features`, 588 in all."""

    @staticmethod
    def features(pixels: np.ndarray) -> np.ndarray:
        """Turn uint8 (N, H, W, 3) into float64 (N, 588)."""
        return np.hstack([colour_features(pixels), rgb_features(pixels)])
