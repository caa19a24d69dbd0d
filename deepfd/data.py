"""Batches: which images stand in a step, which crop of each, and how it is turned.

Pixels stay decoded, in one uint8 tensor. All positions of a training are drawn before it, from
streams of their own, so that methods with the same seed see the same images in the same order
whatever their loss, and a step only looks up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.folds import Images

# The authors' jitter: factors and shifts of at most 5 %.
SATURATION = CONTRAST = BRIGHTNESS = 0.05
LUMA = (0.299, 0.587, 0.114)
SYMMETRIES = 8  # flips and transposes of a square


def generator(seed: int) -> torch.Generator:
    """Return a random stream of its own (on the CPU: the same draws on every device)."""
    return torch.Generator().manual_seed(seed)


def to_tensor(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Turn uint8 (N, H, W, C) into a uint8 (N, C, H, W) tensor, channels last."""
    return torch.tensor(pixels, device=device).permute(0, 3, 1, 2)


def to_input(pixels: Tensor) -> Tensor:
    """Scale uint8 pixels to float32 in [-1, 1], as `pipeline.images.to_unit` does."""
    return pixels.float() / 127.5 - 1.0


def _sources(images: Images) -> tuple[list[Tensor], list[Tensor]]:
    """Return the positions of each collection of photographs, and of each generator's fakes.

    Raises:
        UserError: one of the classes is empty.
    """
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label, places in enumerate(found):
        for name in np.unique(images.generators[images.labels == label]).tolist():
            own = (images.generators == name) & (images.labels == label)
            places.append(torch.from_numpy(np.flatnonzero(own)))
    if not all(found):
        reals = int((images.labels == 0).sum())
        raise UserError(
            f"training has {reals} photographs and {len(images) - reals} fakes; expected some of "
            "both"
        )
    return found


def _rounds(length: int, count: int, stream: torch.Generator) -> Tensor:
    """Draw `count` numbers of 0 .. length - 1: each once in every round, in a new order each."""
    rounds = -(-count // length)
    return torch.rand(rounds, length, generator=stream).argsort(dim=1).flatten()[:count]


def _mixed(sources: Sequence[Tensor], count: int, stream: torch.Generator) -> Tensor:
    """Draw `count` positions, each source equally often however many images it has."""
    turns = _rounds(len(sources), count, stream)
    drawn = torch.empty(count, dtype=torch.int64)
    for number, positions in enumerate(sources):
        mine = turns == number
        drawn[mine] = positions[_rounds(len(positions), int(mine.sum()), stream)]
    return drawn


def balanced(images: Images, steps: int, batch: int, seed: int) -> Tensor:
    """Draw int64 positions (steps, batch): photograph, fake, photograph, fake, ...

    Photographs are mixed evenly over collections, fakes evenly over generators. Any two of them
    differ by at most one image in a batch, apart from a round's end.

    Raises:
        UserError: one of the classes is empty.
    """
    stream = generator(seed)
    halves = [_mixed(places, steps * batch // 2, stream) for places in _sources(images)]
    return torch.stack(halves, dim=1).view(steps, batch)


def pair_batches(
    images: Images, steps: int, batch: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield `steps` times (first (batch,), second (batch,), same (batch,)), as the authors' pairs.

    Half of the pairs are of one class, half of those two photographs and half two fakes (of any
    generators); the other half are a photograph and a fake, in either order. The two of a pair are
    different images wherever the class has two.
    """
    stream = generator(seed)
    # Twice as many as are needed at most: the last of one round may be the first of the next.
    classes = [iter(_mixed(p, 2 * steps * batch, stream).tolist()) for p in _sources(images)]
    kinds = [i % 4 for i in range(batch)]  # real-real, real-fake, fake-fake, fake-real
    for _ in range(steps):
        first = [next(classes[kind // 2]) for kind in kinds]
        second = []
        for one, kind in zip(first, kinds, strict=True):
            source = classes[kind in (1, 2)]
            other = next(source)
            second.append(other if other != one else next(source))
        yield (
            torch.tensor(first),
            torch.tensor(second),
            torch.tensor([kind % 2 == 0 for kind in kinds]),
        )


@dataclass(frozen=True)
class Crops:
    """Where each image of each step is cut out, and how the cut is turned.

    Attributes:
        side: of the crops, in pixels.
        top: int64 (steps, batch).
        left: int64 (steps, batch).
        symmetry: int64 (steps, batch), 0 .. 7; bits: up-down, left-right, transposed.
    """

    side: int
    top: Tensor
    left: Tensor
    symmetry: Tensor

    @classmethod
    def drawn(cls, steps: int, batch: int, size: int, side: int, seed: int) -> Crops:
        """Draw places and symmetries for pictures of `size` pixels, each equally likely."""
        stream, side = generator(seed), min(side, size)
        top, left = (
            torch.randint(size - side + 1, (steps, batch), generator=stream) for _ in range(2)
        )
        symmetry = torch.randint(SYMMETRIES, (steps, batch), generator=stream)
        return cls(side, top, left, symmetry)

    @classmethod
    def beside(cls, several: Sequence[Crops]) -> Crops:
        """Put the batches of several trainings side by side: a step has those of all."""
        parts = ([getattr(one, name) for one in several] for name in ("top", "left", "symmetry"))
        return cls(several[0].side, *(torch.cat(part, dim=1) for part in parts))

    def cut(self, pixels: Tensor, positions: Tensor, step: int) -> Tensor:
        """Look up the crops of a step in one indexing.

        Args:
            pixels: uint8 (N, C, size, size).
            positions: int64 (batch,), into `pixels`.
            step: which step's places.

        Returns:
            uint8 (batch, C, side, side), channels last.
        """
        device = pixels.device
        top, left, symmetry = (
            one[step].to(device)[:, None] for one in (self.top, self.left, self.symmetry)
        )
        along = torch.arange(self.side, device=device)
        back = self.side - 1 - along
        rows = torch.where((symmetry & 1).bool(), back, along) + top
        columns = torch.where((symmetry & 2).bool(), back, along) + left
        rows, columns = rows[:, :, None], columns[:, None, :]  # (batch, side, 1), (batch, 1, side)
        turned = (symmetry & 4).bool()[:, :, None]
        rows, columns = (
            torch.where(turned, rows.transpose(1, 2), rows),
            torch.where(turned, columns.transpose(1, 2), columns),
        )  # (batch, side, side)
        index = positions.to(device)[:, None, None]
        return pixels.permute(0, 2, 3, 1)[index, rows, columns].permute(0, 3, 1, 2)


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
