"""The progressive GANs of facebookresearch/pytorch_GAN_zoo, without that repository's code.

Its entry `PGAN` builds generator, critic and optimisers, which today's torch refuses (`betas` of an
int and a float). What makes pictures is the generator alone, and it is small: `GNet` below has the
layers and names of its namesake there (BSD-3-Clause, models/networks/progressive_conv_net.py), is
built from the settings inside the checkpoint, and gets the checkpoint's moving average. The weights
are read with weights_only=True; the record of settings comes as a class without any code.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators.adapters.network import insist
from generators.adapters.options import HubGenerator
from generators.base import file_sha256, latents, load_card
from generators.networks.pggan import pixel_norm
from pipeline.device import default_device
from pipeline.errors import RetryLater, UserError

# The activation of the last layer goes by the loss: linear for these, tanh for the others.
LINEAR_LOSSES = ("WGANGP", "WGANGP2", "Logistic")
TANH_LOSSES = ("MSE", "DCGAN")


class Settings:
    """What the checkpoint says of its network: a record of that repository, read as plain values.

    Attributes:
        latentVectorDim, depthScale0, depthOtherScales, dimOutput, leakyReluLeak, equalizedlR,
        perChannelNormalization, alpha, lossCriterion, categoryVectorDim: as there.
    """


class GNet(nn.Module):
    """Latents -> 4x4 -> twice the side per further depth -> pictures (Karras et al. 2018).

    The layers' run-time constant (section 4.1 there) is part of the weights here.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        s = settings
        depths = (s.depthScale0, *s.depthOtherScales)
        self.slope, self.alpha, self.tanh = s.leakyReluLeak, s.alpha, s.lossCriterion in TANH_LOSSES
        self.formatLayer = nn.Linear(s.latentVectorDim, 16 * depths[0])
        self.groupScale0 = nn.ModuleList([nn.Conv2d(depths[0], depths[0], 3, padding=1)])
        self.scaleLayers = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(one, after, 3, padding=1) for one in (before, after))
            for before, after in itertools.pairwise(depths)
        )
        self.toRGBLayers = nn.ModuleList(nn.Conv2d(depth, s.dimOutput, 1) for depth in depths)

    def load(self, state: Mapping[str, Tensor], equalised: bool) -> None:
        """Take weights named as in a checkpoint, with or without the wrapper's `module.`.

        The wrapper multiplies what a layer gives, its bias with it, by sqrt(2 / fan-in).
        """
        named = {name.replace("module.", ""): tensor.float() for name, tensor in state.items()}
        if equalised:
            for name in [name for name in named if name.endswith(".weight")]:
                constant = math.sqrt(2 / named[name][0].numel())
                for part in (name, name.removesuffix("weight") + "bias"):
                    named[part] = named[part] * constant
        self.load_state_dict(named)

    def _act(self, x: Tensor) -> Tensor:
        return pixel_norm(F.leaky_relu(x, self.slope))

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (N, Z) to pictures (N, C, S, S), about [-1, 1]; S = 4 for one depth."""
        x = self._act(self.formatLayer(pixel_norm(z)).view(len(z), -1, 4, 4))
        x = self._act(self.groupScale0[0](x))
        for layers in self.scaleLayers:
            before, x = x, F.interpolate(x, scale_factor=2)
            for layer in layers:
                x = self._act(layer(x))
        image = self.toRGBLayers[-1](x)
        if self.alpha and self.scaleLayers:  # saved while its last resolution was faded in
            small = F.interpolate(self.toRGBLayers[-2](before), scale_factor=2)
            image = torch.lerp(image, small, self.alpha)
        return torch.tanh(image) if self.tanh else image


def _kind(error: Exception) -> type[UserError]:
    """RetryLater where a network failed or a server did; one that said no will say no again."""
    refused = isinstance(error, HTTPError) and error.code < 500
    lost = isinstance(error, URLError | ConnectionError | TimeoutError) and not refused
    return RetryLater if lost else UserError


def fetch(url: str, sha256: str) -> Path:
    """Bring a file into torch.hub's cache and check its digest.

    `sha256` is the whole digest, or its first 8 hex digits or more, as torch.hub's file names have.

    Raises:
        UserError: it is not to be had or has another digest.
        RetryLater: the network was lost.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        shown = sys.stderr.isatty()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            insist(
                lambda: torch.hub.download_url_to_file(url, str(path), progress=shown),
                *(OSError, RuntimeError),  # URLError is an OSError
            )
        except (OSError, RuntimeError) as error:
            raise _kind(error)(
                f"{url} could not be fetched ({error}); offline: fetch it where there is a "
                "network and put it into checkpoints/ of torch.hub's folder ($TORCH_HOME/hub)"
            ) from None
    if not file_sha256(path).startswith(sha256):
        raise UserError(
            f"{path} has sha256 {file_sha256(path)[:12]}, expected {sha256[:12]}: damaged or not "
            "the one described; delete it and run again"
        )
    return path


def read(path: Path) -> GNet:
    """Build the generator that a checkpoint describes, with its moving average.

    Raises:
        UserError: a pickle of more than tensors and settings, settings that are missing or not
            provided for, or weights that do not fit them.
    """
    record = [(Settings, "models.utils.config.BaseConfig")]
    try:
        with torch.serialization.safe_globals(record):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        settings, state = checkpoint["config"], checkpoint["avgG"]
        if settings.categoryVectorDim or not settings.perChannelNormalization:
            raise ValueError("it is conditional or without pixel normalisation")
        if settings.lossCriterion not in LINEAR_LOSSES + TANH_LOSSES:
            raise ValueError(f"its loss {settings.lossCriterion!r} is unknown")
        network = GNet(settings)
        network.load(state, settings.equalizedlR)
    except Exception as error:  # UnpicklingError, KeyError, AttributeError, RuntimeError, ...
        raise UserError(
            f"{path} does not load ({type(error).__name__}: {error}); expected a checkpoint of an "
            "unconditional PGAN of pytorch_GAN_zoo: tensors under avgG and settings under config"
        ) from None
    return network.eval()


class Hub:
    """The moving average of a progressive GAN's generator."""

    def __init__(self, options: HubGenerator) -> None:
        """Check the pin, fetch, load.

        Raises:
            UserError: not pinned, not to be fetched, another digest, or weights that do not fit.
        """
        card = load_card(options.weights)
        url, sha256 = card.get("url"), str(card.get("sha256"))
        if not isinstance(url, str):
            raise UserError(f"{options.weights} has url {url!r}; expected that of the weights")
        if not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
            raise UserError(f"{options.weights} has sha256 {sha256!r}; expected 8 to 64 hex digits")
        path = fetch(url, sha256)
        network = read(path)
        self._latent = network.formatLayer.in_features
        self.channels = network.toRGBLayers[-1].out_channels
        self._network = network.to(default_device(), memory_format=torch.channels_last)
        self._spec = {"adapter": "hub", "weights": file_sha256(path)}

    def spec(self) -> dict[str, Any]:
        """Return the digest of the weights, which hold the network's settings too."""
        return self._spec

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return float32 (N, C, H, W) in [-1, 1] on the CPU."""
        images = self._network(latents(seeds, [self._latent]).to(default_device()))
        return images.float().clamp(-1, 1).cpu()
