"""Which code made this: computed from the imports, never listed by hand.

`python -m pipeline.code` (stage `code`, run by every `dvc repro`) checks params.yaml and writes
data/code/<stage>.json for every stage, which the stage depends on. It says

- `code`: a digest per module of what the stage can reach (`pipeline.closure`);
- `libraries`: versions of the packages that it uses;
- `params`: the checked values of the stage's params, so that a changed default counts;
- `files`: its templates, the card beside its weights, and a listing of its photographs.

A file is rewritten only when it says something else. `digest_of` is part of the spec of every
sample, `digest_of_method` of the recipe of every fit.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from pipeline import stamp
from pipeline.atomic import write_atomic
from pipeline.closure import ROOT, Tree, file_digest
from pipeline.errors import UserError, one_line
from pipeline.params import PATH, Params, load
from pipeline.stamp import OUT, listing

DAGS = (Path("dvc.yaml"), Path("generators/dvc.yaml"))
STAGE = "code"
FACES = "pipeline.faces"
CLOCK = 20_000_000  # ns by which a file system's clock may be behind


def digest_of(roots: Iterable[str], picks: Iterable[str] = ()) -> str:
    """Digest the code that is reached from `roots` and the libraries it uses, as it is on disk.

    Args:
        roots: `module`, or `module:definition`.
        picks: names of adapters or methods: the only ones to count of a registry.
    """
    return Tree(ROOT).closure(roots, picks).digest()


def digest_of_method(method: str) -> str:
    """Digest the code that fits and scores by a `method:` of params.yaml."""
    return digest_of(["benchmarks.fit"], [method])


@cache
def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file, once; by libyaml, where there is one, in a tenth of the time."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader)


@dataclass(frozen=True)
class Stage:
    """A stage as `dvc.yaml` says it, with the names of params.yaml put in.

    Attributes:
        name: as DVC says it, `fit@deepfd`.
        module: what it runs by `python -m`.
        arguments: of the module.
        keys: of its `params:`, by file.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    keys: dict[str, tuple[str, ...]]


def lookup(values: Any, key: str) -> Any:
    """Return the value of `a.b.c` in nested mappings.

    Raises:
        UserError: there is none.
    """
    for step in key.split("."):
        if not isinstance(values, Mapping) or step not in values:
            raise UserError(f"{key} is no key of the params; mend it in params.yaml or dvc.yaml")
        values = values[step]
    return values


def _fill(text: str, values: Mapping[str, Any]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(lookup(values, found[1].strip())), text)


