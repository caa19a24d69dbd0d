"""What a training did otherwise than the paper: `differences` of a card.

What is fixed stands as `PAPER` beside the code that differs, in the generator's own file; the rest
is read off the options of the training, so that a card says it of the very weights beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from generators.training.augment import POLICY


class Paper(NamedTuple):
    """A paper and what is done otherwise.

    Attributes:
        source: authors, year, number.
        otherwise: a sentence for each difference that is fixed in the code.
        values: what the paper has for options of a training.
        defaults: what a training has where its options do not say.
        average: the paper's moving average of the weights; None where there is none here.
        augmented: whether DiffAugment is laid before a critic here.
        batch_norm: whether batch statistics are measured anew after the training.
    """

    source: str
    otherwise: tuple[str, ...]
    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    average: str | None = "none"
    augmented: bool = True
    batch_norm: bool = True


def _text(value: Any) -> str:
    """Write the value of an option: 64,000,000."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def network_of(name: str, options: Mapping[str, Any]) -> str:
    """Return the module in networks/ of a generator: its own name, if its options name no other."""
    return str(options.get("network", name))


def differences(name: str, options: Mapping[str, Any]) -> list[str]:
    """Say what a training did otherwise than its paper.

    Args:
        name: a generator that is trained here.
        options: of the training, as generators/params.yaml and a card's `training` have them.

    Returns:
        The paper, then one sentence a difference.

    >>> differences("wgan", {"lr": 2e-4})[:2]
    ['paper: Arjovsky et al. 2017 (arXiv 1701.07875)', 'lr 0.0002 (the paper: 5e-05)']
    """
    paper: Paper = import_module(f"generators.networks.{network_of(name, options)}").PAPER
    options = {**paper.defaults, **options}
    found = [f"paper: {paper.source}", *paper.otherwise]
    found += [
        f"{key} {_text(options[key])} (the paper: {_text(theirs)})"
        for key, theirs in paper.values.items()
        if options.get(key, theirs) != theirs
    ]
    if paper.average is not None:
        found.append(
            f"a moving average of the weights, half-life {options['ema_images']} images, less at "
            f"first (the paper: {paper.average})"
        )
    if "photographs" in options:
        found.append("photographs made soft first (pipeline/softness.py), each in two ways")
    found.append("photographs are mirrored at random")
    if paper.augmented:
        policy = ", ".join(options.get("augment", POLICY))
        found.append(f"DiffAugment (Zhao et al. 2020) before the critic, in both updates: {policy}")
    if paper.batch_norm:
        found.append("batch statistics measured anew on 2,048 latents after the training")
    return found
