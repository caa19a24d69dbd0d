"""Write what is kept of the results into the documents, between marks that stay where they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.publish import artefact, blocks, claims, origins, picture, places, speeds
from benchmarks.publish.artefact import Kept
from pipeline.errors import UserError
from pipeline.manifest import write_atomic

DOCS = Path("docs")
# Blocks made of kept results that are not the profile's own: their names go behind the profile's.
ELSEWHERE = {
    "ablation": ("ablation",),
    "finish": ("finish-none", "finish-jpeg"),
    "together": ("together",),
}
# What a block is made by, of one kept result or of all that `sources` names.
BLOCKS: dict[str, Callable[..., str]] = {
    "summary": blocks.summary,
    "cells": blocks.cells,
    "families": blocks.families,
    "collections": blocks.collections,
    "wild": blocks.wild,
    "ablation": blocks.ablation,
    "finish": origins.finish,
    "probes": origins.probes,
    "together": origins.together,
    "pairs": claims.pairs,
    "verdict": claims.verdict,
    "provenance": claims.provenance,
    "localisation": places.localisation,
    "localisation-cells": places.localisation_cells,
}
# The same, of the measurements of speed: marks of the profile `speed`.
SPEEDS: dict[str, Callable[[speeds.KeptSpeed], str]] = {
    "races": speeds.races,
    "short": speeds.short,
    "where": speeds.where,
    "growth": speeds.growth,
}
_MARK = re.compile(r"<!-- results:(?P<key>[\w-]+:[\w-]+):(?P<end>start|end) -->")


def sources(profile: str, block: str) -> tuple[str, ...]:
    """Name the kept results that a block is made of: of an ablation `<profile>-ablation`."""
    return tuple(f"{profile}-{name}" for name in ELSEWHERE.get(block, ())) or (profile,)


def _spans(text: str, where: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield profile, block, start and end of what lies between each pair of marks.

    Raises:
        UserError: a mark without its other, or an unknown block.
    """
    marks = list(_MARK.finditer(text))
    for first, last in zip(marks[::2], [*marks[1::2], None], strict=False):
        key = first["key"]
        if last is None or (first["end"], last["end"], last["key"]) != ("start", "end", key):
            raise UserError(
                f"{where}: the mark {first[0]} has no partner; expected "
                f"<!-- results:{key}:start --> and then <!-- results:{key}:end -->"
            )
        profile, block = key.split(":")
        known = SPEEDS if profile == speeds.NAME else BLOCKS
        if block not in known:
            raise UserError(f"{where}: no block {block!r}; expected one of {', '.join(known)}")
        yield profile, block, first.end(), last.start()


def rendered(
    text: str, read: Callable[[str], Kept | speeds.KeptSpeed | None], where: str = "the text"
) -> str:
    """Fill every block of a text; those of profiles that are not kept stay as they are.

    Args:
        text: Markdown.
        read: the kept results of a profile, None where there are none.
        where: for errors.

    Raises:
        UserError: see `_spans`.
    """
    parts, at = [], 0
    for profile, block, start, end in _spans(text, where):
        found = [read(name) for name in sources(profile, block)]
        if None not in found:
            made = (SPEEDS if profile == speeds.NAME else BLOCKS)[block](*found)
            parts += [text[at:start], f"\n{made}\n"]
            at = end
    return "".join([*parts, text[at:]])


def reader(folder: Path = artefact.FOLDER) -> Callable[[str], Kept | speeds.KeptSpeed | None]:
    """Return what reads the kept results of a profile, each once."""
    there, cache = artefact.names(folder), {}

    def read(name: str) -> Kept | speeds.KeptSpeed | None:
        if name == speeds.NAME and name not in cache:
            cache[name] = speeds.read(folder)
        if name in there and name not in cache:
            cache[name] = artefact.read(name, folder)
        return cache.get(name)

    return read


def documents(root: Path = Path()) -> list[Path]:
    """Return the documents that may have blocks."""
    return [root / "README.md", *sorted((root / DOCS).glob("*.md"))]


def stale(root: Path = Path()) -> dict[Path, str]:
    """Return the documents that do not say what is kept, with the text that would."""
    read = reader(root / artefact.FOLDER)
    found = {path: path.read_text(encoding="utf-8") for path in documents(root) if path.is_file()}
    fresh = {path: rendered(text, read, str(path)) for path, text in found.items()}
    return {path: text for path, text in fresh.items() if text != found[path]}


def pictured(folder: Path) -> list[str]:
    """Name the kept results that have a picture: all but those that are there for a table."""
    ends = tuple(f"-{name}" for names in ELSEWHERE.values() for name in names)
    return [name for name in artefact.names(folder) if not name.endswith(ends)]


def render(root: Path = Path()) -> list[Path]:
    """Rewrite the documents and the pictures; returns what has changed."""
    changed = stale(root)
    for path, text in changed.items():
        write_atomic(path, text.encode())
    written = list(changed)
    read = reader(root / artefact.FOLDER)
    for name in pictured(root / artefact.FOLDER):
        path, fresh = root / DOCS / f"matrix-{name}.png", picture.png(read(name))
        if not path.is_file() or path.read_bytes() != fresh:
            write_atomic(path, fresh)
            written.append(path)
    return written
