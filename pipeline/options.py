"""What the blocks of params.yaml are built from: strict models, shared types, readable errors."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# What a source of images is for; of `test` no image is ever trained on.
Use = Literal["train", "test"]


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {list(seeds)}; expected each once")
    return seeds


Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(_each_once)]


class Model(BaseModel):
    """A frozen block of params in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def target(path: str) -> Any:
    """Import what `module:name` says.

    >>> target("pipeline.options:Model").__name__
    'Model'
    """
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def one_of(registry: Mapping[str, tuple[str, str]], key: str) -> Any:
    """Return the type of an entry whose `key` names a line of a registry.

    Args:
        registry: name -> (implementation, options), both as `module:name`. The options are a
            `Model` whose `key` is a literal: the name.
        key: what entries are told apart by.

    Raises:
        TypeError: options that bear other names than their lines.
    """
    kinds = tuple(dict.fromkeys(target(options) for _, options in registry.values()))
    known = [name for kind in kinds for name in get_args(kind.model_fields[key].annotation)]
    if sorted(known) != sorted(registry):
        raise TypeError(f"options of {key} {sorted(known)}; the registry has {sorted(registry)}")
    return Annotated[Union[kinds], Field(discriminator=key)]  # noqa: UP007


def explain(error: ValidationError, path: Path) -> str:
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


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key may stand once: plain YAML takes the last of two and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a key that stands twice is an error."""
        merge = "tag:yaml.org,2002:merge"  # `<<: *default`
        keys = [self.construct_object(k, deep=True) for k, _ in node.value if k.tag != merge]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice[0]!r} stands twice; keep one", node.start_mark
            )
        return super().construct_mapping(node, deep)
