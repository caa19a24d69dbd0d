"""What a Python module consists of, read from its syntax and never run.

A module is taken apart into its top-level *definitions* (functions, classes, constants), the names
each of them uses, and a *shape* of each: its syntax tree without docstrings, comments, formatting,
positions and annotations of functions. `pipeline.code` follows the names from module to module.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Names from the root of a module: ("torch", "nn", "Linear").
Dotted = tuple[str, ...]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
COMPOUND = (ast.If, ast.Try, ast.With, ast.For, ast.While)
# Say nothing of what a program does; an annotation of a function is never evaluated here.
NO_SHAPE = {"ctx", "kind", "type_comment", "returns", "annotation"}


@dataclass
class Uses:
    """What some syntax uses: names of its module with the attributes taken of them, and so on.

    Attributes:
        names: (name, attributes...) of the module's own namespace, or a builtin.
        imported: (module, ..., attributes...) by an import inside a function.
        loaded: modules that such an import runs.
        patterns: (module path with * for what is put in at run time, attributes).
        attributes: every attribute name, whatever it is taken of.
        strings: every string.
    """

    names: set[Dotted] = field(default_factory=set)
    imported: set[Dotted] = field(default_factory=set)
    loaded: set[Dotted] = field(default_factory=set)
    patterns: set[tuple[str, Dotted]] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Piece:
    """A definition: digest of its shape, and what it uses."""

    shape: str
    uses: Uses


def shape(nodes: Iterable[ast.AST]) -> str:
    """Digest syntax without what does not act; the same under every version of Python.

    >>> typed, plain = "def f(x: int): 'Doc.'; return (x)", "def f(x): return x  # comment"
    >>> shape(ast.parse(typed).body) == shape(ast.parse(plain).body)
    True
    """
    tokens: list[str] = []

    def add(value: object, keep: bool = False) -> None:
        if isinstance(value, ast.AST):
            tokens.append(f"({type(value).__name__}")
            # The fields of a dataclass are its annotations.
            keep = isinstance(value, ast.ClassDef) or (keep and not isinstance(value, FUNCTIONS))
            for name in value._fields:
                item = getattr(value, name, None)
                if item in (None, []) or (name in NO_SHAPE and not (keep and name == "annotation")):
                    continue
                tokens.append(name)
                add(item, keep)
            tokens.append(")")
        elif isinstance(value, list):
            for item in value:
                if not is_text(item):
                    add(item, keep)
        else:
            tokens.append(f"{type(value).__name__} {value!r}")

    for node in nodes:
        add(node)
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def is_text(node: object) -> bool:
    """Say whether a statement is a bare string: a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def import_targets(node: ast.Import | ast.ImportFrom, package: Dotted) -> Iterator[
    tuple[str, Dotted, Dotted]
]:  # fmt: skip
    """Yield (name that is bound, what it stands for, module that is run) of an import.

    Args:
        node: the statement; a star binds "*".
        package: of the module that it stands in, for relative imports.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            path = tuple(alias.name.split("."))
            yield (alias.asname, path, path) if alias.asname else (path[0], path[:1], path)
        return
    base = package[: len(package) - node.level + 1] if node.level else ()
    base += tuple(node.module.split(".")) if node.module else ()
    for alias in node.names:
        yield alias.asname or alias.name, (*base, alias.name), base


def _bound(nodes: Iterable[ast.AST], package: Dotted) -> dict[str, Dotted | None]:
    """Names that a function's statements bind in it; of an import, what the name stands for."""
    found: dict[str, Dotted | None] = {}
    outer: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[node.name] = None
                continue
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                # Its variables are its own, but for those of `:=`.
                walrus = (one for one in ast.walk(node) if isinstance(one, ast.NamedExpr))
                found |= {one.target.id: None for one in walrus}
                continue
            case ast.Name(ctx=ast.Store() | ast.Del()):
                found[node.id] = None
            case ast.Import() | ast.ImportFrom():
                found |= {name: target for name, target, _ in import_targets(node, package)}
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                found[node.name] = None
            case ast.MatchMapping() if node.rest:
                found[node.rest] = None
            case ast.Global() | ast.Nonlocal():
                outer.update(node.names)
        stack.extend(ast.iter_child_nodes(node))
    return {name: target for name, target in found.items() if name not in outer}


