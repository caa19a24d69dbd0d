"""The stages of dvc.yaml, read from DVC, and one of them run by DVC.

DVC's graph is the only one, and DVC alone decides what is up to date: this module asks it for the
order and starts `dvc repro --single-item <stage>`. Nothing here knows Prefect.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import TEMPORARY, UserError
from pipeline.operate import leash

Status = Literal["ran", "restored", "unchanged", "busy", "retry", "failed"]
ROOT = Path()
# How much of a stage's output is held to find its last error line.
TAIL = 200
# Seconds that a stage is given to end by itself before it is killed.
GRACE = 10.0

# What DVC says after each stage to people who type its commands.
HINT = re.compile(
    r"\s*(To track the changes|git add|To enable auto|dvc config core|Use `dvc push`)"
)

# Processes started here and not yet ended, each the leader of its own group.
_running: set[subprocess.Popen[str]] = set()


@dataclass(frozen=True)
class Stage:
    """A stage of the graph.

    Attributes:
        name: as DVC addresses it, `sample@dcgan`.
        needs: names of the stages whose outputs it reads.
        in_git: its outputs that git keeps (`cache: false`), relative to the project.
        always: it runs each time, whether anything has changed or not (`always_changed`).
    """

    name: str
    needs: tuple[str, ...]
    in_git: tuple[str, ...] = ()
    always: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        status: `ran`; `restored` from DVC's cache of runs; `unchanged`; `busy`: another process
            works on its files; `retry`: it asks to be tried again (exit code 75); `failed`.
        message: the last error line of a stage that did not succeed.
    """

    status: Status
    message: str = ""


def read() -> list[Stage]:
    """Read what `dvc repro` runs in this folder: the stages of its dvc.yaml and what they need.

    Pipelines of other folders that nothing here needs (`generators/dvc.yaml`, hours of training)
    are not among them.

    Returns:
        Every stage after those that it needs, and before all stages of deeper levels.

    Raises:
        UserError: DVC cannot read the project.
    """
    # Imported here: a Dask worker runs stages and never reads the graph.
    import networkx as nx
    from dvc.dvcfile import PROJECT_FILE
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph, plan_repro

    try:
        with Repo(os.curdir) as repo:
            # As DVC's own `reproduce` does it; an edge leads from a stage to one that it needs.
            active = get_active_graph(repo.index.graph)
            planned = plan_repro(active, list(repo.stage.collect(PROJECT_FILE)))
            graph = active.subgraph(planned)
            top = Path(repo.root_dir)
            stages = {
                stage.addressing: Stage(
                    stage.addressing,
                    tuple(sorted(need.addressing for need in graph.successors(stage))),
                    tuple(
                        Path(out.fs_path).relative_to(top).as_posix()
                        for out in stage.outs
                        if out.is_in_repo and not out.use_cache
                    ),
                    bool(stage.always_changed or stage.is_callback),
                )
                for stage in graph
            }
            levels = nx.topological_generations(graph.reverse())
            return [stages[stage.addressing] for level in levels for stage in level]
    except DvcException as error:
        raise UserError(f"DVC cannot read the project: {error}; see dvc.yaml") from error


def remote() -> str | None:
    """Name of the remote that `dvc push` sends to, None where none is set."""
    from dvc.repo import Repo

    with Repo(os.curdir) as repo:
        return repo.config["core"].get("remote")


def without(stages: Iterable[Stage], dropped: Iterable[str]) -> list[Stage]:
    """Leave out the stages named in `dropped` and every stage that needs one of them."""
    gone, kept = set(dropped), []
    for stage in stages:
        if stage.name in gone or gone.intersection(stage.needs):
            gone.add(stage.name)
        else:
            kept.append(stage)
    return kept


def command(*arguments: str) -> list[str]:
    """Command line of DVC under this very Python, waiting for the lock of a neighbour."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def execute(
    arguments: Sequence[str], on_line: Callable[[str], None], root: Path = ROOT
) -> tuple[int, list[str]]:
    """Run a command, handing over its output line by line as it comes.

    A progress bar, which rewrites its line, comes as one line per state.

    Returns:
        The exit code and the last lines.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        leash.command(arguments, GRACE),  # killed though this process may be, no stage is orphaned
        cwd=root,
        # `python` in dvc.yaml is this Python; its output is not held back in a buffer.
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that a stage's own children are stopped with it
    )
    _running.add(process)
    tail: deque[str] = deque(maxlen=TAIL)
    try:
        for line in process.stdout or ():  # universal newlines: \r ends a line too
            if (line := line.rstrip()) and not HINT.match(line):
                tail.append(line)
                on_line(line)
        return process.wait(), list(tail)
    finally:
        _stop(process)
        if process.stdin:
            process.stdin.close()
        _running.discard(process)


def run(name: str, on_line: Callable[[str], None] = print, root: Path = ROOT) -> Outcome:
    """Run one stage by `dvc repro --single-item`; what is up to date is left alone."""
    code, tail = execute(command("repro", "--single-item", name), on_line, root)
    return outcome(code, tail)


def outcome(code: int, tail: Sequence[str]) -> Outcome:
    """Tell from DVC's exit code and output how a stage ended.

    >>> outcome(0, ["Stage 'a' didn't change, skipping"]).status
    'unchanged'
    """
    text = "\n".join(tail)
    if code == 0:
        if "didn't change, skipping" in text:
            return Outcome("unchanged")
        return Outcome("restored" if "is cached - skipping run" in text else "ran")
    if "is busy, it is being blocked by" in text or "Unable to acquire lock" in text:
        return Outcome("busy", _last(tail, "ERROR:"))
    status: Status = "retry" if re.search(rf"exited with {TEMPORARY}\b", text) else "failed"
    return Outcome(status, _last(tail, "error:") or _last(tail, "ERROR:") or f"exit code {code}")


def _last(tail: Sequence[str], prefix: str) -> str:
    lines = (line for line in reversed(tail) if line.startswith(prefix))
    return next(lines, "").removeprefix(prefix).strip()


def stop_all() -> None:
    """End every process started here, with its children."""
    for process in list(_running):
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """End a process group: politely, then not."""
    for signum, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, signum)
            process.wait(wait)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
