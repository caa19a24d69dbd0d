"""Fixed fronts of D1: what of a picture the network is shown.

A residual takes the content of a picture away and leaves how its pixels were made, which is what
photographs and unseen generators differ in (docs/research.md). None has a weight to learn; all keep
the full resolution. Values are scaled so that 1 stands for `UNIT` grey levels of 255.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

UNIT = 8.0
# From pixels in [-1, 1] to grey levels over UNIT.
SCALE = 127.5 / UNIT

# One-dimensional binomial filter; its outer product with itself is the 5x5 low-pass.
BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)
# Five of the high-pass kernels of the spatial rich model (Fridrich & Kodovsky 2012): first and
# second order along rows and columns, and the 3x3 "square".
SRM = (
    ((0, 0, 0), (0, -1, 1), (0, 0, 0)),
    ((0, 0, 0), (0, -1, 0), (0, 1, 0)),
    ((0, 0, 0), (0.5, -1, 0.5), (0, 0, 0)),
    ((0, 0.5, 0), (0, -1, 0), (0, 0.5, 0)),
    ((-0.25, 0.5, -0.25), (0.5, -1, 0.5), (-0.25, 0.5, -0.25)),
)


def _padded(x: Tensor, reach: int) -> Tensor:
    return F.pad(x, (reach,) * 4, mode="reflect")


def none(x: Tensor) -> Tensor:
    """Return the picture itself, (N, C, H, W) in [-1, 1]."""
    return x


def highpass(x: Tensor) -> Tensor:
    """Return the picture minus its 5x5 binomial blur: (N, C, H, W)."""
    line = x.new_tensor(BINOMIAL) / sum(BINOMIAL)
    channels = x.shape[1]
    rows = line.view(1, 1, 5, 1).expand(channels, 1, 5, 1)
    columns = line.view(1, 1, 1, 5).expand(channels, 1, 1, 5)
    low = F.conv2d(F.conv2d(_padded(x, 2), rows, groups=channels), columns, groups=channels)
    return (x - low) * SCALE


def neighbours(x: Tensor) -> Tensor:
    """Return the differences from the right and the lower neighbour: (N, 2 C, H, W).

    At the right and the lower border, which have none, 0.
    """
    right = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1, 0, 0))
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, down], dim=1) * SCALE


def median(x: Tensor) -> Tensor:
    """Return the picture minus the median of each pixel's 8 neighbours: (N, C, H, W).

    FerretNet (2025) reads this residual. Of the eight values the lower middle one is taken.
    """
    padded, (height, width) = _padded(x, 1), x.shape[-2:]
    around = [
        padded[..., i : i + height, j : j + width]
        for i in range(3)
        for j in range(3)
        if (i, j) != (1, 1)
    ]
    return (x - torch.stack(around).median(dim=0).values) * SCALE


def srm(x: Tensor) -> Tensor:
    """Return the answers of five kernels of the spatial rich model: (N, 5 C, H, W)."""
    channels = x.shape[1]
    kernels = x.new_tensor(SRM)[:, None].repeat(channels, 1, 1, 1)
    return F.conv2d(_padded(x, 1), kernels, groups=channels) * SCALE


def enlarged(x: Tensor) -> Tensor:
    """Return 2/3 (x - up(down(x))), both by nearest neighbour, factor 2: (N, C, H, W).

    The residual of NPR (Tan et al. 2024, arXiv 2312.10461), in its scale: the upper left pixel of
    every 2x2 block becomes 0, the others their difference from it.
    """
    small = F.interpolate(x, scale_factor=0.5, mode="nearest", recompute_scale_factor=True)
    return (x - F.interpolate(small, size=x.shape[-2:], mode="nearest")) * (2 / 3)


# name: the function, and how many channels it makes of one.
FRONTS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "none": (none, 1),
    "highpass": (highpass, 1),
    "neighbours": (neighbours, 2),
    "median": (median, 1),
    "srm": (srm, len(SRM)),
    "npr": (enlarged, 1),
}
