"""VAE: Kingma and Welling 2014, "Auto-Encoding Variational Bayes" (arXiv 1312.6114).

The decoder is DCGAN's generator, the encoder its critic with the mean and the log-variance of each
latent for a score. Trained on the negative evidence lower bound (eq. 10) with a Gaussian decoder of
a fixed variance, so its faces are means of what a latent may be: soft by themselves, as no GAN's
are.
"""

from __future__ import annotations

import torch

from generators.networks.dcgan import Generator
from generators.training.autoencoding import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper

# Of the decoder, for pixels in [-1, 1].
VARIANCE = 0.5


def latents(found: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Draw latents (N, 100) of what the encoder gives, means and log-variances, (N, 200)."""
    mean, log_variance = found.chunk(2, 1)
    return mean + (0.5 * log_variance).exp() * noise


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL divergence of N(mean, variance) from N(0, 1), in nats: (N, D) -> (N,) (appendix B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


def loss(found: torch.Tensor, noise: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Charge for what the latents say (eq. 10)."""
    del noise
    return "nats", divergence(*found.chunk(2, 1)).mean()


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
RECIPE = Recipe(
    Generator,
    encoded=2,
    latents=latents,
    loss=loss,
    error=1 / (2 * VARIANCE),
    other=1.0,
    betas=(0.9, 0.999),
)
