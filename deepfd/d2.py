"""D2, the classifier on D1's maps (arXiv 1809.08754, table 1), which also says where.

All of it is computed in float32, whatever the precision of the maps: what is compared with a
threshold has to be finer than bf16's three digits.
"""

from __future__ import annotations

from typing import Literal

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

    def evidence(self, maps: Tensor) -> Tensor:
        """Return what each place says for "fake" against "photograph", float32 (N, S, S).

        Pooling and the last layer are linear, so they are exchanged here: the mean over all places
        is exactly the difference of the two logits.
        """
        weight, bias = self.output.weight, self.output.bias
        with full(maps):
            places = F.conv2d(self.maps(maps), (weight[1] - weight[0])[None, :, None, None])
        return places[:, 0] + (bias[1] - bias[0])
