"""Where in a picture D2 sees a fake: its map before pooling, laid over the picture."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from deepfd.detector import Detector
from pipeline import images

OPACITY = 0.6
# Full colour from this difference of logits on (odds of 55 to 1): one scale for every picture, so
# that a photograph that raises no suspicion is not painted red at its least unsuspicious place.
FULL = 4.0
COLOUR_MAP = "coolwarm"


def heat_maps(detector: Detector, pixels: np.ndarray) -> np.ndarray:
    """Say for every pixel what speaks for "fake".

    D2's two channels are turned into the difference of the two logits, fake minus photograph, at
    each place and enlarged (bilinear) to the picture. Places are as coarse as D1's last map, each
    of whose blocks after the first halves it: 16x16 for 64 pixels with three.

    Args:
        detector: a fitted detector.
        pixels: uint8 (N, size, size, C).

    Returns:
        float32 (N, size, size): above 0 speaks for a fake, below 0 for a photograph. Before
        enlarging, the mean is exactly the logit of P(fake).
    """
    maps = torch.from_numpy(detector.evidence(pixels))[:, None]
    if not len(maps):
        return np.empty((0, detector.size, detector.size), np.float32)
    size = (detector.size, detector.size)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0].numpy()


def overlay(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """Lay a heat map over a picture: red speaks for a fake, blue for a photograph.

    Opacity grows with the value up to `FULL`, so that places that say nothing stay as they are.

    Args:
        picture: any size; the heat map is enlarged to it.
        heat: float (H, W), 0 = says nothing.

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
