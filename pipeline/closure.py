"""What code some code can reach: names are followed from definition to definition.

A definition counts, not its module: an edit of what is not reached changes nothing. A registry of
import paths (a dict literal) counts by the lines that are picked. Options (pydantic models) count
by those of their methods whose names are used; their values are digested where they are read.

What cannot be seen: names that are put together at run time, except `import_module(f"a.{b}")`, and
classes that register themselves.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.stamp import PACKAGES, ROOT, modules
from pipeline.syntax import FUNCTIONS, Dotted, Module, Piece, Uses, is_text, shape, uses

# No number comes from how code is looked at.
LEFT_OUT = ("pipeline.code", "pipeline.closure", "pipeline.stamp", "pipeline.syntax")
# Show progress, hand work and values on as they are, or keep bytes without loss. Every other
# package that is used can move a bit: a new one counts until it is named here.
HARMLESS = {
    *("distributed", "dvclive", "joblib", "pyarrow", "pydantic", "safetensors", "tqdm", "yaml"),
}
# Distributions that are not called as what is imported from them.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}
TARGET = re.compile(r"[a-z_][\w.]*:\w+")


@dataclass
class Closure:
    """What some code can reach.

    Attributes:
        shapes: digest by `module:definition`.
        libraries: packages outside of the project and of the standard library.
        files: templates beside the modules, by path.
    """

    shapes: dict[str, str] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)

    def describe(self) -> dict[str, dict[str, str]]:
        """Return one digest per module, and the versions of the libraries."""
        modules: dict[str, list[tuple[str, str]]] = {}
        for name, digest in sorted(self.shapes.items()):
            modules.setdefault(name.partition(":")[0], []).append((name, digest))
        return {
            "code": {name: _digest(found) for name, found in modules.items()},
            "libraries": {
                DISTRIBUTIONS.get(name, name): version_of(name)
                for name in sorted(self.libraries - HARMLESS)
            },
        }

    def digest(self) -> str:
        """Digest all of it."""
        return _digest([self.describe(), [file_digest(path) for path in sorted(self.files)]])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def version_of(package: str) -> str:
    """Version of the distribution that an import comes from; `absent` if not installed."""
    try:
        return metadata.version(DISTRIBUTIONS.get(package, package))
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(package)
        return metadata.version(names[0]) if names else "absent"


class Tree:
    """The project's modules, each parsed once and only when it is reached.

    Args:
        root: the folder that holds `packages`.
        packages: top-level packages of the project.

    Attributes:
        asked: paths beside modules that some string may name, whether a file is there or not.
    """

    def __init__(self, root: Path = ROOT, packages: Iterable[str] = PACKAGES) -> None:
        self.root, self.packages = root, tuple(packages)
        self.asked: set[Path] = set()
        self._modules: dict[Dotted, Module | None] = {}
        self._pieces: dict[str, Piece] = {}
        self._closures: dict[tuple[tuple[str, ...], frozenset[str]], Closure] = {}

    def module(self, name: Dotted) -> Module | None:
        """Return a module of the project, None if there is none of that name."""
        if name not in self._modules:
            path = None
            if name and name[0] in self.packages:
                place = self.root.joinpath(*name)
                files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
                path = next((file for file in files if file.is_file()), None)
            self._modules[name] = Module(name, path) if path else None
        return self._modules[name]

    def matching(self, pattern: str) -> list[Dotted]:
        """Names of the modules that `a.*` can stand for."""
        return [tuple(name.split(".")) for name in self.names if fnmatchcase(name, pattern)]

    @cached_property
    def names(self) -> list[str]:
        """Names of all modules."""
        paths = modules(self.root, self.packages)
        names = (path.relative_to(self.root).with_suffix("").as_posix() for path in paths)
        return sorted(name.removesuffix("/__init__").replace("/", ".") for name in names)

    def piece(self, key: str, module: Module, nodes: list[ast.stmt]) -> Piece:
        """Return `module.piece(nodes)`, computed once for each key."""
        if key not in self._pieces:
            self._pieces[key] = module.piece(nodes)
        return self._pieces[key]

    def closure(self, roots: Iterable[str], picks: Iterable[str] = ()) -> Closure:
        """Follow all names from some roots.

        Args:
            roots: `module` for what `python -m module` does, or `module:definition`.
            picks: names of adapters or methods: of a registry that holds some of them, these lines
                alone count; of any other registry, all.

        Raises:
            UserError: no such module or definition.
        """
        key = (tuple(roots), frozenset(picks))
        if key not in self._closures:
            self._closures[key] = _Walk(self, key[1]).run(key[0])
        return self._closures[key]


class _Walk:
    """One closure in the making."""

    def __init__(self, tree: Tree, picks: frozenset[str]) -> None:
        self.tree, self.picks = tree, picks
        self.found = Closure()
        self.todo: list[tuple[Module, str, list[ast.stmt]]] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        # Methods of options, which count as soon as something takes an attribute of their name.
        self.waiting: dict[str, list[tuple[Module, str, ast.stmt]]] = {}

    def run(self, roots: Iterable[str]) -> Closure:
        for root in roots:
            name, _, definition = root.partition(":")
            module = self.tree.module(tuple(name.split(".")))
            if module is None or (definition and definition not in module.definitions):
                raise UserError(f"{root} is not there; expected a module or definition of ours")
            self.load(module.name)
            if definition:
                self.define(module, (definition,))
            else:
                self.add(module, "__main__", module.main)
        while self.todo or self.wake():
            if self.todo:
                self.take(*self.todo.pop())
        return self.found

    def wake(self) -> bool:
        for name in self.attributes & self.waiting.keys():
            for module, key, node in self.waiting.pop(name):
                self.add(module, key, [node])
        return bool(self.todo)

    def add(self, module: Module, name: str, nodes: list[ast.stmt]) -> None:
        key = f"{'.'.join(module.name)}:{name}"
        if key not in self.seen and ".".join(module.name) not in LEFT_OUT:
            self.seen.add(key)
            self.todo.append((module, name, nodes))

    def load(self, name: Dotted) -> None:
        """Reach what importing a module of the project does: it imports others in its turn."""
        for length in range(1, len(name) + 1):
            module = self.tree.module(name[:length])
            key = ".".join(name[:length])
            if module is None or key in self.seen or key in LEFT_OUT:
                continue
            self.seen.add(key)
            if module.effects:
                self.add(module, "", module.effects)
            for other in module.loads:
                self.load(other)

    def take(self, module: Module, name: str, nodes: list[ast.stmt]) -> None:
        key = f"{'.'.join(module.name)}:{name}"
        if len(nodes) == 1 and (lines := registry_of(nodes[0])):
            for line in self.picks & lines.keys() or lines:
                self.found.shapes[f"{key}[{line}]"] = ", ".join(lines[line])
                for target in lines[line]:
                    self.resolve(tuple(target.replace(":", ".").split(".")))
            return
        for node in nodes:
            if isinstance(node, ast.ClassDef) and self.is_options(module, node):
                self.take_options(module, key, node)
                return
        piece = self.tree.piece(key, module, nodes)
        self.found.shapes[key] = piece.shape
        self.follow(module, piece.uses)

    def take_options(self, module: Module, key: str, node: ast.ClassDef) -> None:
        """Of a pydantic model: its methods, and those of the models that its fields hold."""
        rest: list[ast.stmt] = [ast.Expr(base) for base in node.bases]
        for one in node.body:
            if isinstance(one, ast.AnnAssign):
                self.take_types(module, one.annotation)
            elif isinstance(one, FUNCTIONS):
                # A validator acts on values, and these are digested as they come out of it.
                if any("validator" in ast.unparse(by) for by in one.decorator_list):
                    continue
                if one.name.startswith(("__", "model_")):
                    rest.append(one)
                else:
                    self.waiting.setdefault(one.name, []).append(
                        (module, f"{key.partition(':')[2]}.{one.name}", one)
                    )
            elif not is_text(one) and "model_config" not in ast.unparse(one):
                rest.append(one)
        piece = Piece(shape(rest), uses(rest, module.package))
        self.found.shapes[key] = piece.shape
        self.follow(module, piece.uses)

    def take_types(self, module: Module, node: ast.expr) -> None:
        """Find the models that a field can hold; nothing else of its type counts."""
        for name in ast.walk(node):
            if not isinstance(name, ast.Name):
                continue
            owner, found, nodes = self.find(module, name.id)
            key = f"type {'.'.join(owner.name)}:{found}"
            if not nodes or key in self.seen:
                continue
            self.seen.add(key)
            if isinstance(nodes[0], ast.ClassDef):
                if self.is_options(owner, nodes[0]) and self.has_methods(nodes[0]):
                    self.add(owner, found, nodes)
                elif self.is_options(owner, nodes[0]):
                    self.take_fields(owner, nodes[0])
            elif value := getattr(nodes[0], "value", None):
                self.take_types(owner, value)

    def take_fields(self, module: Module, node: ast.ClassDef) -> None:
        for one in node.body:
            if isinstance(one, ast.AnnAssign):
                self.take_types(module, one.annotation)
        for base in node.bases:
            self.take_types(module, base)

    @staticmethod
    def has_methods(node: ast.ClassDef) -> bool:
        return any(
            isinstance(one, FUNCTIONS)
            and not any("validator" in ast.unparse(by) for by in one.decorator_list)
            for one in node.body
        )

    def find(self, module: Module, name: str) -> tuple[Module, str, list[ast.stmt]]:
        """Return where a name of a module is defined in the project; no statements if nowhere."""
        while name not in module.definitions and name in module.imports:
            *path, last = module.imports[name]
            target = self.tree.module(tuple(path))
            if target is None:
                break
            module, name = target, last
        return module, name, module.definitions.get(name, [])

    def is_options(self, module: Module, node: ast.ClassDef) -> bool:
        """Say whether a class is a model of pydantic, by its bases."""
        for base in node.bases:
            if not isinstance(base, ast.Name):
                continue
            owner, name, nodes = self.find(module, base.id)
            if not nodes and owner.imports.get(name) == ("pydantic", "BaseModel"):
                return True
            if nodes and isinstance(nodes[0], ast.ClassDef) and self.is_options(owner, nodes[0]):
                return True
        return False

    def follow(self, module: Module, used: Uses) -> None:
        self.attributes |= used.attributes
        for name in used.names:
            self.define(module, name)
        for name in used.loaded:
            self.load(name)
        for name in used.imported:
            self.resolve(name)
        for pattern, attributes in used.patterns:
            candidates = self.tree.matching(pattern)
            picked = [name for name in candidates if name[-1] in self.picks]
            for name in picked or candidates:
                found = self.tree.module(name)
                if found and (not attributes or attributes[0] in found.definitions):
                    self.resolve(name + attributes)
            if not candidates:
                self.resolve(tuple(pattern.split(".")))
        for text in used.strings:
            if re.fullmatch(r"[\w./-]+\.\w+", text) and not text.endswith(".py"):
                path = module.path.parent / text
                self.tree.asked.add(path)
                if path.is_file():
                    self.found.files.add(path)

    def resolve(self, name: Dotted) -> None:
        """Reach `package.module.definition.attribute...`."""
        for length in range(len(name), 0, -1):
            module = self.tree.module(name[:length])
            if module:
                self.load(module.name)
                if name[length:]:
                    self.define(module, name[length:])
                else:
                    self.whole(module)
                return
        if name and name[0] not in sys.stdlib_module_names and "*" not in name[0]:
            self.found.libraries.add(name[0])

    def whole(self, module: Module) -> None:
        """Reach all of a module: it is handed on, or a name cannot be told."""
        for name, nodes in module.definitions.items():
            self.add(module, name, nodes)
        for name in module.stars:
            self.resolve(name)

    def define(self, module: Module, name: Dotted) -> None:
        """Reach a name of a module's namespace."""
        first, key = name[0], ".".join(module.name)
        if key in LEFT_OUT:
            return
        if first in module.definitions:
            self.add(module, first, module.definitions[first])
        if first in module.imports:
            target = module.imports[first]
            self.found.shapes[f"{key}:{first} import"] = ".".join(target)
            self.resolve(target + name[1:])
        elif first in module.definitions:
            pass
        elif self.tree.module((*module.name, first)):
            self.resolve(module.name + name)
        elif "__getattr__" in module.definitions:
            self.add(module, "__getattr__", module.definitions["__getattr__"])
        else:
            for star in module.stars:
                self.resolve(star)


def registry_of(node: ast.stmt) -> dict[str, tuple[str, ...]] | None:
    """Return the lines of a dict literal, each one or several `module:attribute` strings.

    None for anything else.
    """
    value = getattr(node, "value", None)
    if not isinstance(value, ast.Dict) or not value.keys:
        return None
    try:
        found = ast.literal_eval(value)
    except ValueError:
        return None
    lines = {k: v if isinstance(v, tuple) else (v,) for k, v in found.items()}
    targets = [one for line in lines.values() for one in line]
    plain = all(isinstance(one, str) and TARGET.fullmatch(one) for one in targets)
    return lines if plain and all(isinstance(name, str) for name in lines) else None
