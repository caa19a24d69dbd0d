"""Fetching over a network that may fail for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

ATTEMPTS = 3
WAIT_SECONDS = 2.0
T = TypeVar("T")


def insist(fetch: Callable[[], T], *errors: type[Exception]) -> T:
    """Call `fetch` until it succeeds, `ATTEMPTS` times at most, with growing pauses.

    Args:
        fetch: what may fail for a moment.
        errors: what it raises then; the last one is raised on.

    >>> insist(lambda: 7, OSError)
    7
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return fetch()
        except errors:
            time.sleep(WAIT_SECONDS * 2**attempt)
    return fetch()
