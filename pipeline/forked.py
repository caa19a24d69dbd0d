"""Work shared out to forked processes, which share this one's memory: one per core, on one thread.

What is small gains little from a second thread and much from a neighbour on the other core; and on
one thread the same bits come out however many run beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.synchronize import Event
from typing import Any

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pipeline import cores

PR_SET_PDEATHSIG = 1  # linux/prctl.h

_function: Callable[..., Any] | None = None
_stopped: Event | None = None


def _set_up(function: Callable[..., Any], stopped: Event) -> None:
    """Set a worker up: one thread, and it ends with the process that forked it."""
    global _function, _stopped
    _function, _stopped = function, stopped
    if torch := sys.modules.get("torch"):  # forked with what needs it
        torch.set_num_threads(1)
    threadpool_limits(1)  # those of NumPy and scikit-learn
    with contextlib.suppress(OSError, AttributeError):  # Linux alone can
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _call(task: tuple[Any, ...], kept: bool) -> Any:
    if _stopped.is_set():
        return None
    found = _function(*task)
    return found if kept else None


def each(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int,
    title: str | None = None, unit: str = "fits", kept: bool = False,
) -> list[Any]:  # fmt: skip
    """Call `function(*task)` for every task, in forked processes.

    Args:
        function: what is done with a task.
        tasks: arguments, picklable.
        workers: how many at a time.
        title: of the progress bar; None for no bar.
        unit: what a task is.
        kept: whether what the function returns, picklable, is wanted; else it is dropped.

    Returns:
        What it returned of each task, in order; None of each where nothing is kept.

    Raises:
        Exception: the first that a worker raises; what is not begun is not begun any more, and
            what is begun is waited for.
    """
    fork = multiprocessing.get_context("fork")
    stopped = fork.Event()
    with (
        ProcessPoolExecutor(workers, fork, _set_up, (function, stopped)) as pool,
        tqdm(total=len(tasks), desc=title, unit=f" {unit}", disable=title is None) as bar,
    ):
        futures = [pool.submit(_call, task, kept) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            stopped.set()  # (the pool cannot take back what waits at its workers' door)
            raise
    return [future.result() for future in futures]


def mapped(
    function: Callable[[int], Any], count: int, title: str, unit: str, least: int = 2
) -> list[Any]:
    """Call `function(number)` for 0 ... count - 1, `least` or more by a process for each core.

    Where there is a GPU (a process that has used one cannot be forked), or within a process that
    was forked itself, all is done here.

    Returns:
        What it returned of each, picklable, in order.
    """
    several = min(_processes(), count) if count >= least else 1
    if several < 2:
        return [function(number) for number in tqdm(range(count), title, unit=f" {unit}")]
    return each(function, [(number,) for number in range(count)], several, title, unit, kept=True)


def split(function: Callable[[int, int], Any], count: int, least: int) -> list[Any]:
    """Call `function(start, stop)` for parts of `count` things: as `mapped`, a part for each core.

    Args:
        function: makes something picklable of the things from `start` to `stop`.
        count: of the things.
        least: things that are worth a process.

    Returns:
        What it returned of each part, in order; of nothing there is no part.
    """
    parts = max(1, min(_processes(), count // least))
    ends = [count * part // parts for part in range(parts + 1)]
    tasks = [one for one in itertools.pairwise(ends) if one[0] < one[1]]
    if parts == 1:
        return [function(*one) for one in tasks]
    return each(function, tasks, parts, kept=True)


def _processes() -> int:
    alone = cores.has_gpu() or multiprocessing.parent_process() is not None
    return 1 if alone else cores.available()
