"""Any generator saved with `torch.export`, without its owner's code: latents in, images out.

`torch.export.load` unpickles, loads native libraries and calls functions by name where the file
says so, hence the file is looked through first and whatever is more than tensors and operators of
aten is refused. That is no proof against malice: load exports that you or people you trust made.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export.passes import move_to_device_pass

from generators.adapters.options import ExportedGenerator
from generators.base import latents, own_noise_only, read_card
from pipeline.device import default_device
from pipeline.errors import UserError

MEMBERS = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|data/sample_inputs/model\.pt"
    r"|data/weights/model_weights_config\.json|data/constants/model_constants_config\.json"
    r"|models/model\.json|archive_format|archive_version|byteorder|\.data/[a-z_]+"
)
# torch.export.load finds these by getattr from `torch`, where there is also torch.os.system.
TARGETS = re.compile(
    r"torch\.ops\.aten\.(?!from_file)\w+\.\w+|torch\.sym_\w+|math\.\w+"
    r"|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|_operator\.(getitem|add|sub|mul|neg|pow|mod|floordiv|truediv|[gln]e|[gl]t|eq|and_|or_)"
)
# Sizes are expressions that sympy evaluates as Python: numbers, symbols and these functions only.
SIZES = re.compile(
    r"(\d+|'[su]\d+'|\b[su]\d+\b|\b(Symbol|Integer|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv"
    r"|positive|nonnegative|integer|True|False)\b|[-+*/(),= ])*"
)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of nested JSON."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield key, one
            yield from _pairs(one)
    elif isinstance(value, list):
        for one in value:
            yield from _pairs(one)


def check_archive(path: str | Path) -> None:
    """Refuse an export that holds more than tensors and a graph of tensor operators.

    Raises:
        UserError: no archive of torch.export, or it holds pickles, libraries or other functions.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            names = [name.partition("/")[2] for name in members]
            texts = [archive.read(name) for name in members if name.endswith(".json")]
        pairs = [pair for text in texts for pair in _pairs(json.loads(text))]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a file of torch.export.save: {error}") from None
    odd = [name for name in names if not MEMBERS.fullmatch(name)]
    odd += [name for name in {*names} if names.count(name) > 1]
    odd += ["a pickled tensor" for key, value in pairs if key == "use_pickle" and value]
    for key, pattern in (("target", TARGETS), ("expr_str", SIZES)):
        values = [value for name, value in pairs if name == key and isinstance(value, str)]
        odd += [value for value in values if not pattern.fullmatch(value)]
    if odd or "models/model.json" not in names:
        raise UserError(
            f"{path} holds {odd[0][:80] if odd else 'no model.json'}; expected tensors and aten "
            "operators only, as torch.export.save writes an image network: export it again"
        )


class Exported:
    """A graph of tensor operators: latents (N, *latent) to images (N, C, H, W) in [-1, 1]."""

    def __init__(self, options: ExportedGenerator) -> None:
        """Check and load.

        Raises:
            UserError: no file or card, another digest, or an export that is not a plain network.
        """
        card = read_card(options.weights)
        shape, channels = card.get("latent"), card.get("channels")
        sizes = shape if isinstance(shape, list) else [shape]
        if not all(isinstance(one, int) and one > 0 for one in [*sizes, channels]):
            raise UserError(
                f"the card of {options.weights} has latent {shape!r} and channels {channels!r}; "
                "expected sizes, such as latent 512 and channels 3"
            )
        check_archive(options.weights)
        try:
            program = torch.export.load(options.weights)
            program = move_to_device_pass(program, default_device())
            # The guards are Python code inside the file; batch sizes are checked without them.
            self._network = program.module(check_guards=False)
        except Exception as error:  # RuntimeError, KeyError, AssertionError, SerializeError, ...
            raise UserError(
                f"{options.weights} does not load in torch {torch.__version__}: {error}; export "
                "it again with this version"
            ) from None
        self.channels = channels
        self._latent = sizes
        self._path = options.weights
        self._spec = {"adapter": "exported", "weights": card["sha256"], "latent": sizes}

    def spec(self) -> dict[str, Any]:
        """Return the digest of the export and the shape of its latents."""
        return self._spec

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1] on the CPU.

        Raises:
            UserError: the network takes no such batch, draws noise of its own, or gives no images.
        """
        z = latents(seeds, self._latent).to(default_device())
        try:
            with own_noise_only(self._path, "export it with constant noise"):
                images = self._network(z)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._path} fails on latents {tuple(z.shape)}: {error}; export it with a batch "
                "of any size, see docs/generators.md"
            ) from None
        expected = (len(seeds), self.channels)
        if not (isinstance(images, torch.Tensor) and images.ndim == 4
                and images.shape[:2] == expected):  # fmt: skip
            found = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images)
            raise UserError(
                f"{self._path} gave {found}; expected images (N, C, H, W) with (N, C) {expected}"
            )
        low, high = images.min().item(), images.max().item()
        if math.isfinite(low) and (low < -4 or high > 4):
            raise UserError(
                f"{self._path} gave values in [{low:.3g}, {high:.3g}]; expected [-1, 1]: export a "
                "network that ends in that range"
            )
        return images.float().clamp(-1, 1).cpu()
