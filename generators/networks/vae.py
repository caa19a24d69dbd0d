"""VAE: Kingma and Welling 2014, "Auto-Encoding Variational Bayes" (arXiv 1312.6114).

The decoder is DCGAN's generator, the encoder its critic with the mean and the log-variance of each
latent for a score. Trained on the negative evidence lower bound (eq. 10) with a Gaussian decoder of
a fixed variance, so its faces are means of what a latent may be: soft by themselves, as no GAN's
are. The encoder is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from generators.networks.dcgan import Generator, down_layers, init_normal
from generators.training.averaged import EMA_IMAGES, LatentTrainer, check_side
from generators.training.differences import Paper
from pipeline.precision import autocast, measured
from pipeline.seeds import seed_for

# Of the decoder, for pixels in [-1, 1].
VARIANCE = 0.5


class Encoder(nn.Module):
    """64x64 -> 32 -> 16 -> 8 -> 4 -> the mean and the log-variance of each latent."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = down_layers(channels, width, bias=True)
        layers.append(nn.Conv2d(8 * width, 2 * Generator.latent, 4, 1, 0))
        self.layers = nn.Sequential(*layers).apply(init_normal)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images (N, C, 64, 64) to means and log-variances, both (N, 100)."""
        mean, log_variance = self.layers(images).flatten(1).chunk(2, 1)
        return mean, log_variance


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL divergence of N(mean, variance) from N(0, 1), in nats: (N, D) -> (N,) (appendix B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


class VaeTrainer(LatentTrainer):
    """Decoder, its moving average, encoder and optimizer; `step` makes one update."""

    parts = ("generator", "average", "encoder", "optimizer")

    def __init__(
        self, options: Mapping[str, Any], channels: int, size: int, seed: int, device: torch.device
    ) -> None:
        """Draw the networks.

        Raises:
            UserError: photographs of another size than the networks'.
        """
        check_side(size)
        super().__init__(Generator, options, channels, seed, device)
        self.encoder = Encoder(**self.config).to(**self.layout)
        self.optimizer = torch.optim.Adam(
            [*self.generator.parameters(), *self.encoder.parameters()], lr=float(options["lr"])
        )

    def step(self, draw: Callable[[], torch.Tensor], number: int, done: float) -> dict[str, float]:
        """Make one update on a batch of photographs: see `Trainer.step`."""
        del done
        random = torch.Generator().manual_seed(seed_for(self.seed, "step", number))
        real = draw().to(self.device)
        noise = self.latents(random)
        with autocast(self.device, measured(self.device)):
            mean, log_variance = (part.float() for part in self.encoder(real))
            made = self.generator(mean + (0.5 * log_variance).exp() * noise).float()
        error = ((made - real) ** 2).sum((1, 2, 3)).mean() / (2 * VARIANCE)
        nats = divergence(mean, log_variance).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (error + nats).backward()
        self.optimizer.step()
        self.update_average(self.generator, number)
        return {"error": error.item(), "nats": nats.item()}


PAPER = Paper(
    "Kingma and Welling 2014 (arXiv 1312.6114)",
    (
        "convolutional networks, DCGAN's (the paper: one hidden layer)",
        f"a Gaussian decoder of fixed variance {VARIANCE} (the paper, for faces: a learned one)",
        "Adam (the paper: Adagrad)",
    ),
    values={"batch": 100},
    defaults={"ema_images": EMA_IMAGES},
    augmented=False,
)
RECIPE = VaeTrainer
