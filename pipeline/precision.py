"""The number format a network is computed in: bf16 where the hardware has it, else fp32."""

from __future__ import annotations

import torch


def has_bf16(device: torch.device) -> bool:
    """Say whether `device` multiplies bf16 natively.

    A CPU without such instructions emulates bf16 and is slower than in fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def autocast(device: torch.device) -> torch.autocast:
    """Context in which a forward pass runs: bf16 where native, else it changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bf16(device))
