"""The processes of fits: side by side, one per core, each on one thread; or one fit by several.

Small networks gain little from a second thread and much from a neighbour on the other core; and a
fit on one thread gives the same bits however many run beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.synchronize import Event
from typing import Any

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pipeline import cores
from pipeline.errors import UserError

WORKERS = "DEEPFD_WORKERS"
STACK = "DEEPFD_STACK"
LAUNCH = "DEEPFD_LAUNCH"
PR_SET_PDEATHSIG = 1  # linux/prctl.h

_function: Callable[..., Any] | None = None
_stopped: Event | None = None


def _number(variable: str) -> int | None:
    """Read a number of fits from the environment; None where nothing is said."""
    wanted = os.environ.get(variable)
    if wanted is not None and (not wanted.isdigit() or not int(wanted)):
        raise UserError(f"{variable} is {wanted!r}; expected a number of fits, 1 or more")
    return wanted and int(wanted)


def stack() -> int:
    """How many fits of a learned method are trained as one network: DEEPFD_STACK, else 1.

    Raises:
        UserError: it is no number, or several processes train one network together.
    """
    wanted = _number(STACK) or 1
    if wanted > 1 and "WORLD_SIZE" in os.environ:
        raise UserError(
            f"{STACK} is {wanted} and several processes train one network together "
            "(`accelerate launch`); expected one of the two: unset one"
        )
    return wanted


def count() -> int:
    """How many fits run at a time: DEEPFD_WORKERS, else one per core, one where there is a GPU.

    torch is not asked: a process that has used a GPU cannot be forked, and a method on fixed
    features does without torch.

    Raises:
        UserError: DEEPFD_WORKERS is no number.
    """
    if (wanted := _number(WORKERS)) is not None:
        return wanted
    if "WORLD_SIZE" in os.environ:  # the processes of `accelerate launch` fit together
        return 1
    if cores.has_gpu():
        return 1
    return cores.available()


def _set_up(function: Callable[..., Any], stopped: Event) -> None:
    """Set a worker up: one thread, and it ends with the process that forked it."""
    global _function, _stopped
    _function, _stopped = function, stopped
    if torch := sys.modules.get("torch"):  # forked with the method that needs it
        torch.set_num_threads(1)
    threadpool_limits(1)  # those of NumPy and scikit-learn
    with contextlib.suppress(OSError, AttributeError):  # Linux alone can
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _call(task: tuple[Any, ...]) -> None:
    if not _stopped.is_set():
        _function(*task)


def each(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int, title: str
) -> None:
    """Call `function(*task)` for every task, in forked processes that share this one's memory.

    Args:
        function: what it returns is dropped; it writes what it makes.
        tasks: arguments, picklable.
        workers: how many at a time.
        title: of the progress bar.

    Raises:
        Exception: the first that a worker raises; what is not begun is not begun any more, and
            what is begun is waited for.
    """
    fork = multiprocessing.get_context("fork")
    stopped = fork.Event()
    with (
        ProcessPoolExecutor(workers, fork, _set_up, (function, stopped)) as pool,
        tqdm(total=len(tasks), desc=title, unit=" fits") as bar,
    ):
        futures = [pool.submit(_call, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            stopped.set()  # (the pool cannot take back what waits at its workers' door)
            raise


def launch(arguments: list[str]) -> None:
    """Become the command in DEEPFD_LAUNCH, which starts `benchmarks.fit` in processes of its own.

    Raises:
        UserError: there is no such command.
    """
    # Those processes do not find it set, and fit.
    command = shlex.split(os.environ.pop(LAUNCH))
    try:
        os.execvp(command[0], [*command, "-m", "benchmarks.fit", *arguments])
    except OSError as error:
        raise UserError(
            f"{LAUNCH} is {' '.join(command)!r}, which cannot be run ({error.strerror}); expected "
            "a command such as: accelerate launch --multi_gpu --num_processes 4"
        ) from None
