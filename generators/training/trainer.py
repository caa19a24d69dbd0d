"""What trains a generator promises, whatever it trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pipeline.manifest import write_atomic

SAMPLED = 64  # images that are made at once to look at a training


class Trainer(Protocol):
    """A training in progress. Every random draw of it is named by a seed and a step's number.

    Attributes:
        device: where it runs.
        batch: photographs that `draw` is asked for at a time.
    """

    device: torch.device
    batch: int

    @property
    def images_per_step(self) -> int:
        """Photographs used in one `step`."""

    def step(self, draw: Callable[[], torch.Tensor], number: int, done: float) -> dict[str, float]:
        """Make one update of the generator and what belongs to it.

        Args:
            draw: gives a batch of photographs, float (N, C, H, W) in [-1, 1].
            number: number of the step: with the seed it names every random draw.
            done: share of the training that is done, in [0, 1).

        Returns:
            The losses, by name.
        """

    def state(self) -> dict[str, Any]:
        """Return everything that a later run needs to go on as if never interrupted."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved `state`."""

    def samples(self, count: int, done: float, side: int) -> np.ndarray:
        """Make images as the generator would if it were finished now.

        Args:
            count: how many: image i is the same whatever their number.
            done: share of the training so far.
            side: pixels; what a network that is still growing makes is enlarged.

        Returns:
            uint8 (count, side, side, C).
        """

    def save(self, out: Path, name: str, card: Mapping[str, Any]) -> None:
        """Write the finished generator and its card; they appear whole or not at all.

        Args:
            out: folder.
            name: of the generator, and of what is written.
            card: what is known of it besides adapter, config and digests.
        """


# What a module in networks/ has as RECIPE: (options, channels, size, seed, device) -> trainer.
MakeTrainer = Callable[[Mapping[str, Any], int, int, int, torch.device], Trainer]


def seed_batches(count: int) -> Iterator[range]:
    """Cut the seeds from 0 to `count` - 1 into batches.

    >>> list(seed_batches(70))
    [range(0, 64), range(64, 70)]
    """
    for start in range(0, count, SAMPLED):
        yield range(start, min(start + SAMPLED, count))


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write the card that stands beside weights."""
    write_atomic(path, (json.dumps(card, indent=2, sort_keys=True) + "\n").encode())
