"""Colour components of pictures and their residuals.

Li, Li, Tan, Huang, "Identification of deep network generated images using disparities in color
components" (arXiv 1808.07276; Signal Processing 174, 2020), after the authors' MATLAB code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import UserError

COMPONENTS = ("R", "G", "B", "H", "S", "V", "Y", "Cb", "Cr")
# BT.601, studio range, for R, G, B in 0..1 (as MATLAB's rgb2ycbcr).
YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
YCBCR_OFFSET = np.array([16.0, 128.0, 128.0])
# Neighbour of interior pixel (row, column): right, left, down, up.
DIRECTIONS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
CUT = 2


def check_colour(pixels: np.ndarray, what: str) -> None:
    """Raise a UserError unless `pixels` (N, H, W, C) has three channels."""
    if pixels.shape[-1] != 3:
        raise UserError(
            f"{what} needs colour and the pictures have {pixels.shape[-1]} channel; choose a "
            "profile with faces.channels: 3, or leave it out of params.yaml"
        )


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round half up, as MATLAB does, to uint8."""
    return np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)


def components(pixels: np.ndarray, names: Sequence[str] = COMPONENTS) -> dict[str, np.ndarray]:
    """Return 8-bit colour components.

    HSV is round(255 hsv), hue included; YCbCr is BT.601 in studio range.

    Args:
        pixels: uint8 (N, H, W, 3).
        names: of `COMPONENTS`.

    Returns:
        uint8 (N, H, W) for each name.

    Raises:
        UserError: grey pictures.
    """
    check_colour(pixels, "a colour component")
    unknown = set(names) - {*COMPONENTS}
    if unknown:
        raise ValueError(f"unknown components {sorted(unknown)}; expected some of {COMPONENTS}")
    found: dict[str, np.ndarray] = {}
    for number, name in enumerate("RGB"):
        if name in names:
            found[name] = pixels[..., number]
    if {"H", "S", "V"} & {*names}:
        from matplotlib.colors import rgb_to_hsv

        hsv = rgb_to_hsv(pixels / np.float64(255))
        for number, name in enumerate("HSV"):
            if name in names:
                found[name] = _rounded(255 * hsv[..., number])
    for number, name in enumerate(("Y", "Cb", "Cr")):
        if name in names:
            found[name] = _rounded(pixels @ (YCBCR[number] / 255) + YCBCR_OFFSET[number])
    return {name: found[name] for name in names}


def neighbour(plane: np.ndarray, direction: str) -> np.ndarray:
    """Return the neighbours of the interior pixels: (N, H, W) to (N, H - 2, W - 2)."""
    down, right = DIRECTIONS[direction]
    height, width = plane.shape[1:]
    return plane[:, 1 + down : height - 1 + down, 1 + right : width - 1 + right]


def residual(plane: np.ndarray, direction: str) -> np.ndarray:
    """Return first-order residuals, neighbour minus pixel, of the interior pixels; no wrap for hue.

    Args:
        plane: uint8 (N, H, W).
        direction: right, left, down or up.

    Returns:
        int16 (N, H - 2, W - 2), -255..255.
    """
    return neighbour(plane, direction).astype(np.int16) - plane[:, 1:-1, 1:-1]


def quantised(residuals: np.ndarray) -> np.ndarray:
    """Quantise residuals to the 5 bins <= -2, -1, 0, 1, >= 2: uint8, 0..4."""
    return (np.clip(residuals, -CUT, CUT) + CUT).astype(np.uint8)
