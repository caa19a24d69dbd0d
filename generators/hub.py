"""The progressive GANs of facebookresearch/pytorch_GAN_zoo, through torch.hub.

Unlike the other adapters this one runs its owner's code, hence `weights`, a card, pins the commit
of the code (40 hex digits) as well as address and digest of the weights. The weights are read with
weights_only=True and one class of that code allowed, the plain record of the training settings.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import torch

from generators.base import device, file_sha256, latents, load_card, own_noise_only
from generators.options import HubGenerator
from pipeline.errors import RetryLater, UserError

ATTEMPTS = 3
WAIT_SECONDS = 2.0


def _kind(error: Exception) -> type[UserError]:
    """RetryLater where a network failed or a server did; one that said no will say no again."""
    refused = isinstance(error, HTTPError) and error.code < 500
    lost = isinstance(error, URLError | ConnectionError | TimeoutError) and not refused
    return RetryLater if lost else UserError


def fetch(url: str, sha256: str) -> Path:
    """Bring a file into torch.hub's cache and check its digest.

    `sha256` is the whole digest, or its first 8 hex digits or more, as torch.hub's file names have.

    Raises:
        UserError: it is not to be had or has another digest.
        RetryLater: the network was lost.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    for attempt in range(ATTEMPTS):
        if path.is_file():
            break
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:  # URLError is an OSError
            if attempt + 1 == ATTEMPTS:
                raise _kind(error)(
                    f"{url} could not be fetched ({error}); offline: fetch it where there is a "
                    "network and put it into checkpoints/ of torch.hub's folder ($TORCH_HOME/hub)"
                ) from None
            time.sleep(WAIT_SECONDS * 2**attempt)
    if not file_sha256(path).startswith(sha256):
        raise UserError(
            f"{path} has sha256 {file_sha256(path)[:12]}, expected {sha256[:12]}: damaged or not "
            "the one described; delete it and run again"
        )
    return path


class Hub:
    """The moving average of a progressive GAN's generator."""

    def __init__(self, options: HubGenerator) -> None:
        """Check the pins, fetch, load.

        Raises:
            UserError: not pinned, not to be fetched, another digest, or weights that do not fit.
        """
        card = load_card(options.weights)
        source, revision = str(card.get("source")), str(card.get("revision"))
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
            raise UserError(f"{options.weights} has source {source!r}; expected owner/name")
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise UserError(
                f"{options.weights} has revision {revision!r}; its code is run, so expected the 40 "
                "hex digits of a commit that you have read"
            )
        sha256 = str(card.get("sha256"))
        if not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
            raise UserError(f"{options.weights} has sha256 {sha256!r}; expected 8 to 64 hex digits")
        try:
            url, self.channels = str(card["url"]), int(card["channels"])
            self._latent = list(card["latent"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{options.weights} lacks or garbles {error}; expected url, channels and latent"
            ) from None
        path = fetch(url, sha256)
        cuda = device().type == "cuda"
        try:
            model = torch.hub.load(
                f"{source}:{revision}", "PGAN", pretrained=False, useGPU=cuda,
                trust_repo=True, skip_validation=True, verbose=False,
            )  # fmt: skip
            # torch.hub imports the repository's `models`; the settings' class lives in there.
            settings = sys.modules["models.utils.config"].BaseConfig
            with torch.serialization.safe_globals([settings]):
                state = torch.load(path, map_location="cpu", weights_only=True)
            model.load_state_dict(state)
        except Exception as error:  # URLError, UnpicklingError, whatever its code raises
            raise _kind(error)(
                f"{source}@{revision[:8]} does not load ({type(error).__name__}: {error}); "
                "offline: fetch it where there is a network and bring the folder $TORCH_HOME/hub"
            ) from None
        self._model = model
        self._path = options.weights
        self._spec = {
            "adapter": "hub",
            "source": f"{source}@{revision}",
            "weights": file_sha256(path),
            "latent": self._latent,
        }

    def spec(self) -> dict[str, Any]:
        """Return the commit of the code and the digest of the weights."""
        return self._spec

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1] on the CPU."""
        with own_noise_only(self._path, "this network cannot be used"):
            images = self._model.test(latents(seeds, self._latent), getAvG=True, toCPU=True)
        return images.float().clamp(-1, 1).cpu()
