"""How long commands take that do nothing yet, or find nothing to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.speed.turns import OURS, Race, alike

TOP = Path(__file__).parents[2]
CODE = "code"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python in the project; its stages find this Python too.

    Raises:
        CalledProcessError: it failed.
    """
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=TOP, env=env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip


def is_finished() -> bool:
    """Say whether `dvc repro` would run nothing but stage `code`."""
    try:
        done = _run("dvc", "repro", "--dry")
    except subprocess.CalledProcessError:
        return False
    return set(re.findall(r"Running stage '([^']+)'", done.stdout)) <= {CODE}


def races() -> list[Race]:
    """Build what is timed alone; `dvc repro` only where the project is finished."""
    commands = {"benchmarks.fit --help": ("benchmarks.fit", "--help")}
    if is_finished():
        commands["dvc repro, nothing to do"] = ("dvc", "repro")
    else:
        print("speed: dvc repro is not timed: the project is not finished", file=sys.stderr)
    return [
        Race(name, {OURS: partial(_run, *command)}, alike([OURS], "starts", 1))
        for name, command in commands.items()
    ]
