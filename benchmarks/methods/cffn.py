"""`cffn`: the pairwise-learning follow-up's network in the place of D1, trained as `deepfd`.

Hsu, Zhuang, Lee, "Deep Fake Image Detection Based on Pairwise Learning" (Appl. Sci. 2020, 10, 370).
As published: a reduced DenseNet (growth 24, transition 0.5) whose units end in 48, 60, 78 and 126
channels, a convolution 3x3 to 128, and a feature of 3 x 128 = 384 numbers in which the first two
units stand beside the last. Ours, where it is silent: units of 2, 3, 4 and 2 layers, the only ones
that give those channels; the stem of D1 (7x7, stride 4); each of the three parts of the feature is
a linear layer on the mean of its maps; a softmax over the feature and D2 as the classifier, as in
DeepFD, so that the margin means the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.deepfd import DeepFD
from deepfd.d2 import D2
from deepfd.detector import Network
from pipeline.errors import UserError

UNITS = (2, 3, 4, 2)
FEATURES = 128
SMALLEST = 32


class DenseLayer(nn.Module):
    """BN, ReLU, conv 3x3 to `growth` channels, laid beside the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, S, S) to (N, inputs + growth, S, S)."""
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], dim=1)


class Transition(nn.Module):
    """BN, ReLU, conv 1x1 to half the channels, average pooling."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, S, S) to (N, inputs / 2, S / 2, S / 2)."""
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class Cffn(nn.Module):
    """The common fake feature network: maps for D2 and a softmaxed 384-dimensional feature.

    Args:
        channels: 1 (grey) or 3.
        size: side of the pictures in pixels, 32 or more.
        width: twice the channels of the stem and four times the growth (96: 48 and 24).

    Raises:
        UserError: the pictures are too small for a stem of stride 4 and three halvings.
    """

    def __init__(self, channels: int, size: int, width: int = 96) -> None:
        super().__init__()
        if size < SMALLEST:
            raise UserError(f"pictures of {size} px are too small for cffn; expected {SMALLEST}")
        growth = width // 4
        self.stem = nn.Conv2d(channels, 2 * growth, 7, stride=4, padding=2, bias=False)
        inputs, self.widths = 2 * growth, []
        units = []
        for number, layers in enumerate(UNITS):
            unit: list[nn.Module] = []
            for _ in range(layers):
                unit.append(DenseLayer(inputs, growth))
                inputs += growth
            if number < len(UNITS) - 1:
                unit.append(Transition(inputs))
                inputs //= 2
            self.widths.append(inputs)
            units.append(nn.Sequential(*unit))
        self.units = nn.ModuleList(units)
        self.last = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, FEATURES, 3, padding=1, bias=False),
        )
        self.heads = nn.ModuleList(
            nn.Linear(width, FEATURES) for width in (*self.widths[:2], FEATURES)
        )
        self.outputs = FEATURES

    def _levels(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the first two units, and the last ones."""
        x, levels = self.stem(x), []
        for unit in self.units:
            x = unit(x)
            levels.append(x)
        return [*levels[:2], self.last(x)]

    def maps(self, x: Tensor) -> Tensor:
        """Map (N, channels, size, size) in [-1, 1] to (N, 128, size / 32, size / 32)."""
        return self._levels(x)[-1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last maps and the feature, float32 (N, 384), each row summing to 1."""
        levels = self._levels(x)
        parts = [head(maps.mean(dim=(2, 3))) for head, maps in zip(self.heads, levels, strict=True)]
        return levels[-1], torch.softmax(torch.cat(parts, dim=1).float(), dim=1)


class CffnNetwork(Network):
    """CFFN and D2 on its maps."""

    def __init__(self, channels: int, size: int, width: int = 96) -> None:
        torch.nn.Module.__init__(self)
        self.config = {"channels": channels, "size": size, "width": width}
        self.d1 = Cffn(channels, size, width)
        self.d2 = D2(self.d1.outputs)


class CffnDeepFD(DeepFD):
    """CFFN trained in DeepFD's two phases on all pairs of a batch."""

    architecture = CffnNetwork
    arguments = ()