def _instances(entry: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[
    tuple[str, dict[str, Any]]
]:  # fmt: skip
    """Yield (what follows the stage's name, what its text may name) of `foreach` and `matrix`."""

    def listed(loop: Any) -> Any:
        return lookup(values, loop[2:-1].strip()) if isinstance(loop, str) else loop

    if "foreach" in entry:
        loop = listed(entry["foreach"])
        pairs = loop.items() if isinstance(loop, Mapping) else ((item, item) for item in loop)
        for key, item in pairs:
            yield f"@{key}", {**values, "key": key, "item": item}
    elif "matrix" in entry:
        names = list(entry["matrix"])
        for items in product(*(listed(entry["matrix"][name]) for name in names)):
            item = dict(zip(names, items, strict=True))
            yield "@" + "-".join(map(str, items)), {**values, "item": item}
    else:
        yield "", dict(values)


def stages(dag: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Stage]:
    """Yield every stage of a dvc.yaml that runs a module, those of `foreach` and `matrix` each.

    Args:
        dag: the content of dvc.yaml.
        values: the content of params.yaml.
    """
    for name, entry in dag["stages"].items():
        for suffix, known in _instances(entry, values):
            body = entry.get("do", entry)
            command = shlex.split(_fill(body["cmd"], known))
            if command[:2] != ["python", "-m"] or name == STAGE:
                continue
            keys: dict[str, list[str]] = {}
            for one in body.get("params", ()):
                found = one if isinstance(one, Mapping) else {str(PATH): [one]}
                for file, listed in found.items():
                    keys.setdefault(file, []).extend(_fill(key, known) for key in listed)
            yield Stage(
                name + suffix,
                command[2],
                tuple(command[3:]),
                {file: tuple(listed) for file, listed in keys.items()},
            )


def photographs_of(params: Params, name: str) -> list[Path]:
    """Paths outside of the project that a collection is made of."""
    block = params.photographs[name]
    return [Path(p) for p in (block.path, getattr(block, "identities", None)) if p]


def card_of(params: Params, name: str) -> Path:
    """Path of the card beside a generator's weights, there or not."""
    return Path(params.generators[name].weights).with_suffix(".json")


def inputs(stage: Stage, params: Params) -> dict[str, Any]:
    """Describe what a stage reads from outside of the pipeline and DVC does not see."""
    found: dict[str, Any] = {}
    for key in stage.keys.get(str(PATH), ()):
        block, _, name = key.partition(".")
        if block == "generators" and name in params.generators:
            card = card_of(params, name)
            if card.is_file():
                found[card.as_posix()] = file_digest(card)
    if stage.module == FACES:
        for path in photographs_of(params, stage.arguments[0]):
            if path.exists():
                found[path.as_posix()] = listing(path)
    return found


def picks_of(stage: Stage, params: Params) -> set[str]:
    """Name the adapters, methods and networks that a stage can run, by the entries it reads."""
    kinds = {"generators": "adapter", "methods": "method"}
    found = set()
    for key in stage.keys.get(str(PATH), ()):
        block, _, name = key.partition(".")
        if block in kinds:
            entries = getattr(params, block)
            chosen = [entries[name]] if name else entries.values()
            found |= {getattr(entry, kinds[block]) for entry in chosen}
    others = (
        lookup(read_yaml(Path(file)), key)
        for file, keys in stage.keys.items() if file != str(PATH) for key in keys
    )  # fmt: skip
    found |= {one["network"] for one in others if isinstance(one, Mapping) and "network" in one}
    return found or set(stage.arguments)


def describe(stage: Stage, params: Params, tree: Tree) -> dict[str, Any]:
    """Say what a stage depends on besides the data of other stages."""
    closure = tree.closure([stage.module], picks_of(stage, params))
    checked = params.model_dump(mode="json")
    values = {}
    for file, keys in stage.keys.items():
        whole = checked if file == str(PATH) else read_yaml(Path(file))
        values[file] = {key: lookup(whole, key) for key in keys}
    templates = {path.relative_to(ROOT).as_posix(): file_digest(path) for path in closure.files}
    return {
        **closure.describe(),
        "params": values,
        "files": {**templates, **inputs(stage, params)},
    }


def write(params: Params, folder: Path = OUT, tree: Tree | None = None) -> list[str]:
    """Write a file for every stage; those of stages that are gone go.

    Args:
        params: the checked params.yaml.
        folder: where the files are.
        tree: the project's modules.

    Returns:
        The names of the stages whose file has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tree, changed, names = tree or Tree(ROOT), [], set()
    for stage in every_stage():
        content = json.dumps(describe(stage, params, tree), indent=1, sort_keys=True) + "\n"
        file = folder / f"{stage.name}.json"
        names.add(file.name)
        if not file.is_file() or file.read_text() != content:
            write_atomic(file, content.encode())
            changed.append(stage.name)
    for file in folder.iterdir():
        if file.name not in names:
            file.unlink()
    return changed


def every_stage() -> Iterator[Stage]:
    """Yield the stages of every DAG that is there."""
    for path in filter(Path.is_file, DAGS):
        yield from stages(read_yaml(path), read_yaml(path.with_name(PATH.name)))


@one_line
def main() -> None:
    """Check params.yaml and bring data/code/ up to date, whatever the stamp says."""
    began, params, tree = time.time_ns(), load(), Tree(ROOT)
    files = {PATH, *DAGS, *(path.with_name(PATH.name) for path in DAGS)}
    files |= {Path(file) for stage in every_stage() for file in stage.keys}
    files |= {card_of(params, name) for name in params.generators}
    folders = [path for name in params.photographs for path in photographs_of(params, name)]
    read = stamp.state(files, folders)
    if changed := write(params, tree=tree):
        print(f"changed: {', '.join(changed)}", file=sys.stderr)
    # What changed meanwhile may have been read before it did: the next run looks again.
    paths = filter(Path.is_file, (*files, *tree.asked, *stamp.modules()))
    if not any(path.stat().st_mtime_ns >= began - CLOCK for path in paths):
        read["files"] |= stamp.contents(tree.asked)
        stamp.put(read)


if __name__ == "__main__":
    main()
