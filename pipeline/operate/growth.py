"""What a round of growth does to the checkout: one run at a time, params raised, results in git.

Nothing here knows Prefect or DVC.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import yaml

from pipeline import params
from pipeline.errors import UserError
from pipeline.manifest import write_atomic

LOCK = Path(".dvc/tmp/generate-and-train.lock")


class Busy(UserError):
    """Another run works on this checkout."""


@contextlib.contextmanager
def held(path: Path = LOCK) -> Iterator[TextIO]:
    """Hold the lock of this checkout, leaving the record of its last run as it is.

    Raises:
        Busy: a run holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _record(path)
            raise Busy(
                f"run {holder.get('name', 'unknown')} works on this checkout since "
                f"{holder.get('since', 'unknown')} (process {holder.get('pid', 'unknown')} on "
                f"{holder.get('host', 'this machine')}); start again when it has ended, or cancel "
                "it first"
            ) from None
        yield file


@contextlib.contextmanager
def checkout(run: str, name: str, path: Path = LOCK) -> Iterator[str | None]:
    """Keep other runs from this checkout for the length of a `with` block.

    The lock is the operating system's: it goes with the process, however that ends.

    Args:
        run: id of the run.
        name: what people call it.
        path: the lock file; it keeps who holds it.

    Yields:
        The id of the last run, where that was killed and could not sign off.

    Raises:
        Busy: another run holds the checkout.
    """
    with held(path) as file:
        killed = _record(path).get("run")
        holder = {
            "run": run,
            "name": name,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        try:
            yield killed
        finally:
            file.truncate(0)


def _record(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # empty after a run that signed off
        return {}


def grow(step: int, generators: Collection[str], path: Path = params.PATH) -> params.Params:
    """Ask for `step` more images of each of `generators` and count the round, in one edit.

    Only the digits change: comments, order and layout of the file stay. The file is at every moment
    the old or the new one.

    Returns:
        The new params.

    Raises:
        UserError: a value that is not written out where it belongs (a YAML alias or merge).
    """
    old = params.load(path)
    text = path.read_text(encoding="utf-8")
    wanted = {("round",): old.round + 1} | {
        ("generators", name, "images"): old.generators[name].images + step for name in generators
    }
    spans = {}
    for keys, value in wanted.items():
        node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
        for key in keys:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            node = next((value for name, value in pairs if name.value == key), None)
        span = (node.start_mark.index, node.end_mark.index) if node else (0, 0)
        if not text[slice(*span)].isdigit():
            raise UserError(
                f"{path}: {'.'.join(keys)} is not a plain number written out in its place "
                f"(found {text[slice(*span)]!r}); write it there"
            )
        spans[span] = str(value)
    for (start, end), digits in sorted(spans.items(), reverse=True):
        text = text[:start] + digits + text[end:]
    new = params.parse(yaml.safe_load(text), path)
    write_atomic(path, text.encode())
    return new


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


def commit(paths: Sequence[str], message: str) -> str | None:
    """Commit these files and no others, whatever else is staged; what git ignores is left out.

    Returns:
        The short id of the commit, or None where nothing had changed.

    Raises:
        UserError: git refuses; its own words follow.
    """
    there = [path for path in paths if Path(path).exists()]
    # Small outputs under data/ are DVC's to write and not git's to keep: `git add` refuses them.
    ignored = set(_git("check-ignore", "--", *there).stdout.splitlines())
    there = [path for path in there if path not in ignored]
    added = _git("add", "--", *there)
    if added.returncode == 0 and _git("diff", "--cached", "--quiet", "--", *there).returncode == 0:
        return None
    done = added if added.returncode else _git("commit", "-q", "-m", message, "--", *there)
    if done.returncode:
        raise UserError(f"git cannot commit the round: {(done.stderr or done.stdout).strip()}")
    return _git("rev-parse", "--short", "HEAD").stdout.strip()
