"""Where networks run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def default_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_gpu() -> bool:
    """Say whether there is an NVIDIA GPU, without asking torch: asked, it may not be forked."""
    return Path("/proc/driver/nvidia/version").exists()
