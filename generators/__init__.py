"""Machine-made faces: generators, their weights and their samples.

A new kind of generator is a module in adapters/, one line here and its options in
`generators.adapters.options`; a new generator of a known kind is an entry of `generators:` in
params.yaml and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from generators.adapters.options import GeneratorBase
    from generators.base import Generator

# adapter: module and class; imported only when used, so that nobody pays for torch or diffusers.
GENERATORS: dict[str, str] = {
    "dcgan": "generators.adapters.gan:Gan",
    "wgan": "generators.adapters.gan:Gan",
    "wgan_gp": "generators.adapters.gan:Gan",
    "lsgan": "generators.adapters.gan:Gan",
    "pggan": "generators.adapters.gan:Gan",
    "diffusers": "generators.adapters.diffusion:Diffusion",
    "exported": "generators.adapters.exported:Exported",
    "hub": "generators.adapters.hub:Hub",
    "package": "generators.adapters.package:Package",
    "folder": "generators.adapters.folder:Folder",
    "command": "generators.adapters.command:Command",
}


def load(options: GeneratorBase) -> Generator:
    """Load the generator that an entry of params.yaml describes; its weights are checked first.

    Raises:
        UserError: unknown adapter, or the adapter's own complaint (absent, damaged, not pinned).
    """
    adapter = getattr(options, "adapter", None)
    if adapter not in GENERATORS:
        raise UserError(f"adapter {adapter!r} is unknown; expected one of {', '.join(GENERATORS)}")
    module, _, name = GENERATORS[adapter].partition(":")
    return getattr(import_module(module), name)(options)
