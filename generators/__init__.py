"""Machine-made faces: generators, their weights and their samples.

A GAN that is trained here is a module in networks/ and a line here; a new kind of generator is a
module in adapters/, its options there and a line here. Either is then named by an entry of
`generators:` in params.yaml, and one more generator of a known kind is such an entry and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.options import target

if TYPE_CHECKING:
    from generators.adapters.options import GeneratorBase
    from generators.base import Generator

# Adapter: its class and its options. Imported only when used, so that nobody pays for torch or
# diffusers.
GENERATORS: dict[str, tuple[str, str]] = {
    "dcgan": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "wgan": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "wgan_gp": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "lsgan": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "pggan": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "began": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "vae": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "ppca": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "wae": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),
    "diffusers": (
        "generators.adapters.diffusion:Diffusion",
        "generators.adapters.options:DiffusersGenerator",
    ),
    "exported": (
        "generators.adapters.exported:Exported",
        "generators.adapters.options:ExportedGenerator",
    ),
    "hub": ("generators.adapters.hub:Hub", "generators.adapters.options:HubGenerator"),
    "package": (
        "generators.adapters.package:Package",
        "generators.adapters.options:PackageGenerator",
    ),
    "folder": ("generators.adapters.folder:Folder", "generators.adapters.options:FolderGenerator"),
    "command": (
        "generators.adapters.command:Command",
        "generators.adapters.options:CommandGenerator",
    ),
}
# Those whose network is generators/networks/<name>.py.
NETWORKS = tuple(name for name, (kind, _) in GENERATORS.items() if kind.endswith(":Gan"))


def load(options: GeneratorBase) -> Generator:
    """Load the generator that an entry of params.yaml describes; its weights are checked first.

    Raises:
        UserError: unknown adapter, or the adapter's own complaint (absent, damaged, not pinned).
    """
    adapter = getattr(options, "adapter", None)
    if adapter not in GENERATORS:
        raise UserError(f"adapter {adapter!r} is unknown; expected one of {', '.join(GENERATORS)}")
    return target(GENERATORS[adapter][0])(options)
