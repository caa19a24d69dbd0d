"""Bodies of D1: from what the front shows to the maps that D2 reads.

- `Paper`: the authors' (arXiv 1809.08754, table 1, and their released code): a 7x7 stem of stride 4
  and six residual blocks on what is left of the picture, 3x3 places for 64 pixels.
- `Residual`: few channels at full resolution. No stride stands before the first non-linear layer,
  since a stride of a linear filter folds the highest frequencies, where unseen generators give
  themselves away, into the others.
- `ResNet`: the first two layers of ResNet-50, as NPR has them (arXiv 2312.10461).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.errors import UserError

STEM, STRIDE = 7, 4
BLOCKS_PER_WIDTH = 2
EXPANSION = 4
LAYERS = (3, 4)  # bottlenecks of the first two layers of ResNet-50


def paper_widths(width: int) -> tuple[int, int, int]:
    """Channels of the three levels: 96, 128, 256 for the authors' `width` of 96."""
    return width, round(width * 4 / 3), round(width * 8 / 3)


class PaperBlock(nn.Module):
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


class Paper(nn.Sequential):
    """The authors' stem and six blocks.

    Args:
        inputs: channels of the front.
        width: channels of the first level (96 in the paper).
    """

    def __init__(self, inputs: int, width: int = 96) -> None:
        levels = paper_widths(width)
        layers: list[nn.Module] = [nn.Conv2d(inputs, levels[0], STEM, stride=STRIDE)]
        for level, before in enumerate(levels):
            for position in range(BLOCKS_PER_WIDTH):
                # The second block of a level halves the map and leads on to the next level.
                last = position == BLOCKS_PER_WIDTH - 1 and level < len(levels) - 1
                layers.append(PaperBlock(before, levels[level + last], halve=last))
        super().__init__(*layers)
        self.outputs = levels[-1]

    @staticmethod
    def side(size: int) -> int:
        """Side of the maps for pictures of `size` pixels: 3 for 64.

        Raises:
            UserError: the pictures are too small for one stem and two halvings.
        """
        side = ((size - STEM) // STRIDE + 1) // 2 // 2 if size >= STEM else 0
        if side < 1:
            raise UserError(f"pictures of {size} px are too small for D1; expected 19 px or more")
        return side


class ResidualBlock(nn.Module):
    """Pre-activation block: BN, Swish, conv 3x3 (with the stride), BN, Swish, conv 3x3.

    The shortcut is the identity, or a 1x1 convolution where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, S, S) to (N, outputs, S / stride, S / stride)."""
        out = F.silu(self.norm1(x))
        if self.training or torch.is_grad_enabled():
            out = self.norm2(self.conv1(out))
        else:
            out = _normed(self.conv1, self.norm2, out)
        # The stride is taken before the 1x1 convolution: with one of its own its backward pass
        # writes past its memory where `inputs` is below 8 and the CPU's best is AVX2
        # (github.com/uxlfoundation/oneDNN/issues/6035).
        kept = x[:, :, :: self.stride, :: self.stride]
        return self.shortcut(kept) + self.conv2(F.silu(out))


def _normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Convolve, then normalise by the running statistics, as one convolution without gradients."""
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


class Residual(nn.Sequential):
    """A 3x3 convolution and one residual block per width; from the second on, each halves the map.

    Args:
        inputs: channels of the front.
        widths: channels of the blocks.
        stride: of the first convolution, 1 for full resolution.
        stem: channels of the first convolution where no block keeps its resolution: then the first
            block halves the map, too. None: as many as the first block, which keeps it.
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int] = (16, 32, 64),
        stride: int = 1,
        stem: int | None = None,
    ) -> None:
        before = stem or widths[0]
        layers: list[nn.Module] = [nn.Conv2d(inputs, before, 3, stride, padding=1)]
        for level, width in enumerate(widths):
            layers.append(ResidualBlock(before, width, stride=2 if level or stem else 1))
            before = width
        super().__init__(*layers)
        self.outputs = before


class Bottleneck(nn.Module):
    """ResNet-50's block: 1x1, 3x3 (with the stride), 1x1 to four times the width, a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, S, S) to (N, 4 width, S / stride, S / stride)."""
        return F.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Sequential):
    """ResNet-50's beginning with a 3x3 stem of stride 2, as NPR has it: an eighth of the size.

    Args:
        inputs: channels of the front.
        width: channels of the stem (64: 1.44 M parameters with the last layer).
    """

    def __init__(self, inputs: int, width: int = 64) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, width, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        ]
        before = width
        for number, (count, outputs) in enumerate(zip(LAYERS, (width, 2 * width), strict=True)):
            for place in range(count):
                layers.append(Bottleneck(before, outputs, 2 if number and not place else 1))
                before = EXPANSION * outputs
        super().__init__(*layers)
        self.outputs = before


BODIES = {"paper": Paper, "residual": Residual, "resnet": ResNet}


def initialise(network: nn.Module) -> None:
    """Draw all weights of a network anew, from torch's random state.

    Convolutions: He normal over fan-in (Swish is close to ReLU), biases 0; the last convolution of
    a residual block is divided by the root of the number of blocks, so that the sum over all blocks
    keeps its scale. Linear layers: Xavier uniform, biases 0. (The authors' code draws every weight
    with standard deviation 1.)
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    blocks = [m for m in network.modules() if isinstance(m, PaperBlock | ResidualBlock)]
    with torch.no_grad():
        for block in blocks:
            block.conv2.weight.div_(len(blocks) ** 0.5)
