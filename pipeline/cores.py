"""How many processor cores there are to use, and whether there is a GPU."""

from __future__ import annotations

import os
from pathlib import Path


def available() -> int:
    """Return the number of cores this process may run on; all of the machine where none is set."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_gpu() -> bool:
    """Say whether there is an NVIDIA GPU, without asking torch: asked, it may not be forked."""
    return Path("/proc/driver/nvidia/version").exists()
