"""DCGAN: Radford, Metz, Chintala 2015, "Unsupervised Representation Learning with DCGAN".

Generator and discriminator of fractionally-strided and strided 4x4 convolutions with batch
normalisation in both (section 3), ReLU in the generator, LeakyReLU 0.2 in the discriminator, all
weights from N(0, 0.02), Adam with beta1 0.5, and the non-saturating loss of Goodfellow et al. 2014.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from generators.training.adversarial import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper


def init_normal(module: nn.Module) -> None:
    """Set convolutions to N(0, 0.02) and batch-norm scales to N(1, 0.02) (section 4)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def up_layers(latent: int, width: int) -> list[nn.Module]:
    """Take latents (N, latent, 1, 1) to maps (N, width, 32, 32) by way of 4x4, 8x8 and 16x16."""
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(latent, 8 * width, 4, 1, 0, bias=False),
        nn.BatchNorm2d(8 * width),
        nn.ReLU(inplace=True),
    ]
    for wide, narrow in ((8, 4), (4, 2), (2, 1)):
        layers += [
            nn.ConvTranspose2d(wide * width, narrow * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(narrow * width),
            nn.ReLU(inplace=True),
        ]
    return layers


def down_layers(channels: int, width: int, bias: bool, kernel: int = 4) -> list[nn.Module]:
    """Take images (N, C, 64, 64) to maps (N, 8 * width, 4, 4); `bias`: of the first layer."""
    padding = (kernel - 1) // 2  # halves the side
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, 2, padding, bias=bias),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    for narrow, wide in ((1, 2), (2, 4), (4, 8)):
        layers += [
            nn.Conv2d(narrow * width, wide * width, kernel, 2, padding, bias=False),
            nn.BatchNorm2d(wide * width),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return layers


class Generator(nn.Module):
    """100 latents -> 4x4 -> 8x8 -> 16x16 -> 32x32 -> 64x64."""

    latent = 100

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = up_layers(self.latent, width)
        layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers).apply(init_normal)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, 100) to images (N, C, 64, 64) in [-1, 1]."""
        return self.layers(z[:, :, None, None])


class Critic(nn.Module):
    """The discriminator: 64x64 -> 32 -> 16 -> 8 -> 4 -> logit of real."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = down_layers(channels, width, bias=True)
        layers.append(nn.Conv2d(8 * width, 1, 4, 1, 0))
        self.layers = nn.Sequential(*layers).apply(init_normal)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, 64, 64) to logits (N,)."""
        return self.layers(images).flatten()


def critic_loss(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """-log D(real) - log(1 - D(fake)), from logits."""
    return F.softplus(-critic(real).float()).mean() + F.softplus(critic(fake).float()).mean()


def generator_loss(critic: nn.Module, fake: torch.Tensor) -> torch.Tensor:
    """-log D(fake), the non-saturating form."""
    return F.softplus(-critic(fake).float()).mean()


def adam(parameters: object, lr: float) -> torch.optim.Optimizer:
    """Adam with beta1 0.5 (section 4; the paper's rate is 2e-4)."""
    return torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.999))


PAPER = Paper(
    "Radford et al. 2016 (arXiv 1511.06434)",
    ("4x4 kernels and normal latents, as the authors' Torch code (the paper: 5x5, uniform)",),
    values={"batch": 128, "width": 128, "lr": 2e-4},
    defaults={"ema_images": EMA_IMAGES},
)
RECIPE = Recipe(Generator, Critic, critic_loss, generator_loss, adam)
