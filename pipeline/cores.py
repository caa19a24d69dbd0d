"""How many processor cores there are to use."""

from __future__ import annotations

import os


def available() -> int:
    """Return the number of cores this process may run on; all of the machine where none is set."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
