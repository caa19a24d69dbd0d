"""How many fits run side by side (`pipeline.forked`), or as one network; or one fit by several."""

from __future__ import annotations

import os
import shlex

from pipeline import cores
from pipeline.errors import UserError

WORKERS = "DEEPFD_WORKERS"
STACK = "DEEPFD_STACK"
LAUNCH = "DEEPFD_LAUNCH"


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
