"""Log-scaled DCT coefficients and logistic regression.

Frank et al. 2020, "Leveraging Frequency Analysis for Deep Fake Image Recognition" (ICML 2020):
the upsampling of generators leaves a grid of peaks in the 2-D DCT.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from benchmarks.methods import linear
from benchmarks.methods.linear import Linear

# Added to the magnitude before the logarithm, as in the authors' code.
FLOOR = 1e-12


class Options(linear.Options):
    """What params.yaml can say of it."""

    method: Literal["dct"]
    c: PositiveFloat = 0.01


def log_dct(pixels: np.ndarray) -> np.ndarray:
    """Log-scaled type-II DCT of every channel.

    Args:
        pixels: uint8 (N, H, W, C).

    Returns:
        float64 (N, H W C): log(|DCT(pixels)| + FLOOR), orthonormal.
    """
    from scipy.fft import dctn

    coefficients = dctn(pixels.astype(np.float64), axes=(1, 2), norm="ortho")
    return np.log(np.abs(coefficients) + FLOOR).reshape(len(pixels), -1)


class Dct(Linear):
    """Logistic regression on `log_dct`."""

    features = staticmethod(log_dct)
