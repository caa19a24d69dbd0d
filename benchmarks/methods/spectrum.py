"""Azimuthally averaged power spectrum and logistic regression.

Durall et al. 2019, "Unmasking DeepFakes with simple Features" (arXiv 1911.00686): upsampling leaves
its trace in the high frequencies, which one number per radius is enough to show.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from benchmarks.methods.linear import Linear
from pipeline.options import Model

# Added to the power before the logarithm, on the scale of one grey level squared.
FLOOR = 1e-6
LUMA = np.array([0.299, 0.587, 0.114])
CHUNK = 256  # images at a time: a transform takes some ten times the memory of the pixels


class Options(Model):
    """What params.yaml can say of it."""

    method: Literal["spectrum"]
    # Inverse strength of the L2 penalty.
    c: PositiveFloat = 1.0


def radial_spectrum(pixels: np.ndarray) -> np.ndarray:
    """Azimuthal mean of the log power spectrum of the luma.

    Args:
        pixels: uint8 (N, H, W, 1 or 3), H = W.

    Returns:
        float64 (N, R): entry r is the mean of log(|F|^2 + FLOOR) over the frequencies whose
        distance from 0, rounded, is r, for r = 0 .. ceil(sqrt 2 H / 2), corners included.
    """
    y, x = (np.fft.fftfreq(side) * side for side in pixels.shape[1:3])
    radius = np.rint(np.hypot(y[:, None], x[None, :])).astype(int).ravel()
    count = np.bincount(radius)
    average = np.zeros((radius.size, count.size))
    average[np.arange(radius.size), radius] = 1 / count[radius]
    found = [np.empty((0, count.size))]
    for start in range(0, len(pixels), CHUNK):
        some = pixels[start : start + CHUNK]
        luma = some[..., 0] / 255.0 if some.shape[-1] == 1 else some @ LUMA / 255.0
        power = np.log(np.abs(np.fft.fft2(luma)) ** 2 + FLOOR)  # (N, H, W)
        found.append(power.reshape(len(power), -1) @ average)
    return np.concatenate(found)


class Spectrum(Linear):
    """Logistic regression on `radial_spectrum`."""

    features = staticmethod(radial_spectrum)
