"""Auto-encoders, the same loop for each: what differs is in each one's own file.

The encoder is DCGAN's critic with latents for a score; it is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from generators.networks.dcgan import down_layers, init_normal
from generators.training.averaged import LatentTrainer
from pipeline.precision import autocast, measured
from pipeline.seeds import seed_for


class Encoder(nn.Module):
    """64x64 -> 32 -> 16 -> 8 -> 4 -> so many numbers."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        layers = down_layers(channels, width, bias=True)
        layers.append(nn.Conv2d(8 * width, outputs, 4, 1, 0))
        self.layers = nn.Sequential(*layers).apply(init_normal)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, 64, 64) to (N, outputs)."""
        return self.layers(images).flatten(1)


@dataclass(frozen=True)
class Recipe:
    """How one auto-encoder is trained, after its own paper.

    Attributes:
        generator: class of the decoder, `latent` is its number of latents.
        encoded: numbers that the encoder gives for each latent.
        latents: (what the encoder gives, noise of N(0, 1)) -> latents to decode.
        loss: (what the encoder gives, noise) -> a name and a scalar to minimise beside the error.
        error, other: weights of the squared error, summed over a picture, and of that scalar.
        betas: of Adam.
    """

    generator: type[nn.Module]
    encoded: int
    latents: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor], tuple[str, torch.Tensor]]
    error: float
    other: float
    betas: tuple[float, float]

    def __call__(
        self, options: Mapping[str, Any], channels: int, size: int, seed: int, device: torch.device
    ) -> AutoencoderTrainer:
        """Make a trainer.

        Raises:
            UserError: photographs of another size than the networks'.
        """
        return AutoencoderTrainer(self, options, channels, size, seed, device)


class AutoencoderTrainer(LatentTrainer):
    """Decoder, its moving average, encoder and optimizer; `step` makes one update."""

    parts = ("generator", "average", "encoder", "optimizer")

    def __init__(
        self, recipe: Recipe, options: Mapping[str, Any], channels: int, size: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        super().__init__(recipe.generator, options, channels, size, seed, device)
        self.recipe = recipe
        outputs = recipe.encoded * recipe.generator.latent
        self.encoder = Encoder(**self.config, outputs=outputs).to(**self.layout)
        self.optimizer = torch.optim.Adam(
            [*self.generator.parameters(), *self.encoder.parameters()],
            lr=float(options["lr"]),
            betas=recipe.betas,
        )

    def step(self, draw: Callable[[], torch.Tensor], number: int, done: float) -> dict[str, float]:
        """Make one update on a batch of photographs: see `Trainer.step`."""
        del done
        recipe = self.recipe
        random = torch.Generator().manual_seed(seed_for(self.seed, "step", number))
        real = draw().to(self.device)
        noise = self.latents(random)
        with autocast(self.device, measured(self.device)):
            found = self.encoder(real).float()
            made = self.generator(recipe.latents(found, noise)).float()
        error = ((made - real) ** 2).sum((1, 2, 3)).mean()
        name, other = recipe.loss(found, noise)
        self.optimizer.zero_grad(set_to_none=True)
        (recipe.error * error + recipe.other * other).backward()
        self.optimizer.step()
        self.update_average(self.generator, number)
        return {"error": error.item(), name: other.item()}
