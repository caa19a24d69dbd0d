"""Differentiable augmentation: what lets a GAN learn from a few hundred photographs.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training" (arXiv 2006.10738):
the same random colour, translation and cut-out is laid on photographs and fakes before the critic,
in both its own update and the generator's, so that the critic cannot learn the photographs by heart
and the generator does not learn the augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

POLICY = ("colour", "translation", "cutout")


def diff_augment(
    images: torch.Tensor, generator: torch.Generator, policy: Sequence[str] = POLICY
) -> torch.Tensor:
    """Augment each image on its own: brightness, saturation, contrast, translation, cut-out.

    Args:
        images: float (N, C, H, W) in [-1, 1]; gradients flow through.
        generator: source of the draws.
        policy: which of `POLICY` are laid on.

    Returns:
        float (N, C, H, W); values may leave [-1, 1] a little.
    """
    n, channels, height, width = images.shape

    def uniform(low: float, high: float) -> torch.Tensor:
        draw = torch.rand(n, 1, 1, 1, generator=generator, device=generator.device)
        return (draw * (high - low) + low).to(images.device)

    def integers(low: int, high: int) -> torch.Tensor:
        draw = torch.randint(low, high, (n, 1), generator=generator, device=generator.device)
        return draw.to(images.device)

    if "colour" in policy:
        images = images + uniform(-0.5, 0.5)
        if channels == 3:
            grey = images.mean(1, keepdim=True)
            images = (images - grey) * uniform(0, 2) + grey
        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * uniform(0.5, 1.5) + mean

    if "translation" in policy:  # by up to an eighth, grey (0) where nothing is left
        dy, dx = height // 8, width // 8
        rows = torch.arange(height, device=images.device) + integers(-dy, dy + 1) + dy  # (N, H)
        columns = torch.arange(width, device=images.device) + integers(-dx, dx + 1) + dx  # (N, W)
        padded = F.pad(images, (dx, dx, dy, dy)).permute(0, 2, 3, 1)
        batch = torch.arange(n, device=images.device)[:, None, None]
        images = padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    if "cutout" in policy:  # a square of half the side
        half_h, half_w = height // 4, width // 4
        y = torch.arange(height, device=images.device)
        x = torch.arange(width, device=images.device)
        inside_y = (y - integers(0, height)).abs() < half_h  # (N, H)
        inside_x = (x - integers(0, width)).abs() < half_w  # (N, W)
        keep = ~(inside_y[:, :, None] & inside_x[:, None, :])
        images = images * keep[:, None].to(images.dtype)
    return images
