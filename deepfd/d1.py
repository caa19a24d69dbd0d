"""D1, the network that learns the feature all fakes have in common (arXiv 1809.08754, table 1).

Three parts: a fixed front (`deepfd.fronts`), a body of convolutions (`deepfd.bodies`), and the
feature that the contrastive loss compares. The paper's own D1 has no front, the body `paper` and a
softmaxed feature of the whole map; ours reads a residual at full resolution and compares the
direction of the pooled map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfd.bodies import BODIES, Paper
from deepfd.fronts import FRONTS
from pipeline.precision import full

FeatureName = Literal["softmax", "unit"]

FEATURES = 128


class D1(nn.Module):
    """Pictures to maps (for D2) and to a feature (for the contrastive loss).

    Args:
        channels: 1 (grey) or 3.
        size: side of the pictures in pixels; a softmaxed feature is of this size alone.
        front: a name of `deepfd.fronts.FRONTS`.
        body: `kind`, a name of `deepfd.bodies.BODIES`, and the arguments of that class.
        feature: `softmax` of a linear layer on the flattened map (the paper's), or `unit`, a linear
            layer on the pooled map, of length 1.
    """

    def __init__(
        self, channels: int, size: int, front: str, body: Mapping[str, Any], feature: FeatureName
    ) -> None:
        super().__init__()
        self.front, factor = FRONTS[front]
        arguments = {name: value for name, value in body.items() if name != "kind"}
        self.body = BODIES[body["kind"]](channels * factor, **arguments)
        self.feature = feature
        places = Paper.side(size) ** 2 if feature == "softmax" else 1
        self.head = nn.Linear(self.body.outputs * places, FEATURES)

    @property
    def outputs(self) -> int:
        """Channels of the maps."""
        return self.body.outputs

    @torch.no_grad()
    def shown(self, x: Tensor) -> Tensor:
        """Map (N, channels, S, S) in [-1, 1] to what the body is shown of it, channels last."""
        return self.front(x).contiguous(memory_format=torch.channels_last)

    def maps(self, x: Tensor) -> Tensor:
        """Map (N, channels, S, S) in [-1, 1] to the maps of the body, (N, outputs, s, s)."""
        return self.body(self.shown(x))

    def features(self, maps: Tensor) -> Tensor:
        """Map `maps` to the feature, float32 (N, 128), whatever their precision.

        Softmaxed, each row is >= 0 and sums to 1, so that no two are farther apart than sqrt(2);
        of length 1, no two are farther apart than 2.
        """
        with full(maps):
            maps = maps.float()
            if self.feature == "softmax":
                return torch.softmax(self.head(maps.flatten(1)), dim=1)
            return F.normalize(self.head(maps.mean(dim=(2, 3))), dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps and the feature."""
        maps = self.maps(x)
        return maps, self.features(maps)
