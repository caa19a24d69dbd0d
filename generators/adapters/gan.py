"""What this repository trains, but for the DDPM: networks/<adapter>.py, safetensors and a card."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from generators.adapters.options import GanGenerator
from generators.base import latents, read_card
from pipeline.device import default_device
from pipeline.errors import UserError


class Gan:
    """Latents in, images out; batch norm is in evaluation mode, so no image sees its batch."""

    def __init__(self, options: GanGenerator) -> None:
        """Load weights after their digest.

        Raises:
            UserError: no weights or card, another digest, another adapter, or tensors that do not
                fit the network of the card's config.
        """
        card = read_card(options.weights)
        if card.get("adapter") != options.adapter:
            raise UserError(
                f"{options.weights} is of adapter {card.get('adapter')!r}, params.yaml says "
                f"{options.adapter!r}; mend `adapter` or `weights`"
            )
        try:
            network = import_module(f"generators.networks.{options.adapter}").Generator(
                **card["config"]
            )
            # Half precision on disk is widened here: the samples are defined by what is on disk.
            network.load_state_dict(load_file(options.weights))
            self.channels = int(card["channels"])
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{options.weights} does not fit the network {options.adapter} of its card: "
                f"{error}; restore both files (git checkout) or retrain them"
            ) from None
        self._spec = {
            "adapter": options.adapter,
            "weights": card["sha256"],
            "config": card["config"],
        }
        self._network = network.eval().to(default_device(), memory_format=torch.channels_last)

    def spec(self) -> dict[str, Any]:
        """Return the digest of the weights and the network's arguments."""
        return self._spec

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1] on the CPU."""
        z = latents(seeds, (self._network.latent,)).to(default_device())
        return self._network(z).float().clamp(-1, 1).cpu()
