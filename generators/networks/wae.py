"""WAE: Tolstikhin et al. 2018, "Wasserstein Auto-Encoders" (arXiv 1711.01558), of the MMD kind.

An encoder without noise and a decoder, trained on the squared error of what comes back and on how
far the batch's latents are from the prior (algorithm 2). The decoder enlarges by nearest
neighbours and convolves (Odena et al. 2016): its faces are soft as the VAE's and bear no trace of
transposed convolutions.
"""

from __future__ import annotations

import torch
from torch import nn

from generators.networks.dcgan import init_normal
from generators.training.autoencoding import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper

# Weights of the two terms and the kernel's scales, as the authors' code has them for CelebA.
ERROR, DISTANCE = 0.05, 100.0
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Generator(nn.Module):
    """64 latents -> 4x4 -> 8x8 -> 16x16 -> 32x32 -> 64x64, each enlarged and convolved."""

    latent = 64

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(self.latent, 8 * width * 4 * 4)
        layers: list[nn.Module] = []
        for before, after in ((8, 4), (4, 2), (2, 1), (1, 1)):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before * width, after * width, 3, padding=1, bias=False),
                nn.BatchNorm2d(after * width),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(init_normal)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, 64) to images (N, C, 64, 64) in [-1, 1]."""
        return self.layers(self.linear(z).view(-1, 8 * self.width, 4, 4))


def mean_discrepancy(prior: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Estimate the MMD of two samples with inverse multiquadratics C / (C + ||x - y||^2).

    The unbiased estimate of algorithm 2, summed over kernels with C = scale * 2 D for each of
    `SCALES`; 2 D is the mean squared distance of two draws of N(0, I) (section 4).

    Args:
        prior: float (N, D), drawn of N(0, 1).
        found: float (N, D).

    Returns:
        A scalar; about 0 where both are of one distribution.
    """
    count, width = prior.shape
    others = 1 - torch.eye(count, device=prior.device)
    within = [torch.cdist(sample, sample).square() for sample in (prior, found)]
    between = torch.cdist(prior, found).square()
    total = prior.new_zeros(())
    for scale in SCALES:
        c = 2 * width * scale
        own = sum((c / (c + distance) * others).sum() for distance in within)
        total = total + own / (count * (count - 1)) - 2 * (c / (c + between)).mean()
    return total


def latents(found: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return what the encoder gives, (N, 64), as it is: nothing is drawn."""
    del noise
    return found


def loss(found: torch.Tensor, noise: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Hold the batch's latents to the prior (algorithm 2)."""
    return "distance", mean_discrepancy(noise, found)


PAPER = Paper(
    "Tolstikhin et al. 2018 (arXiv 1711.01558)",
    (
        "a decoder of nearest-neighbour enlargements and 3x3 convolutions, a linear layer to 4x4 "
        "before them (the paper: transposed 5x5 ones, from 8x8)",
        "4x4 kernels, LeakyReLU 0.2 and no batch norm in the encoder's first layer (the authors' "
        "code: 5x5, ReLU, batch norm in all)",
        "latents of N(0, 1) (the paper, for CelebA: a variance of 2)",
        "a sum over seven kernels, and an error weighed by 0.05, as in the authors' code (the "
        "paper: one kernel)",
        "a constant learning rate, and the encoder not trained ahead (the authors' code: lowered "
        "in steps, and trained ahead)",
    ),
    values={"batch": 100, "width": 128, "lr": 1e-3},
    defaults={"ema_images": EMA_IMAGES},
    augmented=False,
)
RECIPE = Recipe(
    Generator,
    encoded=1,
    latents=latents,
    loss=loss,
    error=ERROR,
    other=DISTANCE,
    betas=(0.5, 0.999),
)
