"""An external program, called with a seed range and a folder (as stylegan3's gen_images.py is).

The program runs as the user, from the project's top folder, never through a shell.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from generators.adapters.folder import read_pictures
from generators.adapters.options import CommandGenerator
from generators.base import file_sha256, folder_sha256
from pipeline.errors import UserError


def ranges(seeds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut seeds into runs of consecutive ones: (first, last) of each.

    >>> list(ranges([3, 4, 5, 9]))
    [(3, 5), (9, 9)]
    """
    first = 0
    for place in range(1, len(seeds) + 1):
        if place == len(seeds) or seeds[place] != seeds[place - 1] + 1:
            yield seeds[first], seeds[place - 1]
            first = place


class Command:
    """A program that writes one picture per seed and owes each to that seed alone."""

    def __init__(self, options: CommandGenerator) -> None:
        """Check the templates and digest what the program reads.

        Raises:
            UserError: `weights` is absent, or a template has an unknown placeholder.
        """
        path = Path(options.weights)
        if not path.exists():
            raise UserError(
                f"{path} not found; expected the file or folder that the program depends on"
            )
        self.channels = options.channels
        self._options = options
        self._argv(0, 0, "out")
        self._file(0)
        self._spec = {
            "adapter": "command",
            "weights": folder_sha256(path) if path.is_dir() else file_sha256(path),
            "argv": list(options.argv),
            "file": options.file,
        }

    def _argv(self, first: int, last: int, out: str) -> list[str]:
        values = {"first": first, "last": last, "count": last - first + 1, "out": out,
                  "weights": self._options.weights}  # fmt: skip
        try:
            return [part.format_map(values) for part in self._options.argv]
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            raise UserError(
                f"argv has an unknown placeholder: {error}; expected {{first}}, {{last}}, "
                "{count}, {out} and {weights}, and braces doubled elsewhere"
            ) from None

    def _file(self, seed: int) -> str:
        try:
            return self._options.file.format(seed=seed)
        except (KeyError, ValueError, IndexError) as error:
            raise UserError(
                f"file {self._options.file!r} has a wrong placeholder: {error}; expected {{seed}}"
            ) from None

    def spec(self) -> dict[str, Any]:
        """Return the digest of what the program reads, and how it is called."""
        return self._spec

    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1].

        Raises:
            UserError: the program is absent, fails, takes too long, or writes too few pictures.
        """
        with tempfile.TemporaryDirectory() as out:
            for first, last in ranges(seeds):
                self._run(self._argv(first, last, out))
            paths = [Path(out) / self._file(seed) for seed in seeds]
            absent = [path.name for path in paths if not path.is_file()]
            if absent:
                raise UserError(
                    f"{self._options.argv[0]} wrote {len(paths) - len(absent)} of {len(paths)} "
                    f"pictures, {absent[0]} is missing; mend `argv` or `file` in params.yaml"
                )
            return read_pictures(paths, self.channels)

    def _run(self, argv: list[str]) -> None:
        try:
            # A session of its own, so that a time-out ends the program's children too. How torch
            # loads files (generators/base.py) is set for this process, not for the program.
            process = subprocess.Popen(
                argv,
                env={k: v for k, v in os.environ.items() if k != "TORCH_FORCE_WEIGHTS_ONLY_LOAD"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise UserError(
                f"{argv[0]} cannot be run: {error.strerror}; install it or mend `argv`"
            ) from None
        try:
            _, said = process.communicate(timeout=self._options.timeout)
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{argv[0]} took more than {self._options.timeout:g} s for a batch of "
                f"{self._options.batch}; raise `timeout` or lower `batch`"
            ) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode != 0:
            last = (said.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
            raise UserError(
                f"{argv[0]} ended with exit code {process.returncode} and said: {last[:200]}; mend "
                "the program or `argv`"
            )
