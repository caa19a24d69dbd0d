"""D2, the classifier on D1's maps (arXiv 1809.08754, table 1), which also says where.

All of it is computed in float32, whatever the precision of the maps: what is compared with a
threshold has to be finer than bf16's three digits.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.precision import full

CLASSES = 2  # 0 = photograph, 1 = fake
HeadName = Literal["paper", "linear"]


class D2(nn.Module):
    """BN, Swish, conv 3x3 to 2 channels, global average pooling, fully connected 2 to 2.

    Args:
        inputs: channels of D1's maps.
        head: `paper`, or `linear`: global average pooling and one linear layer (NPR's).
    """

    def __init__(self, inputs: int, head: HeadName = "paper") -> None:
        super().__init__()
        self.before: nn.Module = nn.Identity()
        if head == "paper":
            self.before = nn.Sequential(
                nn.BatchNorm2d(inputs), nn.SiLU(), nn.Conv2d(inputs, CLASSES, 3, padding=1)
            )
        self.output = nn.Linear(CLASSES if head == "paper" else inputs, CLASSES)

    def maps(self, maps: Tensor) -> Tensor:
        """Map D1's maps (N, inputs, S, S) to what is pooled, float32 (N, 2 or inputs, S, S)."""
        with full(maps):
            return self.before(maps.float())

    def forward(self, maps: Tensor) -> Tensor:
        """Map D1's maps to logits, float32 (N, 2): photograph, fake."""
        with full(maps):
            return self.output(self.maps(maps).mean(dim=(2, 3)))

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the mean, over all places, of what the convolution reads: float32 (N, inputs).

        Without the convolution's border the difference of the two logits is linear in it
        (`boundary`).
        """
        with full(maps):
            return self.before[:2](maps.float()).mean(dim=(2, 3))

    @torch.no_grad()
    def boundary(self) -> tuple[Tensor, Tensor]:
        """Return weights (inputs,) and bias of `pooled`: fake minus photograph."""
        conv, (photograph, fake) = self.before[2], self.output.weight
        difference, bias = fake - photograph, self.output.bias
        weights = torch.einsum("k,kcij->c", difference, conv.weight)
        return weights, difference @ conv.bias + bias[1] - bias[0]

    @torch.no_grad()
    def set_boundary(self, weights: Tensor, bias: Tensor) -> None:
        """Set weights (inputs,) and bias of `pooled`: fake minus photograph.

        Pooled, the nine places of the kernel say the same: all weight is given to the middle one,
        which keeps the map sharp and has no border.
        """
        conv = self.before[2]
        for parameter in (conv.weight, conv.bias, self.output.weight, self.output.bias):
            parameter.zero_()
        conv.weight[1, :, 1, 1] = weights
        self.output.weight[1, 1] = 1.0
        self.output.bias[1] = bias

    def evidence(self, maps: Tensor) -> Tensor:
        """Return what each place says for "fake" against "photograph", float32 (N, S, S).

        Pooling and the last layer are linear, so they are exchanged here: the mean over all places
        is exactly the difference of the two logits.
        """
        weight, bias = self.output.weight, self.output.bias
        with full(maps):
            places = F.conv2d(self.maps(maps), (weight[1] - weight[0])[None, :, None, None])
        return places[:, 0] + (bias[1] - bias[0])
