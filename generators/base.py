"""What every generator promises, and the cards that stand beside their weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from pipeline.errors import UserError

# From here on torch.load unpickles nothing but tensors, whoever calls it and with what arguments.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"


class Generator(Protocol):
    """A source of fakes: one seed, one image, alone or in any batch."""

    channels: int

    def spec(self) -> dict[str, Any]:
        """Return what the pixels depend on besides the seed (JSON values, weights as digests)."""

    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1], image i a function of `seeds[i]` alone."""


def latents(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Draw standard normal noise, float32 (N, *shape), each row from its own seed.

    The draw is made on the CPU whatever the device, so that a seed names the same image everywhere
    (NVlabs/edm, `StackedRandomGenerator`).

    >>> bool((latents([7, 8], (100,))[1] == latents([8], (100,))[0]).all())
    True
    """
    rows = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


def _noise_states() -> list[bytes]:
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states += torch.cuda.get_rng_state_all()
    return [state.numpy().tobytes() for state in states]


@contextlib.contextmanager
def own_noise_only(what: str, advice: str) -> Iterator[None]:
    """Refuse code that draws noise from torch's global generators: it is no function of the seed.

    Raises:
        UserError: the block drew such noise; the line names `what` drew it and gives `advice`.
    """
    before = _noise_states()
    yield
    if _noise_states() != before:
        raise UserError(f"{what} draws noise that is not the image's own; {advice}")


def file_sha256(path: str | Path) -> str:
    """Digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: str | Path) -> str:
    """Digest of a folder's files, their relative paths and bytes."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    listed = [(path.relative_to(folder).as_posix(), file_sha256(path)) for path in paths]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def card_path(weights: str | Path) -> Path:
    """Path of the card that stands beside a weights file: `<name>.json`."""
    return Path(weights).with_suffix(".json")


def load_card(path: str | Path) -> dict[str, Any]:
    """Read a card, a JSON object, without checking any weights against it.

    Raises:
        UserError: no such file, or not a JSON object.
    """
    try:
        card = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; expected a card") from None
    except ValueError as error:  # neither JSON nor UTF-8
        raise UserError(f"{path} is not JSON: {error}; restore it") from None
    if not isinstance(card, dict):
        raise UserError(f"{path} holds a {type(card).__name__}; expected a card, a JSON object")
    return card


def read_card(weights: str | Path) -> dict[str, Any]:
    """Read the card of a weights file and check the file against it.

    A card says: name, adapter, source, licence, training_data, resolution, channels, sha256,
    config (the arguments of the network's class) and how it was trained.

    Raises:
        UserError: no weights, no card, or a digest that differs.
    """
    weights = Path(weights)
    for path in (weights, card_path(weights)):
        if not path.is_file():
            raise UserError(
                f"{path} not found; expected weights and their card side by side: restore them "
                "(git checkout) or train them (python -m generators.train)"
            )
    card = load_card(card_path(weights))
    found = file_sha256(weights)
    if found != card.get("sha256"):
        raise UserError(
            f"{weights} has sha256 {found[:12]}, its card says {str(card.get('sha256'))[:12]}: the "
            "file is damaged or not the one described; restore it (git checkout) or retrain it"
        )
    return card
