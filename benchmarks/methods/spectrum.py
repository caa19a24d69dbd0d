"""Azimuthally averaged power spectrum and logistic regression.

Durall et al. 2019, "Unmasking DeepFakes with simple Features" (arXiv 1911.00686): upsampling leaves
its trace in the high frequencies, which one number per radius is enough to show.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from benchmarks.methods import linear
from benchmarks.methods.chunks import some_at_a_time
from benchmarks.methods.linear import Linear

# Added to the power before the logarithm, on the scale of one grey level squared.
FLOOR = 1e-6
LUMA = np.array([0.299, 0.587, 0.114])


class Options(linear.Options):
    """What params.yaml can say of it."""

    method: Literal["spectrum"]
    c: PositiveFloat = 1.0


@some_at_a_time
def radial_spectrum(pixels: np.ndarray) -> np.ndarray:
    """Azimuthal mean of the log power spectrum of the luma.

    Args:
        pixels: uint8 (N, H, W, 1 or 3), H = W.

    Returns:
        float64 (N, R): entry r is the mean of log(|F|^2 + FLOOR) over the frequencies whose
        distance from 0, rounded, is r, for r = 0 .. ceil(sqrt 2 H / 2), corners included.
    """
    luma = pixels[..., 0] / 255.0 if pixels.shape[-1] == 1 else pixels @ LUMA / 255.0
    power = np.log(np.abs(np.fft.fft2(luma)) ** 2 + FLOOR)  # (N, H, W)
    y, x = (np.fft.fftfreq(side) * side for side in luma.shape[1:])
    radius = np.rint(np.hypot(y[:, None], x[None, :])).astype(int).ravel()
    count = np.bincount(radius)
    average = np.zeros((radius.size, count.size))
    average[np.arange(radius.size), radius] = 1 / count[radius]
    return power.reshape(len(power), -1) @ average


class Spectrum(Linear):
    """Logistic regression on `radial_spectrum`."""

    features = staticmethod(radial_spectrum)
