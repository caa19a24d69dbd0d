"""`params.yaml`, read once into frozen models: every value of a run and nothing else.

An unknown key, a missing key or a value out of range stops the run with the key's path. This module
imports neither torch nor prefect, so that every command fails early and starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from benchmarks.methods import METHODS
from generators import GENERATORS
from pipeline.errors import UserError
from pipeline.gates.options import Audit
from pipeline.images import Crop
from pipeline.options import Model, Name, Seeds, UniqueKeys, explain, one_of
from pipeline.photographs import Collection, Faces

PATH = Path("params.yaml")
NONE = "none"
FAMILY_PREFIX = "family:"
REAL_PREFIX = "real:"
# Joins a generator and a collection that are held out together.
TOGETHER = "+"


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


class Fit(Model):
    """What is fitted besides one fold per generator and collection."""

    # Seeds of the learned methods.
    seeds: Seeds
    # Also leave out each generator and each collection together.
    together: bool = False


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


# An entry of `methods:` and one of `generators:`: the options that its registry names.
Method = one_of(METHODS, "method")
Generator = one_of(GENERATORS, "adapter")


class Params(Model):
    """The whole of params.yaml."""

    profile: Name
    seed: NonNegativeInt
    # Raised by the flow generate-and-train each time that it asks for more images.
    round: NonNegativeInt = 0
    faces: Faces
    photographs: dict[Name, Collection]
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
        for name in self.generators:
            taken = ("real", NONE, *(f"real_{other}" for other in self.photographs))
            if name in taken:
                raise ValueError(f"generators.{name}: the name is taken; choose another")
        if len(self.train_generators) < 2:
            raise ValueError("generators: leave-one-out needs at least 2 generators of use: train")
        if not self.train_collections:
            raise ValueError("photographs: expected at least 1 collection of use: train")
        return self

    @property
    def train_generators(self) -> tuple[str, ...]:
        """Names of the generators that may be trained on: each is left out once."""
        return tuple(name for name, g in self.generators.items() if g.use == "train")

    @property
    def collections(self) -> tuple[str, ...]:
        """`real:<name>` of every collection of photographs."""
        return tuple(REAL_PREFIX + name for name in self.photographs)

    @property
    def train_collections(self) -> tuple[str, ...]:
        """`real:<name>` of the collections that may be trained on."""
        return tuple(REAL_PREFIX + n for n, c in self.photographs.items() if c.use == "train")

    @property
    def families(self) -> tuple[str, ...]:
        """Families of the training generators, each once, in the order of params.yaml."""
        return tuple(dict.fromkeys(self.generators[name].family for name in self.train_generators))

    def training(self, held_out: str) -> tuple[str, ...]:
        """Names of the collections and generators that a fit may see: see the two below."""
        return (*self.training_collections(held_out), *self.training_generators(held_out))

    def training_collections(self, held_out: str) -> tuple[str, ...]:
        """`real:<name>` of the collections a fit may see when `held_out` is left out.

        Raises:
            UserError: no such collection, or it is the only one to train on.
        """
        generator, _, collection = held_out.rpartition(TOGETHER)
        if not generator and not collection.startswith(REAL_PREFIX):
            return self.train_collections
        if collection not in self.train_collections:
            self._unknown(held_out)
        left = tuple(name for name in self.train_collections if name != collection)
        if not left:
            raise UserError(
                f"held-out {held_out!r} leaves no collection of photographs to train on; add "
                "another to `photographs`"
            )
        return left

    def training_generators(self, held_out: str) -> tuple[str, ...]:
        """Names of the generators a fit may see when `held_out` is left out.

        Args:
            held_out: a generator, `none`, `family:<name>`, `real:<collection>`, or
                `<generator>+real:<collection>`.

        Raises:
            UserError: no such generator or family, or nothing is left to train on.
        """
        generator = held_out.partition(TOGETHER)[0]
        if generator.startswith(FAMILY_PREFIX):
            family = generator.removeprefix(FAMILY_PREFIX)
            known = family in self.families and generator == held_out
            left = tuple(n for n in self.train_generators if self.generators[n].family != family)
        else:
            known = generator in (NONE, *self.train_generators, *self.train_collections)
            left = tuple(name for name in self.train_generators if name != generator)
        if not known:
            self._unknown(held_out)
        if not left:
            raise UserError(f"held-out {held_out!r} leaves no generator to train on; add another")
        return left

    def crop_of(self, held_out: str) -> Crop:
        """Crop of the first collection trained on: pictures from outside are cropped alike."""
        name = self.training_collections(held_out)[0].removeprefix(REAL_PREFIX)
        return self.photographs[name].crop

    def _unknown(self, held_out: str) -> NoReturn:
        families = (FAMILY_PREFIX + family for family in self.families)
        names = [NONE, *self.train_generators, *families, *self.train_collections]
        raise UserError(f"held-out {held_out!r} is unknown; expected one of {', '.join(names)}")

    def held_outs(self) -> tuple[str, ...]:
        """Every training generator, then none: the rows of the leave-one-generator-out matrix."""
        return (*self.train_generators, NONE)

    def family_held_outs(self) -> tuple[str, ...]:
        """`family:<name>` of every family whose absence leaves something to train on."""
        names = self.families if len(self.families) > 1 else ()
        return tuple(FAMILY_PREFIX + name for name in names)

    def collection_held_outs(self) -> tuple[str, ...]:
        """`real:<name>` of every training collection whose absence leaves another."""
        return self.train_collections if len(self.train_collections) > 1 else ()

    def together_held_outs(self) -> tuple[str, ...]:
        """`<generator>+real:<name>` of all pairs, where `fit.together` asks for them."""
        collections = self.collection_held_outs() if self.fit.together else ()
        return tuple(g + TOGETHER + c for g in self.train_generators for c in collections)

    def fold_of(self, held_out: str) -> str:
        """Return the fold that is fitted for `held_out`.

        To leave out a family of one generator is to leave out that generator: it is not fitted
        twice. Any other `held_out` is its own fold.
        """
        family = held_out.removeprefix(FAMILY_PREFIX)
        members = [n for n in self.train_generators if self.generators[n].family == family]
        alone = held_out.startswith(FAMILY_PREFIX) and len(members) == 1
        return members[0] if alone else held_out

    def folds(self) -> tuple[str, ...]:
        """Every `held_out` that is fitted, each once: the generators and `none` first."""
        others = (*self.family_held_outs(), *self.collection_held_outs())
        every = (*self.held_outs(), *others, *self.together_held_outs())
        return tuple(dict.fromkeys(map(self.fold_of, every)))


def parse(values: Any, path: Path = PATH) -> Params:
    """Validate a mapping (already read from YAML).

    Raises:
        UserError: one line with the path of the first wrong keys.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, path)) from None


def load(path: str | Path = PATH) -> Params:
    """Read and validate a params file.

    Raises:
        UserError: no such file, no YAML, or a wrong key or value.
    """
    path = Path(path)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except FileNotFoundError:
        raise UserError(f"{path} not found; run from the top folder of the project") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected a YAML file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    return parse(values, path)
