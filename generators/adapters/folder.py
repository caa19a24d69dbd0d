"""Pictures made elsewhere, such as a StyleGAN dump: seed i is picture i of the sorted list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.adapters.options import FolderGenerator
from generators.base import folder_sha256
from pipeline.errors import UserError
from pipeline.images import open_image, to_mode, to_unit

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm", ".tif", ".tiff")
GREY = ("1", "L", "LA", "I", "F")


def read_pictures(paths: Sequence[Path], channels: int) -> torch.Tensor:
    """Read pictures of one size: float32 (N, C, H, W) in [-1, 1].

    Raises:
        UserError: a picture that cannot be read, or of another size or colour than the others.
    """
    pictures = []
    for path in paths:
        try:
            image = open_image(path.read_bytes())
        except (OSError, UserError) as error:
            raise UserError(f"{path}: {error}; replace the picture or remove it") from None
        if pictures and image.size != pictures[0].shape[1::-1]:
            raise UserError(
                f"{path} is {image.size[0]}x{image.size[1]}, others of its generator are "
                f"{pictures[0].shape[1]}x{pictures[0].shape[0]}; expected pictures of one size"
            )
        if channels == 3 and (image.mode in GREY or image.mode.startswith("I;16")):
            raise UserError(f"{path} is grey and others of its generator are in colour; remove it")
        pixels = np.asarray(to_mode(image, channels))
        pictures.append(pixels.reshape(*pixels.shape[:2], channels))
    return torch.from_numpy(to_unit(np.stack(pictures)))


class Folder:
    """A sorted list of pictures."""

    def __init__(self, options: FolderGenerator) -> None:
        """List and digest the pictures.

        Raises:
            UserError: no folder, or fewer pictures than asked.
        """
        folder = Path(options.weights)
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; expected the pictures of a generator")
        paths = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        self._paths = sorted(paths, key=lambda path: path.relative_to(folder).as_posix())
        needed = options.first_seed + options.images
        if len(self._paths) < needed:
            raise UserError(
                f"{folder} holds {len(self._paths)} pictures; expected at least {needed} "
                "(first_seed + images): add pictures or lower `images`"
            )
        try:
            mode = open_image(self._paths[0].read_bytes()).mode
        except (OSError, UserError) as error:
            raise UserError(f"{self._paths[0]}: {error}; replace the picture") from None
        self.channels = 1 if mode in GREY or mode.startswith("I;16") else 3
        self._spec = {"adapter": "folder", "pictures": folder_sha256(folder)}

    def spec(self) -> dict[str, Any]:
        """Return the digest of all names and bytes of the folder."""
        return self._spec

    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1]."""
        # Only the unused end of the last batch goes beyond the list.
        last = len(self._paths) - 1
        return read_pictures([self._paths[min(seed, last)] for seed in seeds], self.channels)
