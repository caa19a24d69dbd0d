"""Trainings that keep a moving average of the weights, which is what is sampled and saved.

`AveragedTrainer` is what they all share; `LatentTrainer` adds what follows from turning latents
into images. How a batch changes a network is said by those that build on them:
`adversarial.GanTrainer`, `autoencoding.AutoencoderTrainer`, `networks.ddpm.DdpmTrainer`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from generators.base import file_sha256, latents
from generators.training.trainer import Trainer, seed_batches, write_card
from pipeline import images
from pipeline.errors import UserError
from pipeline.seeds import seed_for

# Half-life of the moving average of the weights, in images.
EMA_IMAGES = 5000
# The networks of networks/ make images of this side, in pixels.
SIDE = 64


class AveragedTrainer(Trainer):
    """A training with a moving average of a network's weights, and its checkpoints.

    Attributes:
        average: the moving average; who builds on this makes it, a copy of the network.
        parts: what a checkpoint holds, by the names of attributes.
    """

    parts: tuple[str, ...]
    average: nn.Module

    def __init__(
        self, options: Mapping[str, Any], seed: int, device: torch.device,
        ema_images: float = EMA_IMAGES,
    ) -> None:  # fmt: skip
        """Read what all trainings are told, and name the draw of the weights that come next."""
        self.seed, self.device = seed, device
        self.layout = {"device": device, "memory_format": torch.channels_last}
        self.batch = int(options["batch"])
        self.ema_images = float(options.get("ema_images", ema_images))
        torch.manual_seed(seed_for(seed, "weights"))

    @property
    def images_per_step(self) -> int:
        """Photographs used in one `step`."""
        return self.batch

    @torch.no_grad()
    def update_average(self, network: nn.Module, number: int) -> None:
        """Move the average towards `network`, after step `number`."""
        # A short memory at first, so that the average does not remember the random start.
        seen = (number + 1) * self.batch
        decay = 0.5 ** (self.batch / min(self.ema_images, max(seen * 0.1, 1)))
        ours, theirs = list(self.average.parameters()), list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mine, other in zip(self.average.buffers(), network.buffers(), strict=True):
            mine.copy_(other)

    def state(self) -> dict[str, Any]:
        """Return everything that a later run needs to go on as if never interrupted."""
        return {name: getattr(self, name).state_dict() for name in self.parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved `state`."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


class LatentTrainer(AveragedTrainer):
    """Of a generator, which turns latents into images; `latent` is its number of latents.

    What its network may be told beside channels and width is named in its `further`. With the
    option `half` kernels and matrices are written in half precision.

    Raises:
        UserError: photographs of another size than `SIDE`.
    """

    def __init__(
        self, generator: type[nn.Module], options: Mapping[str, Any], channels: int, size: int,
        seed: int, device: torch.device,
    ) -> None:  # fmt: skip
        if size != SIDE:
            raise UserError(
                f"a network of this repository makes {SIDE}x{SIDE} images, the profile's "
                f"faces.size is {size}; set it to {SIDE}"
            )
        super().__init__(options, seed, device)
        self.config = {"channels": channels, "width": int(options["width"])}
        further = getattr(generator, "further", ())
        self.told = {name: options[name] for name in further if name in options}
        self.half = bool(options.get("half", False))
        self.generator = generator(**self.config, **self.told).to(**self.layout)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)

    def grow(self, network: nn.Module, done: float) -> None:
        """Bring a growing network to what it is when the share `done` of its training is done."""

    def latents(self, random: torch.Generator) -> torch.Tensor:
        """Draw a batch of latents, float (N, latent)."""
        return torch.randn(self.batch, self.generator.latent, generator=random).to(self.device)

    @torch.inference_mode()
    def samples(self, count: int, done: float, side: int) -> np.ndarray:
        """Make images: see `Trainer.samples`."""
        model, made = self.finished(done), []
        for seeds in seed_batches(count):
            found = model(latents(seeds, (model.latent,)).to(self.device))
            found = torch.nn.functional.interpolate(found, size=side)  # nearest: no pixel is new
            made.append(images.from_unit(found.float().cpu().numpy()))
        return np.concatenate(made)

    def save(self, out: Path, name: str, card: Mapping[str, Any]) -> None:
        """Write `<name>.safetensors` and `<name>.json`: see `Trainer.save`."""
        weights, temporary = out / f"{name}.safetensors", out / f".{name}.safetensors.tmp"
        state = self.finished().state_dict()
        if self.half:  # not the norms: they are few, and a little matters there
            state = {key: one.half() if one.ndim > 1 else one for key, one in state.items()}
        save_file({key: value.cpu().contiguous() for key, value in state.items()}, temporary)
        temporary.replace(weights)
        own = {"config": {**self.config, **self.told}, "sha256": file_sha256(weights)}
        write_card(weights.with_suffix(".json"), {**card, **own})

    @torch.no_grad()
    def finished(self, done: float = 1.0) -> nn.Module:
        """Return the averaged generator, its batch statistics measured anew on 2,048 latents.

        Args:
            done: share of the training so far, of which a growing network has its resolution.
        """
        model = copy.deepcopy(self.average)
        self.grow(model, done)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over what follows
                norm.train()
            random = torch.Generator().manual_seed(seed_for(self.seed, "statistics"))
            for _ in range(2048 // 64):
                model(torch.randn(64, model.latent, generator=random).to(self.device))
        return model.eval()