def uses(nodes: Iterable[ast.AST], package: Dotted = ()) -> Uses:
    """Find what statements use; annotations do not count.

    >>> sorted(uses(ast.parse("def f(x: Y): return images.FILTER.name + x.size").body).names)
    [('images', 'FILTER', 'name')]
    """
    found = Uses()

    def scope_of(node: ast.AST) -> dict[str, Dotted | None]:
        if isinstance(node, COMPREHENSIONS):
            targets = (one.target for one in node.generators)
            return {n.id: None for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        arguments = node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        named += [one for one in (arguments.vararg, arguments.kwarg) if one]
        body = node.body if isinstance(node.body, list) else [node.body]
        return {one.arg: None for one in named} | _bound(body, package)

    def name(node: ast.Name, attributes: Dotted, scopes: tuple[dict, ...]) -> None:
        for scope in reversed(scopes):
            if node.id in scope:
                if scope[node.id]:
                    found.imported.add(scope[node.id] + attributes)
                return
        if scopes or attributes or not isinstance(node.ctx, ast.Store):
            found.names.add((node.id, *attributes))

    def visit(node: ast.AST, scopes: tuple[dict, ...]) -> None:
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            # Decorators and defaults are evaluated outside.
            for one in (*getattr(node, "decorator_list", ()), *node.args.defaults):
                visit(one, scopes)
            for one in filter(None, node.args.kw_defaults):
                visit(one, scopes)
            inner = (*scopes, scope_of(node))
            for one in node.body if isinstance(node.body, list) else [node.body]:
                visit(one, inner)
        elif isinstance(node, COMPREHENSIONS):
            inner = (*scopes, scope_of(node))
            visit(node.generators[0].iter, scopes)  # the only part evaluated outside
            for one in ast.iter_child_nodes(node):
                visit(one, inner)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for _, target, module in import_targets(node, package):
                found.loaded.add(module)
                if target[-1] == "*":
                    found.imported.add(module)
        elif isinstance(node, ast.AnnAssign):
            visit(node.target, scopes)
            if node.value:
                visit(node.value, scopes)
        elif isinstance(node, ast.Attribute | ast.Name | ast.Call):
            chain(node, scopes)
        else:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.strings.add(node.value)
            for one in ast.iter_child_nodes(node):
                visit(one, scopes)

    def chain(node: ast.AST, scopes: tuple[dict, ...]) -> None:
        attributes: Dotted = ()
        while isinstance(node, ast.Attribute):
            attributes = (node.attr, *attributes)
            node = node.value
        found.attributes.update(attributes)
        if isinstance(node, ast.Name):
            name(node, attributes, scopes)
        elif isinstance(node, ast.Call):
            if pattern := _import_pattern(node):
                found.patterns.add((pattern, attributes))
            if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "attrgetter"):
                found.attributes.update(
                    one.value for one in node.args if isinstance(one, ast.Constant)
                )
            for one in ast.iter_child_nodes(node):
                visit(one, scopes)
        else:
            visit(node, scopes)

    for one in nodes:
        visit(one, ())
    return found


def _import_pattern(call: ast.Call) -> str | None:
    """Return the module that `import_module` or `find_spec` names, * for what it puts in."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    function = call.func.id if isinstance(call.func, ast.Name) else function
    if function not in ("import_module", "find_spec") or not call.args:
        return None
    path = call.args[0]
    if isinstance(path, ast.Constant) and isinstance(path.value, str):
        return path.value
    if isinstance(path, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "*" for part in path.values
        )
    return None


class Module:
    """A module taken apart.

    Attributes:
        name: as `benchmarks.fit`, in parts.
        path: its file.
        definitions: the statements that bind each top-level name.
        imports: what each imported name stands for.
        loads: the modules that its own import runs.
        stars: modules of which it takes every name.
        effects: statements that do something when it is imported.
        main: what it does when it is run.
    """

    def __init__(self, name: Dotted, path: Path) -> None:
        self.name, self.path = name, path
        self.package = name if path.name == "__init__.py" else name[:-1]
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, Dotted] = {}
        self.loads: set[Dotted] = set()
        self.stars: set[Dotted] = set()
        self.effects: list[ast.stmt] = []
        self.main: list[ast.stmt] = []
        self._take(ast.parse(path.read_bytes(), str(path)).body)

    def _take(self, statements: Iterable[ast.stmt]) -> None:
        for node in statements:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    self._bind(node, [node.name])
                case ast.Import() | ast.ImportFrom():
                    self._import(node)
                case ast.If() if "TYPE_CHECKING" in ast.unparse(node.test):
                    self._take(node.orelse)
                case ast.If() if "__name__" in ast.unparse(node.test):
                    self.main += node.body
                case _ if is_text(node):
                    pass
                case _:
                    names = [
                        one.id
                        for one in ast.walk(node)
                        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
                    ]
                    self._bind(node, names)
                    if not names or isinstance(node, COMPOUND):
                        self.effects.append(node)
                    if isinstance(node, COMPOUND):
                        for one in ast.walk(node):
                            if isinstance(one, ast.Import | ast.ImportFrom):
                                self._import(one)
                            elif isinstance(one, (*FUNCTIONS, ast.ClassDef)):
                                self._bind(node, [one.name])

    def _bind(self, node: ast.stmt, names: Iterable[str]) -> None:
        for name in names:
            self.definitions.setdefault(name, []).append(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, target, module in import_targets(node, self.package):
            self.loads.add(module)
            if name == "*":
                self.stars.add(module)
            else:
                self.imports[name] = target

    def piece(self, nodes: list[ast.stmt]) -> Piece:
        """Digest some of its statements and find what they use."""
        return Piece(shape(nodes), uses(nodes, self.package))
