"""Errors a user can act on, and the one place that turns them into a line and an exit code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: the message says what came, what was expected, what to do."""


def one_line(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a stage's `main`: a UserError becomes one line on stderr and exit code 1."""

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            raise SystemExit(1) from None

    return wrapped
