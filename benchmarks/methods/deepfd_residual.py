"""`deepfd_residual`: DeepFD on the residual domain of colour components.

One of the two improvements that readers of the DeepFD paper propose. A plane of the picture in
another colour space (R, G, B; H, S, V; Y, Cb, Cr, as in `benchmarks.components`) is replaced by its
differences from two neighbours, which hold no content but the traces of how the pixels were made
(Li et al., arXiv 1808.07276, take all four; the other two are these with the sign changed). Network
behind it, losses, batches and steps are those of `deepfd`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from kornia.color import rgb_to_hsv
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.components import COMPONENTS, YCBCR, YCBCR_OFFSET
from benchmarks.methods.deepfd import DeepFD
from deepfd.d1 import D1, Feature
from deepfd.d2 import D2
from deepfd.detector import Network
from pipeline.errors import UserError

NEIGHBOURS = 2  # right and down


def planes(x: Tensor, names: Sequence[str]) -> Tensor:
    """Return colour components in grey levels, not rounded.

    Args:
        x: float (N, 1 or 3, H, W) in [-1, 1]; grey pictures have the component Y alone.
        names: of `benchmarks.components.COMPONENTS`.

    Returns:
        float32 (N, len(names), H, W), 0..255 (hue included).

    Raises:
        UserError: grey pictures and a component that needs colour.
    """
    x = (x.float() + 1) / 2
    if x.shape[1] == 1:
        if list(names) != ["Y"]:
            raise UserError(
                f"deepfd_residual has components {', '.join(names)} and the pictures are grey; set "
                "`components: [Y]`, or choose a profile with faces.channels: 3"
            )
        return x * 255
    found = dict(zip("RGB", (x * 255).unbind(1), strict=True))
    if {*"HSV"} & {*names}:
        hue, saturation, value = rgb_to_hsv(x).unbind(1)
        found |= {"H": hue / (2 * torch.pi) * 255, "S": saturation * 255, "V": value * 255}
    matrix, offset = x.new_tensor(YCBCR), x.new_tensor(YCBCR_OFFSET)
    ycbcr = torch.einsum("kc,nchw->nkhw", matrix, x) + offset[:, None, None]
    found |= dict(zip(COMPONENTS[6:], ycbcr.unbind(1), strict=True))
    return torch.stack([found[name] for name in names], dim=1)


def residuals(x: Tensor, reach: float) -> Tensor:
    """Return neighbour minus pixel, to the right and below, clipped at `reach` grey levels.

    Args:
        x: planes (N, K, H, W) in grey levels; hue is not wrapped.
        reach: where to clip.

    Returns:
        (N, 2 K, H, W) in [-1, 1]; 0 in the last column, or row, which has no such neighbour.
    """
    right = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1, 0, 0))
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, down], dim=1).clamp(-reach, reach) / reach


class ResidualD1(D1):
    """D1 that reads the residuals of colour components."""

    def __init__(
        self, channels: int, size: int, width: int, feature: Feature, components: Sequence[str],
        reach: float,
    ) -> None:  # fmt: skip
        super().__init__(NEIGHBOURS * len(components), size, width, feature)
        self.components, self.reach = tuple(components), reach
        planes(torch.zeros(1, channels, 1, 1), self.components)  # refuses grey now, not in a step

    def maps(self, x: Tensor) -> Tensor:
        """Map pictures (N, C, size, size) in [-1, 1] to the maps of layer 4."""
        with torch.no_grad():
            x = residuals(planes(x, self.components), self.reach)
        return super().maps(x.contiguous(memory_format=torch.channels_last))


class ResidualNetwork(Network):
    """`ResidualD1` and D2."""

    def __init__(
        self, channels: int, size: int, width: int = 96, feature: Feature = "softmax",
        components: Sequence[str] = ("H", "S", "Cb", "Cr"), reach: float = 8.0,
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)
        self.config = {
            "channels": channels, "size": size, "width": width, "feature": feature,
            "components": list(components), "reach": reach,
        }  # fmt: skip
        self.d1 = ResidualD1(channels, size, width, feature, components, reach)
        self.d2 = D2(self.d1.outputs)


class DeepFDResidual(DeepFD):
    """`deepfd` with `ResidualNetwork`."""

    architecture = ResidualNetwork
    arguments = ("feature", "components", "reach")
