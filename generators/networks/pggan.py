"""PGGAN: Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, ...".

Generator and critic grow from 4x4 to 64x64; a new resolution is faded in by alpha (section 2).
Equalised learning rate (4.1): weights from N(0, 1), scaled at run time by He's constant. Pixelwise
feature normalisation in the generator (4.2). Minibatch standard deviation as an extra map before
the critic's last block (3). One critic step per generator step, Adam with betas (0, 0.99)
(appendix A). No tanh: the paper's output is linear; it is clipped to [-1, 1] where images are
written. The loss is the logistic one with a gradient penalty on photographs (R1, Mescheder et al.
2018), which the same authors moved to in StyleGAN; `PAPER` lists this and what else differs.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F

from generators.training.adversarial import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper

# Weight of R1 per pixel and 1 / batch (Karras et al. 2020, arXiv 2006.06676, appendix C): small
# images differ by little, and a stronger penalty keeps the critic from telling them apart.
R1_WEIGHT = 2e-4
# The penalty is laid on one step in so many, that much stronger ("lazy", Karras et al. 2020,
# arXiv 1912.04958, appendix B): the same in the mean, and a third of the training's time less.
R1_EVERY = 4
# Maps at 4x4, 8x8, 16x16, 32x32, 64x64 as multiples of `width`.
WIDTHS = (8, 8, 4, 2, 1)
LEVELS = len(WIDTHS)
# Share of the training at whose end each resolution is reached whole: fade-in, then stabilise.
# The low resolutions are cheap in time, so they are given fewer images than the paper's equal cut.
STAGE_ENDS = (0.08, 0.18, 0.32, 0.5, 1.0)


class Equalised(nn.Module):
    """A convolution or linear layer whose weights are N(0, 1) times He's constant (4.1)."""

    def __init__(self, before: int, after: int, kernel: int = 1, gain: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after))
        self.scale = math.sqrt(gain / (before * kernel * kernel))
        self.padding = kernel // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, before, H, W) to (N, after, H, W)."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


def pixel_norm(x: torch.Tensor) -> torch.Tensor:
    """Scale each pixel's feature vector to unit mean square (eq. 2)."""
    return x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-8).to(x.dtype)


def minibatch_std(x: torch.Tensor) -> torch.Tensor:
    """Append one map that holds the mean standard deviation over the batch (section 3)."""
    std = (x.float().var(0, correction=0) + 1e-8).sqrt().mean()
    return torch.cat([x, std.expand(len(x), 1, *x.shape[2:]).to(x.dtype)], 1)


class Growing(nn.Module):
    """State of growth: `level` 0 is 4x4, 4 is 64x64; the newest level counts by `alpha`."""

    def __init__(self) -> None:
        super().__init__()
        self.level, self.alpha = LEVELS - 1, 1.0


class Generator(Growing):
    """512/8-wide latents -> 4x4 -> ... -> 64x64, one to-image layer per resolution."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * factor for factor in WIDTHS]
        self.latent = widths[0]
        self.first = Equalised(self.latent, widths[0] * 16, gain=2.0 / 16)
        self.first_conv = Equalised(widths[0], widths[0], 3)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Equalised(before, after, 3), Equalised(after, after, 3)])
            for before, after in itertools.pairwise(widths)
        )
        self.to_image = nn.ModuleList(Equalised(w, channels, gain=1.0) for w in widths)

    def _shown(self, level: int) -> bool:
        fading = self.alpha < 1 and level == self.level - 1
        return level == self.level or fading

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, Z) to images (N, C, S, S), S = 4 * 2**level, about [-1, 1]."""
        x = self.first(pixel_norm(z)[:, :, None, None])  # (N, 16 * Z, 1, 1)
        x = pixel_norm(F.leaky_relu(x.view(len(z), -1, 4, 4), 0.2))
        x = pixel_norm(F.leaky_relu(self.first_conv(x), 0.2))
        image = self.to_image[0](x) if self._shown(0) else None
        for level in range(1, self.level + 1):
            x = F.interpolate(x, scale_factor=2)
            for conv in self.blocks[level - 1]:
                x = pixel_norm(F.leaky_relu(conv(x), 0.2))
            if self._shown(level):
                before, image = image, self.to_image[level](x)
                if level == self.level and self.alpha < 1:
                    image = torch.lerp(
                        F.interpolate(before, scale_factor=2).float(), image.float(), self.alpha
                    )
        return image


