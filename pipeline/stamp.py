"""Whether anything that stage `code` reads has changed since it last ran to its end.

`python -m pipeline.stamp` is what the stage runs: where nothing has changed, params.yaml has been
checked and data/code/ says what it would say again, so nothing is left to do; else it runs
`pipeline.code`. What is compared is all that `pipeline.code` reads: the content of the project's
modules, of the files that they name, of both dvc.yaml, the params and the cards; the folders of
photographs as they are listed; what is installed; and what lies in data/code/ itself. Only the
standard library is imported, so that a `dvc repro` with nothing to do does not wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomic
from pipeline.errors import one_line

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "deepfd", "generators", "pipeline")
OUT = Path("data/code")
STAMP = Path("data/code.stamp.json")
INSTALLED = (".dist-info", ".egg-info")


def modules(root: Path = ROOT, packages: Iterable[str] = PACKAGES) -> list[Path]:
    """Paths of the modules of some packages, sorted."""
    return sorted(path for name in packages for path in (root / name).rglob("*.py"))


def listing(path: str | Path) -> dict[str, Any]:
    """List a folder of photographs, or a file, without reading any: how many, and a digest.

    The digest is of names, sizes and times of change: a photograph that is added, removed or
    replaced moves it. Links are followed as `pipeline.faces` does.
    """
    root = Path(path)
    if not root.is_dir():
        if not root.is_file():
            return {"files": 0}
        found = [("", root.stat().st_size, root.stat().st_mtime_ns)]
    else:
        found, folders, seen = [], [(str(root), "")], set()
        while folders:
            folder, prefix = folders.pop()
            real = os.path.realpath(folder)
            if real in seen:  # a link back to a folder already walked
                continue
            seen.add(real)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append((entry.path, f"{prefix}{entry.name}/"))
                    elif entry.is_file():
                        facts = entry.stat()
                        name = f"{prefix}{entry.name}"
                        found.append((name, facts.st_size, facts.st_mtime_ns))
        found.sort()
    digest = hashlib.sha256()
    for row in found:
        digest.update(repr(row).encode(errors="surrogateescape"))
    return {"files": len(found), "digest": digest.hexdigest()}


def contents(paths: Iterable[str | Path]) -> dict[str, str | None]:
    """Digest the content of files, None of those that are absent."""
    return {
        str(path): hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if Path(path).is_file()
        else None
        for path in paths
    }


def installed() -> list[tuple[str, str, int]]:
    """List every distribution that can be imported from: its place, name with version, and age."""
    found = []
    for place in dict.fromkeys(filter(os.path.isdir, sys.path)):
        with os.scandir(place) as entries:
            named = [entry for entry in entries if entry.name.endswith(INSTALLED)]
        found += sorted((place, entry.name, entry.stat().st_mtime_ns) for entry in named)
    return found


def _digest(of: object) -> str:
    return hashlib.sha256(repr(of).encode(errors="surrogateescape")).hexdigest()


def state(files: Iterable[str | Path], folders: Iterable[str | Path]) -> dict[str, Any]:
    """Describe all that `pipeline.code` reads but what it has made, as it is now.

    Args:
        files: besides modules, those whose content counts; they may be absent.
        folders: of photographs, or files, that count as they are listed.
    """
    return {
        "installed": _digest((sys.version, installed())),
        "modules": _digest(contents(modules())),
        "files": contents(files),
        "folders": {str(folder): listing(folder) for folder in folders},
    }


def _made() -> str:
    return _digest(contents(sorted(OUT.iterdir()) if OUT.is_dir() else []))


def put(read: dict[str, Any]) -> None:
    """Write down that `pipeline.code` ran to its end from what `state` said before it began."""
    write_atomic(STAMP, (json.dumps(read | {"made": _made()}, indent=1) + "\n").encode())


def holds() -> bool:
    """Say whether all is as it was then; False where nothing was written down, or it is damaged."""
    try:
        found = json.loads(STAMP.read_bytes())
        return found == state(found["files"], found["folders"]) | {"made": _made()}
    except (OSError, ValueError, KeyError, TypeError):
        return False


@one_line
def main() -> None:
    """Bring data/code/ up to date if anything has changed."""
    if not holds():
        from pipeline import code

        code.main()


if __name__ == "__main__":
    main()
