"""D1, the network that learns the feature all fakes have in common (arXiv 1809.08754, table 1).

The paper gives the widths, the authors' released code the rest: a 7x7 stem of stride 4 without
padding, six pre-activation residual blocks (two of which halve the map), a softmaxed feature.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import UserError

Feature = Literal["softmax", "linear"]

FEATURES = 128
STEM, STRIDE = 7, 4
BLOCKS_PER_WIDTH = 2


def widths(width: int) -> tuple[int, int, int]:
    """Channels of the three levels: 96, 128, 256 for the authors' `width` of 96."""
    return width, round(width * 4 / 3), round(width * 8 / 3)


def map_side(size: int) -> int:
    """Side of the last map for pictures of `size` pixels: 3 for 64.

    Raises:
        UserError: the pictures are too small for one stem and two halvings.
    """
    side = ((size - STEM) // STRIDE + 1) // 2 // 2 if size >= STEM else 0
    if side < 1:
        raise UserError(f"pictures of {size} px are too small for D1; expected 19 px or more")
    return side


class ResidualBlock(nn.Module):
    """Pre-activation block: (average pooling,) then BN, Swish, conv 3x3, twice.

    The shortcut is the identity, with zero channels on both sides where the block widens.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.padding = ((outputs - inputs) // 2, outputs - inputs - (outputs - inputs) // 2)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, S, S) to (N, outputs, S, S), or S // 2 where the block halves."""
        if self.halve:
            x = F.avg_pool2d(x, 2)
        out = self.conv1(F.silu(self.norm1(x)))
        out = self.conv2(F.silu(self.norm2(out)))
        if any(self.padding):
            x = F.pad(x, (0, 0, 0, 0, *self.padding))
        return x + out


class D1(nn.Module):
    """Pictures to feature maps (for D2) and to a feature (for the contrastive loss).

    Args:
        channels: 1 (grey) or 3.
        size: side of the pictures in pixels, 19 or more.
        width: channels of the first level (96 in the paper).
        feature: `softmax` (the paper's), or `linear`, the same layer without a softmax.
    """

    def __init__(
        self, channels: int, size: int, width: int = 96, feature: Feature = "softmax"
    ) -> None:
        super().__init__()
        self.feature = feature
        levels = widths(width)
        side = map_side(size)
        self.stem = nn.Conv2d(channels, levels[0], STEM, stride=STRIDE)
        blocks = []
        for level, inputs in enumerate(levels):
            for position in range(BLOCKS_PER_WIDTH):
                # The second block of a level halves the map and leads on to the next level.
                last = position == BLOCKS_PER_WIDTH - 1 and level < len(levels) - 1
                blocks.append(ResidualBlock(inputs, levels[level + last], halve=last))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(levels[-1] * side * side, FEATURES)

    @property
    def outputs(self) -> int:
        """Channels of the feature maps."""
        return self.blocks[-1].conv2.out_channels

    def maps(self, x: Tensor) -> Tensor:
        """Map (N, channels, size, size) to the maps of layer 4, (N, outputs, S, S)."""
        return self.blocks(self.stem(x))

    def features(self, maps: Tensor) -> Tensor:
        """Map `maps` to the feature of layer 5, float32 (N, 128).

        Softmaxed, each row is >= 0 and sums to 1, so that no two are farther apart than sqrt(2).
        """
        feature = self.head(maps.flatten(1)).float()
        return torch.softmax(feature, dim=1) if self.feature == "softmax" else feature

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of layer 4 and the feature of layer 5."""
        maps = self.maps(x)
        return maps, self.features(maps)
