"""D2, the classifier on D1's maps (arXiv 1809.08754, table 1), which also says where."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 2  # 0 = photograph, 1 = fake


class D2(nn.Module):
    """BN, Swish, conv 3x3 to 2 channels, global average pooling, fully connected 2 to 2."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, CLASSES, 3, padding=1)
        self.output = nn.Linear(CLASSES, CLASSES)

    def maps(self, maps: Tensor) -> Tensor:
        """Map D1's maps (N, inputs, S, S) to the two channels before pooling, (N, 2, S, S)."""
        return self.conv(F.silu(self.norm(maps)))

    def forward(self, maps: Tensor) -> Tensor:
        """Map D1's maps to logits, float32 (N, 2): photograph, fake."""
        return self.output(self.maps(maps).mean(dim=(2, 3))).float()

    def evidence(self, maps: Tensor) -> Tensor:
        """Return what each place says for "fake" against "photograph", float32 (N, S, S).

        Pooling and the last layer are linear, so they are exchanged here: the mean over all places
        is exactly the difference of the two logits.
        """
        places = self.output(self.maps(maps).movedim(1, -1)).float()
        return places[..., 1] - places[..., 0]
