"""Batches: which images stand in a step, and how they are jittered.

Pixels stay decoded, in one uint8 tensor; a step draws positions from its own random stream, so that
methods with the same seed see the same images in the same order whatever their loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.folds import Images

# The authors' jitter: factors and shifts of at most 5 %.
SATURATION = CONTRAST = BRIGHTNESS = 0.05
LUMA = (0.299, 0.587, 0.114)


def generator(seed: int) -> torch.Generator:
    """Return a random stream of its own (on the CPU: the same draws on every device)."""
    return torch.Generator().manual_seed(seed)


def to_tensor(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Turn uint8 (N, H, W, C) into a uint8 (N, C, H, W) tensor, channels last."""
    return torch.tensor(pixels, device=device).permute(0, 3, 1, 2)


def to_input(pixels: Tensor) -> Tensor:
    """Scale uint8 pixels to float32 in [-1, 1], as `pipeline.images.to_unit` does."""
    return pixels.float() / 127.5 - 1.0


def _cycle(positions: np.ndarray, stream: torch.Generator) -> Iterator[int]:
    """Yield positions for ever, each once in every round, in a new order each round."""
    while True:
        for position in torch.randperm(len(positions), generator=stream).tolist():
            yield int(positions[position])


def _by_class(images: Images) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the positions of photographs, and those of fakes for each generator.

    Raises:
        UserError: one of the classes is empty.
    """
    reals = np.flatnonzero(images.labels == 0)
    names = np.unique(images.generators[images.labels == 1])
    fakes = [
        np.flatnonzero((images.generators == name) & (images.labels == 1))
        for name in names.tolist()
    ]
    if not len(reals) or not fakes:
        raise UserError(
            f"training has {len(reals)} photographs and {len(images) - len(reals)} fakes; "
            "expected some of both"
        )
    return reals, fakes


def _mixed(fakes: list[np.ndarray], stream: torch.Generator) -> Iterator[int]:
    """Yield fakes for ever, each generator equally often however many images it has."""
    sources = [_cycle(positions, stream) for positions in fakes]
    for source in _cycle(np.arange(len(sources)), stream):
        yield next(sources[source])


def balanced_batches(images: Images, batch: int, seed: int) -> Iterator[Tensor]:
    """Yield positions (batch,) for ever: half photographs, half fakes mixed evenly.

    Any two generators differ by at most one image in a batch, apart from a round's end.
    """
    stream = generator(seed)
    reals, fakes = _by_class(images)
    real, fake = _cycle(reals, stream), _mixed(fakes, stream)
    while True:
        yield torch.tensor([next(fake if i % 2 else real) for i in range(batch)])


def pair_batches(images: Images, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (first (batch,), second (batch,), same (batch,)) for ever, as the authors' pairs.

    Half of the pairs are of one class, half of those two photographs and half two fakes (of any
    generators); the other half are a photograph and a fake, in either order. The two of a pair are
    different images wherever the class has two.
    """
    stream = generator(seed)
    reals, fakes = _by_class(images)
    real, fake = _cycle(reals, stream), _mixed(fakes, stream)

    def pair(kind: int) -> tuple[int, int]:
        """Draw one pair; kinds 0..3 are real-real, real-fake, fake-fake, fake-real."""
        one, other = (real, fake)[kind // 2], (real, fake)[kind in (1, 2)]
        first, second = next(one), next(other)
        # The last of one round may be the first of the next.
        return first, second if second != first else next(other)

    while True:
        kinds = [i % 4 for i in range(batch)]
        first, second = zip(*(pair(kind) for kind in kinds), strict=True)
        same = torch.tensor([kind % 2 == 0 for kind in kinds])
        yield torch.tensor(first), torch.tensor(second), same


def _uniform(count: int, reach: float, stream: torch.Generator, like: Tensor) -> Tensor:
    """Draw (count, 1, 1, 1) uniformly from [-reach, reach]."""
    draw = torch.rand(count, 1, 1, 1, generator=stream) * (2 * reach) - reach
    return draw.to(like.device)


def augment(x: Tensor, stream: torch.Generator) -> Tensor:
    """Flip at random and jitter saturation, brightness and contrast by up to 5 %, per image.

    Args:
        x: float32 (N, C, H, W) in [-1, 1].
        stream: where the draws come from.

    Returns:
        The same shape, clipped to [-1, 1]. Grey images have no saturation to jitter.
    """
    count = len(x)
    flip = (torch.rand(count, 1, 1, 1, generator=stream) < 0.5).to(x.device)
    x = torch.where(flip, x.flip(3), x)
    if x.shape[1] == 3:
        grey = (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = grey + (x - grey) * (1 + _uniform(count, SATURATION, stream, x))
    x = x + 2 * _uniform(count, BRIGHTNESS, stream, x)
    mean = x.mean(dim=(2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + _uniform(count, CONTRAST, stream, x))
    return x.clamp(-1, 1)
