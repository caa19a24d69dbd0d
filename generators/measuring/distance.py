"""How far a set of images is from photographs: a kernel distance in features of a random network.

This is KID's estimator (Binkowski et al. 2018, "Demystifying MMD GANs", eq. 4) with other features:
not those of Inception, which would have to be fetched, but those of a small VGG-like network whose
weights are random and fixed by a seed. Random features tell sets of images apart without favouring
what ImageNet's networks see (Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for
Generative Models", section 3.3). So a value means something only beside others of the same set of
photographs, above all beside the `floor`: training photographs against the same validation
photographs. It cannot be compared with a KID or FID of any paper.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from pipeline.images import to_unit

WIDTHS = (16, 32, 64, 128)
SEED = 0
GRID = 2  # each block's maps are averaged over so many cells a side
BATCH = 64
DEGREE = 3  # of the polynomial kernel


class Distance(NamedTuple):
    """A kernel distance and its standard error."""

    value: float
    error: float


class RandomNetwork(nn.Module):
    """Four blocks of a 3x3 convolution, ReLU and 2x2 mean; every block's maps are features."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(SEED)
        self.convolutions = nn.ModuleList()
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            layer = nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect", bias=False)
            weight = torch.randn(layer.weight.shape, generator=random)
            # No brightness passes the first layer: all others would see little else.
            if before == 3:
                weight = weight - weight.mean((2, 3), keepdim=True)
            layer.weight = nn.Parameter(weight * (2 / (9 * before)) ** 0.5, requires_grad=False)
            self.convolutions.append(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) in [-1, 1] to features (N, 4 * 240)."""
        found = []
        for layer in self.convolutions:
            x = nn.functional.avg_pool2d(nn.functional.relu(layer(x)), 2)
            found.append(nn.functional.adaptive_avg_pool2d(x, GRID).flatten(1))
        return torch.cat(found, 1)


@functools.cache
def _network() -> RandomNetwork:
    return RandomNetwork().eval()


@torch.inference_mode()
def features(pixels: np.ndarray) -> np.ndarray:
    """Map uint8 images (N, H, W, 1 or 3), sides of at least 32, to float64 features (N, 960)."""
    images = torch.from_numpy(to_unit(pixels))
    batches = [_network()(batch.expand(-1, 3, -1, -1)) for batch in images.split(BATCH)]
    return torch.cat(batches).double().numpy()


def kernel_distance(images: np.ndarray, photographs: np.ndarray) -> Distance:
    """Unbiased squared maximum mean discrepancy of two sets of features, and its standard error.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j) with
    k(a, b) = (a.b / D + 1)^3: zero in the mean where both sets are of one kind (so it may be
    negative), larger the further they are apart. Features are first centred on the photographs and
    divided by their spread, a small spread being raised by the median of all. The error is the
    jackknife's over the images of both sets.

    Args:
        images: features (N, D), N at least 3.
        photographs: features (M, D), M at least 3.
    """
    spread = photographs.std(0)
    spread = np.sqrt(spread**2 + np.median(spread) ** 2)
    x, y = ((one - photographs.mean(0)) / spread for one in (images, photographs))
    n, m = len(x), len(y)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** DEGREE

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    np.fill_diagonal(xx, 0)
    np.fill_diagonal(yy, 0)
    within_x, within_y = xx.sum() / (n * (n - 1)), yy.sum() / (m * (m - 1))
    value = within_x + within_y - 2 * xy.mean()
    # The same with each image left out in turn.
    rest_x = (xx.sum() - 2 * xx.sum(1)) / ((n - 1) * (n - 2))
    rest_y = (yy.sum() - 2 * yy.sum(1)) / ((m - 1) * (m - 2))
    without_x = rest_x + within_y - 2 * (xy.sum() - xy.sum(1)) / ((n - 1) * m)
    without_y = within_x + rest_y - 2 * (xy.sum() - xy.sum(0)) / (n * (m - 1))
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return Distance(float(value), float(np.sqrt(variance)))
