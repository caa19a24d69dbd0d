"""Where in a picture D2 sees a fake: its map before pooling, laid over the picture."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from deepfd.detector import Detector
from pipeline import images

# Standard deviation of the smoothing, as a fraction of the side: about half an eye. Single places
# are noisy; what smoothing is worth stands in docs/localisation.md.
SMOOTHING = 1 / 16
OPACITY = 0.6
# Full colour from this difference of logits on (odds of 55 to 1): one scale for every picture, so
# that a photograph that raises no suspicion is not painted red at its least unsuspicious place.
FULL = 4.0
COLOUR_MAP = "coolwarm"


def heat_maps(detector: Detector, pixels: np.ndarray) -> np.ndarray:
    """Say for every pixel what speaks for "fake".

    D2's two channels are turned into the difference of the two logits, fake minus photograph, at
    each place, enlarged (bilinear) to the picture and smoothed (`smoothed`). Places are as coarse
    as D1's last map, each of whose blocks after the first halves it: 16x16 for 64 pixels with
    three.

    Args:
        detector: a fitted detector.
        pixels: uint8 (N, size, size, C).

    Returns:
        float32 (N, size, size): above 0 speaks for a fake, below 0 for a photograph. Its mean is
        the logit of P(fake).
    """
    if not len(pixels):
        return np.empty((0, detector.size, detector.size), np.float32)
    return smoothed(enlarged(detector.evidence(pixels), detector.size))


def enlarged(places: np.ndarray, size: int) -> np.ndarray:
    """Enlarge maps, float32 (N, s, s), to (N, size, size), bilinear."""
    maps = torch.from_numpy(places)[:, None]
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)[:, 0].numpy()


def smoothed(maps: np.ndarray) -> np.ndarray:
    """Blur maps, float32 (N, size, size), by `SMOOTHING` of their side; the mean stays."""
    sigma = SMOOTHING * maps.shape[-1]
    return gaussian_filter(maps, (0, sigma, sigma), mode="reflect")


def overlay(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """Lay a heat map over a picture: red speaks for a fake, blue for a photograph.

    Opacity grows with the value up to `FULL`, so that places that say nothing stay as they are.

    Args:
        picture: any size; the heat map is enlarged to it.
        heat: float (H, W), 0 = says nothing (`deepfd.predict.Prediction.map`).

    Returns:
        An RGB image of the picture's size.
    """
    from matplotlib import colormaps

    scaled = Image.fromarray(np.clip(heat / FULL, -1, 1).astype(np.float32))
    scaled = np.asarray(scaled.resize(picture.size, Image.Resampling.BILINEAR))
    colours = colormaps[COLOUR_MAP]((scaled + 1) / 2)[..., :3] * 255
    under = np.asarray(images.to_mode(picture, 3), dtype=np.float64)
    opacity = OPACITY * np.abs(scaled)[..., None]
    mixed = under * (1 - opacity) + colours * opacity
    return Image.fromarray(np.rint(mixed).astype(np.uint8))
