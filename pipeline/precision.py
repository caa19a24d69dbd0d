"""The number format that a network's maps are computed in: fp32, or bf16 where that is faster.

Which of the two is faster no flag of the hardware tells: some CPUs that have bf16 instructions are
slower with them. So `choose` measures, for a fraction of a second, on the network at hand. Pooling,
last layers, losses and scores are in fp32 whatever the format (`full`). DEEPFD_PRECISION (fp32 or
bf16) overrules everything, for tests.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pipeline.errors import UserError

Precision = Literal["fp32", "bf16"]
VARIABLE = "DEEPFD_PRECISION"
# Rounds of a measurement, the first of which is not counted, and how much faster bf16 has to be.
ROUNDS, GAIN = 4, 1.1


def forced() -> Precision | None:
    """Return what DEEPFD_PRECISION asks for, None where it is not set.

    Raises:
        UserError: another value.
    """
    value = os.environ.get(VARIABLE)
    if value in (None, "", "fp32", "bf16"):
        return value or None
    raise UserError(f"{VARIABLE} is {value!r}; expected fp32 or bf16, or leave it unset")


def has_bf16(device: torch.device) -> bool:
    """Say whether `device` has instructions for bf16; without them it is emulated, slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which a forward pass runs: bf16 where asked for, else it changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def full(like: Tensor) -> torch.autocast:
    """Context in which everything is computed in fp32, inside `autocast` too."""
    return torch.autocast(like.device.type, enabled=False)


def choose(
    asked: Literal["auto", "fp32", "bf16"], device: torch.device, step: Callable[[Precision], None]
) -> Precision:
    """Return the format to train in.

    Args:
        asked: `auto` measures, anything else is the answer (unless DEEPFD_PRECISION is set).
        device: what it will run on.
        step: does one step's work in a format; it is repeated and timed in turns.

    Raises:
        UserError: DEEPFD_PRECISION has another value.
    """
    if found := forced():
        return found
    if asked != "auto":
        return asked
    if not has_bf16(device):
        return "fp32"
    best: dict[Precision, float] = {"fp32": float("inf"), "bf16": float("inf")}
    for number in range(ROUNDS):
        for precision in best:
            start = time.perf_counter()
            step(precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                best[precision] = min(best[precision], time.perf_counter() - start)
    return "bf16" if best["bf16"] * GAIN < best["fp32"] else "fp32"


@functools.cache
def measured(device: torch.device) -> Precision:
    """Return the faster format for convolutions of a generator's size, measured once a process."""
    conv = torch.nn.Conv2d(64, 64, 3, padding=1).to(device, memory_format=torch.channels_last)
    x = torch.ones(16, 64, 32, 32, device=device).to(memory_format=torch.channels_last)

    def step(precision: Precision) -> None:
        with autocast(device, precision):
            loss = conv(x).float().mean()
        loss.backward()

    return choose("auto", device, step)
