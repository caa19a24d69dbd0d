"""WGAN: Arjovsky, Chintala, Bottou 2017, "Wasserstein GAN".

The critic's weights are clipped to [-0.01, 0.01] after each of its 5 updates per generator update,
both are trained by RMSProp (algorithm 1). Networks as in the authors' code: the DCGAN layout with
an extra 3x3 layer before the last up-sampling (`n_extra_layers`) and no sigmoid.
"""

from __future__ import annotations

import torch
from torch import nn

from generators.networks.dcgan import down_layers, init_normal, up_layers
from generators.training.adversarial import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper

CLIP = 0.01


class Generator(nn.Module):
    """100 latents -> 4x4 -> ... -> 32x32, one extra layer there, -> 64x64."""

    latent = 100

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = up_layers(self.latent, width)
        layers += [
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers).apply(init_normal)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, 100) to images (N, C, 64, 64) in [-1, 1]."""
        return self.layers(z[:, :, None, None])


class Critic(nn.Module):
    """64x64 -> 32 -> 16 -> 8 -> 4 -> a score without bound, higher for photographs."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = down_layers(channels, width, bias=False)
        layers.append(nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False))
        self.layers = nn.Sequential(*layers).apply(init_normal)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, 64, 64) to scores (N,)."""
        return self.layers(images).flatten()


def critic_loss(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """E f(fake) - E f(real): minus the estimate of the Wasserstein distance (eq. 3)."""
    return critic(fake).float().mean() - critic(real).float().mean()


def generator_loss(critic: nn.Module, fake: torch.Tensor) -> torch.Tensor:
    """-E f(fake)."""
    return -critic(fake).float().mean()


@torch.no_grad()
def clip_weights(critic: nn.Module) -> None:
    """Keep every weight of the critic in [-0.01, 0.01] (algorithm 1, line 7)."""
    torch._foreach_clamp_max_(list(critic.parameters()), CLIP)
    torch._foreach_clamp_min_(list(critic.parameters()), -CLIP)


def rmsprop(parameters: object, lr: float) -> torch.optim.Optimizer:
    """RMSProp (the paper's rate is 5e-5)."""
    return torch.optim.RMSprop(parameters, lr=lr)


RECIPE = Recipe(
    Generator,
    Critic,
    critic_loss,
    generator_loss,
    rmsprop,
    critic_steps=5,
    after_critic_step=clip_weights,
)

PAPER = Paper(
    "Arjovsky et al. 2017 (arXiv 1701.07875)",
    (),
    values={"batch": 64, "width": 64, "lr": 5e-5, "critic_steps": 5},
    defaults={"ema_images": EMA_IMAGES, "critic_steps": RECIPE.critic_steps},
)
