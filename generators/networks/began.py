"""BEGAN: Berthelot et al. 2017, "BEGAN: Boundary Equilibrium Generative Adversarial Networks".

The critic is an autoencoder and its score how badly it brings a picture back, the mean absolute
error; the decoder is built as the generator is: convolutions between nearest-neighbour
enlargements, no normalisation (figure 1). A weight `k` on the fakes holds the two errors in
proportion (section 3.4); gamma, within the paper's range, is `DIVERSITY`. Its faces are smooth and
bear no trace of transposed convolutions.
"""

from __future__ import annotations

import torch
from torch import nn

from generators.training.adversarial import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper

LATENT, SMALL, LEVELS = 64, 8, 4
# E L(G(z)) / E L(x) that is held (eq. 8), and how fast `k` follows.
DIVERSITY, GAIN = 0.7, 0.001


def conv(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    """Convolve 3x3, then ELU."""
    return [nn.Conv2d(before, after, 3, stride, 1), nn.ELU(inplace=True)]


class Generator(nn.Module):
    """64 latents -> 8x8 -> 16x16 -> 32x32 -> 64x64, two convolutions at each."""

    latent = LATENT

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(LATENT, width * SMALL * SMALL)
        layers: list[nn.Module] = []
        for level in range(LEVELS):
            layers += conv(width, width) + conv(width, width)
            if level < LEVELS - 1:
                layers.append(nn.Upsample(scale_factor=2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, 64) to images (N, C, 64, 64), not bounded: clipped where written."""
        return self.layers(self.linear(z).view(-1, self.width, SMALL, SMALL))


class Critic(nn.Module):
    """An encoder 64x64 -> 8x8 -> 64 numbers, and a decoder like the generator.

    `k` weighs the fakes; it is part of the state, as it is what the training has come to.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = conv(channels, width)
        for level in range(1, LEVELS + 1):
            layers += conv(level * width, level * width)
            if level < LEVELS:
                layers += conv(level * width, (level + 1) * width, stride=2)
        layers += [nn.Flatten(), nn.Linear(LEVELS * width * SMALL * SMALL, LATENT)]
        self.encoder = nn.Sequential(*layers)
        self.decoder = Generator(channels, width)
        self.register_buffer("k", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, 64, 64) to how badly they are brought back, float32 (N,) (eq. 1)."""
        found = self.decoder(self.encoder(images))
        return (found.float() - images.float()).abs().mean((1, 2, 3))


def critic_loss(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """E L(x) - k E L(G(z)), then k follows the proportion of the two (section 3.4)."""
    errors = critic(real).mean(), critic(fake).mean()
    loss = errors[0] - critic.k.clone() * errors[1]
    with torch.no_grad():
        critic.k.add_(GAIN * (DIVERSITY * errors[0] - errors[1])).clamp_(0, 1)
    return loss


def generator_loss(critic: nn.Module, fake: torch.Tensor) -> torch.Tensor:
    """E L(G(z)) (section 3.4)."""
    return critic(fake).mean()


PAPER = Paper(
    "Berthelot et al. 2017 (arXiv 1703.10717)",
    (
        "normal latents (the paper: uniform)",
        "a constant learning rate (the paper: halved where the measure of convergence stalls)",
        "k follows the critic's own fakes, augmented (the paper: those of the generator's update)",
        "one convolution before each of stride 2 in the encoder (the paper: each repeated, twice "
        "as a rule)",
    ),
    values={"batch": 16, "width": 128, "lr": 1e-4},
    defaults={"ema_images": EMA_IMAGES},
    batch_norm=False,
)
RECIPE = Recipe(Generator, Critic, critic_loss, generator_loss, torch.optim.Adam)
