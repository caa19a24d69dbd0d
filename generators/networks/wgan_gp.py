"""WGAN-GP: Gulrajani et al. 2017, "Improved Training of Wasserstein GANs".

Residual generator and critic (appendix C and F, 64x64): each generator block up-samples by nearest
neighbour and has two 3x3 convolutions with batch normalisation before each; each critic block
down-samples by mean pooling and has no batch normalisation, since the penalty is per example.
Penalty weight 10 (algorithm 1), Adam with betas (0, 0.9). `PAPER` lists what differs.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from generators.training.adversarial import Recipe, gradient_penalty
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper

PENALTY = 10.0
# Width of a block's output as a multiple of `width`, at 4x4, 8x8, 16x16, 32x32, 64x64.
WIDTHS = (8, 8, 4, 2, 1)


def conv(before: int, after: int, kernel: int) -> nn.Conv2d:
    """Make a convolution that keeps the size, initialised after He et al. 2015."""
    layer = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class UpBlock(nn.Module):
    """BN, ReLU, up, conv, BN, ReLU, conv; the shortcut is an up-sampled 1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1, self.conv2 = conv(before, after, 3), conv(after, after, 3)
        self.shortcut = conv(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, before, H, W) to (N, after, 2H, 2W)."""
        inner = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        inner = self.conv2(F.relu(self.norm2(inner)))
        return inner + F.interpolate(self.shortcut(x), scale_factor=2)


class DownBlock(nn.Module):
    """ReLU, conv, ReLU, conv, mean pool; the shortcut is a pooled 1x1 convolution."""

    def __init__(self, before: int, after: int, first: bool = False) -> None:
        super().__init__()
        self.first = first
        inner = after if first else before
        self.conv1, self.conv2 = conv(before, inner, 3), conv(inner, after, 3)
        self.shortcut = conv(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, before, H, W) to (N, after, H/2, W/2)."""
        inner = self.conv1(x if self.first else F.relu(x))
        inner = F.avg_pool2d(self.conv2(F.relu(inner)), 2)
        return inner + self.shortcut(F.avg_pool2d(x, 2))


class Generator(nn.Module):
    """128 latents -> FC 4x4 -> four residual up-blocks -> 64x64."""

    latent = 128

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * factor for factor in WIDTHS]
        self.linear = nn.Linear(self.latent, widths[0] * 4 * 4)
        self.blocks = nn.Sequential(
            *(UpBlock(before, after) for before, after in itertools.pairwise(widths))
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.out = conv(widths[-1], channels, 3)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, 128) to images (N, C, 64, 64) in [-1, 1]."""
        x = self.linear(z).view(len(z), -1, 4, 4)  # (N, 8w, 4, 4)
        return torch.tanh(self.out(F.relu(self.norm(self.blocks(x)))))


class Critic(nn.Module):
    """Four residual down-blocks 64x64 -> 4x4, then a linear score."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * factor for factor in reversed(WIDTHS)]
        # As in the paper's CIFAR critic, the first block works on the image itself.
        blocks = [DownBlock(channels, widths[0], first=True)]
        for before, after in itertools.pairwise(widths[:4]):
            blocks.append(DownBlock(before, after))
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(widths[3] * 4 * 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, 64, 64) to scores (N,), higher for photographs."""
        return self.linear(F.relu(self.blocks(images)).flatten(1)).flatten()


def critic_loss(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """E f(fake) - E f(real) + 10 * gradient penalty (eq. 3)."""
    loss = critic(fake).float().mean() - critic(real).float().mean()
    return loss + PENALTY * gradient_penalty(critic, real, fake)


def generator_loss(critic: nn.Module, fake: torch.Tensor) -> torch.Tensor:
    """-E f(fake)."""
    return -critic(fake).float().mean()


def adam(parameters: object, lr: float) -> torch.optim.Optimizer:
    """Adam with betas (0, 0.9) (algorithm 1; the paper's rate is 1e-4)."""
    return torch.optim.Adam(parameters, lr=lr, betas=(0.0, 0.9))


RECIPE = Recipe(Generator, Critic, critic_loss, generator_loss, adam, critic_steps=5)

PAPER = Paper(
    "Gulrajani et al. 2017 (arXiv 1704.00028)",
    (
        "no normalisation in the critic (the authors' 64x64 code: layer norm)",
        "the critic's first block works on the picture itself (so the paper's CIFAR critic)",
    ),
    # 200,000 generator steps of 5 batches each in the authors' 64x64 code.
    values={
        "images": 64_000_000,
        "batch": 64,
        "width": 64,
        "lr": 1e-4,
        "critic_lr": 1e-4,
        "critic_steps": 5,
    },
    defaults={"ema_images": EMA_IMAGES, "critic_steps": RECIPE.critic_steps},
)
