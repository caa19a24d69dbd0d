"""LSGAN: Mao et al. 2017, "Least Squares Generative Adversarial Networks".

The paper's own generator (figure 5): a fully connected layer, then stride-2 transposed convolutions
of which the first two are each followed by a stride-1 one, 256 wide until 16x16. Scaled from
112x112 to 64x64. Least-squares losses with a = 0, b = c = 1 (eq. 9), Adam with beta1 0.5.

Where `kernel` is odd, the windows of a stride-2 layer overlap unevenly (Odena et al. 2016,
"Deconvolution and Checkerboard Artifacts"); those of 4 overlap evenly, though what the weights
learn may still differ from place to place.
"""

from __future__ import annotations

import torch
from torch import nn

from generators.networks.dcgan import adam, down_layers, init_normal
from generators.training.adversarial import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper


class Generator(nn.Module):
    """1024 latents -> FC 4x4 -> 8x8 (twice) -> 16x16 (twice) -> 32x32 -> 64x64 -> image."""

    latent = 1024
    further = ("kernel",)

    def __init__(self, channels: int, width: int, kernel: int = 3) -> None:
        """Draw the network; `kernel`: side of the stride-2 layers' kernels."""
        super().__init__()
        self.width = width

        def up(before: int, after: int, stride: int) -> list[nn.Module]:
            # 3x3 kernels keep the doubled layers affordable on a CPU.
            side = 3 if stride == 1 else kernel
            conv = nn.ConvTranspose2d(
                before, after, side, stride, (side - 1) // 2,
                output_padding=(stride - side) % 2, bias=False,
            )  # fmt: skip
            return [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]

        self.linear = nn.Linear(self.latent, 4 * width * 4 * 4, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(
            *up(4 * width, 4 * width, 2),  # 8x8
            *up(4 * width, 4 * width, 1),
            *up(4 * width, 4 * width, 2),  # 16x16
            *up(4 * width, 4 * width, 1),
            *up(4 * width, 2 * width, 2),  # 32x32
            *up(2 * width, width, 2),  # 64x64
            nn.ConvTranspose2d(width, channels, 3, 1, 1),
            nn.Tanh(),
        )
        self.apply(init_normal)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, 1024) to images (N, C, 64, 64) in [-1, 1]."""
        x = self.linear(z).view(-1, 4 * self.width, 4, 4)  # (N, 4w, 4, 4)
        return self.layers(self.norm(x))


class Critic(nn.Module):
    """5x5 stride-2 convolutions 64x64 -> 4x4, then a linear score."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = down_layers(channels, width, bias=True, kernel=5)
        layers += [nn.Flatten(), nn.Linear(8 * width * 4 * 4, 1)]
        self.layers = nn.Sequential(*layers).apply(init_normal)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, 64, 64) to scores (N,): 1 means photograph, 0 fake."""
        return self.layers(images).flatten()


def critic_loss(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """1/2 E (D(real) - 1)^2 + 1/2 E D(fake)^2 (eq. 9)."""
    return 0.5 * ((critic(real).float() - 1) ** 2).mean() + 0.5 * (critic(fake).float() ** 2).mean()


def generator_loss(critic: nn.Module, fake: torch.Tensor) -> torch.Tensor:
    """1/2 E (D(fake) - 1)^2 (eq. 9)."""
    return 0.5 * ((critic(fake).float() - 1) ** 2).mean()


PAPER = Paper(
    "Mao et al. 2017 (arXiv 1611.04076)",
    (
        "64x64 and 3x3 kernels in the generator, unless `kernel` is given for its stride-2 layers "
        "(the paper: 112x112, 5x5)",
    ),
    values={"batch": 64, "width": 64, "kernel": 5},
    defaults={"ema_images": EMA_IMAGES},
)
RECIPE = Recipe(Generator, Critic, critic_loss, generator_loss, adam)