class Critic(Growing):
    """The mirror of the generator, with minibatch standard deviation before the last block."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * factor for factor in WIDTHS]
        self.from_image = nn.ModuleList(Equalised(channels, w) for w in widths)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Equalised(after, after, 3), Equalised(after, before, 3)])
            for before, after in itertools.pairwise(widths)
        )
        self.last_conv = Equalised(widths[0] + 1, widths[0], 3)
        self.last = Equalised(widths[0] * 16, widths[0])
        self.score = Equalised(widths[0], 1, gain=1.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, S, S) of the current level to scores (N,)."""
        x = F.leaky_relu(self.from_image[self.level](images), 0.2)
        for level in range(self.level, 0, -1):
            for conv in self.blocks[level - 1]:
                x = F.leaky_relu(conv(x), 0.2)
            x = F.avg_pool2d(x, 2)
            if level == self.level and self.alpha < 1:
                small = self.from_image[level - 1](F.avg_pool2d(images, 2))
                x = torch.lerp(F.leaky_relu(small, 0.2).float(), x.float(), self.alpha)
        x = F.leaky_relu(self.last_conv(minibatch_std(x)), 0.2)
        x = F.leaky_relu(self.last(x.flatten(1)[:, :, None, None]), 0.2)
        return self.score(x).flatten()


def grow(network: Growing, done: float) -> None:
    """Set level and alpha for a share `done` of the training: half fade-in, half stabilising."""
    start = 0.0
    for level, end in enumerate(STAGE_ENDS):
        if done < end or level == LEVELS - 1:
            # The last resolution is faded in over a fifth of its stage only.
            fade = (end - start) * (0.5 if level < LEVELS - 1 else 0.2)
            network.level = level
            network.alpha = 1.0 if level == 0 else min(1.0, (done - start) / fade)
            return
        start = end


def view(real: torch.Tensor, generator: Growing) -> torch.Tensor:
    """Bring photographs to the current resolution, blended like the generator's images."""
    real = F.adaptive_avg_pool2d(real, 4 * 2**generator.level)
    if generator.alpha < 1:
        coarse = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2)
        real = torch.lerp(coarse, real, generator.alpha)
    return real


def critic_loss(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """-log D(real) - log(1 - D(fake)) + gamma / 2 E ||grad D(real)||^2, from logits.

    Which steps carry the penalty comes from torch's global generator, which `GanTrainer.step`
    seeds.
    """
    on_fake = F.softplus(critic(fake).float()).mean()
    if torch.rand(()) * R1_EVERY >= 1:
        return F.softplus(-critic(real).float()).mean() + on_fake
    real = real.detach().float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):  # second derivatives need float32
        on_real = critic(real)
        (gradient,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
    weight = R1_EVERY * R1_WEIGHT * real.shape[2] * real.shape[3] / len(real)
    penalty = 0.5 * weight * gradient.square().sum((1, 2, 3)).mean()
    return F.softplus(-on_real).mean() + on_fake + penalty


def generator_loss(critic: nn.Module, fake: torch.Tensor) -> torch.Tensor:
    """-log D(fake), the non-saturating form."""
    return F.softplus(-critic(fake).float()).mean()


def adam(parameters: object, lr: float) -> torch.optim.Optimizer:
    """Adam with betas (0, 0.99) (appendix A.1; the paper's rate is 1e-3)."""
    return torch.optim.Adam(parameters, lr=lr, betas=(0.0, 0.99))


PAPER = Paper(
    "Karras et al. 2018 (arXiv 1710.10196)",
    (
        f"logistic loss with R1 of weight {R1_WEIGHT:g} times pixels by batch, on one step of "
        f"{R1_EVERY} and {R1_EVERY} times as strong there (the paper: WGAN-GP of weight 10 with a "
        "drift term)",
        "resolutions from 4x4 to 64x64 are complete at "
        f"{', '.join(f'{end:.0%}' for end in STAGE_ENDS)} of the training, the last is faded in "
        "over a fifth of its share (the paper: equal shares, half of each faded in)",
        f"{', '.join(map(str, WIDTHS))} times the width in maps, as many latents as first maps "
        "(the paper: 512, 512, 512, 512, 256, and 512 latents)",
    ),
    # 800,000 to stabilise each of five resolutions, as many to fade in each but the first.
    values={"images": 7_200_000, "batch": 16, "lr": 1e-3},
    defaults={"ema_images": EMA_IMAGES},
    average="decay 0.999 a step",
    batch_norm=False,
)
RECIPE = Recipe(Generator, Critic, critic_loss, generator_loss, adam, grow=grow, view=view)
