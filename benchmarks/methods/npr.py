"""`npr`: neighbouring pixel relationships, trained from scratch.

Tan et al., "Rethinking the Up-Sampling Operations in CNN-based Generative Network for Generalizable
Deepfake Detection" (CVPR 2024): a generator's last layers enlarge, so that the pixels of a 2x2
block depend on each other; what is left of an image minus its own nearest-neighbour enlargement
shows it. The network is the stem (3x3, stride 2) and the first two layers of ResNet-50, global
average pooling and a linear layer: 1.44 M parameters. Training is that of `plain`: the same loop,
batches, steps and augmentation, so that methods differ by network alone (the authors' input is
normalised by ImageNet's statistics; here batch norm does it).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.deepfd import DeepFD
from deepfd.d2 import CLASSES
from deepfd.detector import Network

EXPANSION = 4
LAYERS = (3, 4)  # bottlenecks of the first two layers of ResNet-50


def neighbour_residual(x: Tensor) -> Tensor:
    """Return 2/3 (x - up(down(x))), both by nearest neighbour, factor 2: (N, C, H, W) as `x`.

    The upper left pixel of every 2x2 block becomes 0, the others their difference from it.
    """
    small = F.interpolate(x, scale_factor=0.5, mode="nearest", recompute_scale_factor=True)
    return (x - F.interpolate(small, size=x.shape[-2:], mode="nearest")) * (2 / 3)


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


class Body(nn.Module):
    """Residual, stem and layers: what D1 is to DeepFD."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        ]
        inputs = width
        for number, (count, outputs) in enumerate(zip(LAYERS, (width, 2 * width), strict=True)):
            for place in range(count):
                stride = 2 if number and not place else 1
                layers.append(Bottleneck(inputs, outputs, stride))
                inputs = EXPANSION * outputs
        self.layers = nn.Sequential(*layers)
        self.outputs = inputs

    def maps(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in [-1, 1] to (N, 8 width, H / 8, W / 8)."""
        return self.layers(neighbour_residual(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps, and their mean as the feature."""
        maps = self.maps(x)
        return maps, maps.mean(dim=(2, 3)).float()


class Head(nn.Module):
    """Global average pooling and a linear layer."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.output = nn.Linear(inputs, CLASSES)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, inputs, S, S) to logits, float32 (N, 2): photograph, fake."""
        return self.output(maps.mean(dim=(2, 3))).float()

    def evidence(self, maps: Tensor) -> Tensor:
        """Return what each place says for "fake", float32 (N, S, S); its mean is the logit."""
        places = self.output(maps.movedim(1, -1)).float()
        return places[..., 1] - places[..., 0]


class NprNetwork(Network):
    """The network in the two parts that training and detector know."""

    def __init__(self, channels: int, size: int, width: int = 64) -> None:
        torch.nn.Module.__init__(self)
        self.config = {"channels": channels, "size": size, "width": width}
        self.d1 = Body(channels, width)
        self.d2 = Head(self.d1.outputs)


class Npr(DeepFD):
    """`NprNetwork` trained on cross-entropy."""

    architecture = NprNetwork
    arguments = ()
