"""Options of the generators: one model per adapter, what an entry of `generators:` may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from generators import NETWORKS
from pipeline.options import Model, Name, Use
from pipeline.photographs import CropRule


class GeneratorBase(Model):
    """What every entry of `generators:` says, whatever its adapter."""

    family: Name
    images: PositiveInt
    # `test`: never trained on, all its images are of the test split.
    use: Use = "train"
    first_seed: NonNegativeInt = 0
    batch: PositiveInt = 50
    # What is kept of a picture, as of photographs.
    crop: CropRule = "center"


class GanGenerator(GeneratorBase):
    """One that this repository trains: `weights` is a safetensors file beside its card."""

    adapter: Literal[NETWORKS]
    weights: str


class DiffusersGenerator(GeneratorBase):
    """A diffusers pipeline: `weights` is its folder, or a card that pins a revision of a hub."""

    adapter: Literal["diffusers"]
    weights: str
    steps: PositiveInt = 50
    scheduler: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    prompts: tuple[str, ...] = ()


class ExportedGenerator(GeneratorBase):
    """A network saved by `torch.export`: `weights` is the .pt2 file beside its card."""

    adapter: Literal["exported"]
    weights: str


class HubGenerator(GeneratorBase):
    """A progressive GAN of pytorch_GAN_zoo: `weights` is a card with their address and digest."""

    adapter: Literal["hub"]
    weights: str


class PackageGenerator(GeneratorBase):
    """A network and weights inside an installed package: `weights` is a card that pins both."""

    adapter: Literal["package"]
    weights: str


class FolderGenerator(GeneratorBase):
    """Pictures made elsewhere: `weights` is their folder, a seed is a place in the sorted list."""

    adapter: Literal["folder"]
    weights: str


class CommandGenerator(GeneratorBase):
    """An external program that writes one picture per seed; `weights` is what it reads.

    `argv` and `file` may hold {first}, {last}, {count}, {out} and {weights}; `file` needs {seed}.
    """

    adapter: Literal["command"]
    weights: str
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    file: Annotated[str, Field(pattern=r"\{seed(:0\d+d)?\}")] = "seed{seed:04d}.png"
    channels: Literal[1, 3] = 3
    timeout: PositiveFloat = 600.0
