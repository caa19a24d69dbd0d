"""Errors a user can act on, and the one place that turns them into a line and an exit code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: the message says what came, what was expected, what to do."""


class RetryLater(UserError):
    """Something outside failed that may work later as it is: a network, a hub, a remote."""


# EX_TEMPFAIL of sysexits.h: the exit code of a stage that may be tried again as it is.
TEMPORARY = 75


def one_line(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a stage's `main`: a UserError becomes one line on stderr and exit code 1.

    A RetryLater exits with `TEMPORARY`, by which the flow knows that trying again makes sense.
    """

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            raise SystemExit(TEMPORARY if isinstance(error, RetryLater) else 1) from None

    return wrapped
