"""How the energy of a picture is spread over frequencies, and what blocks have left in it.

Both look at luma and chroma by themselves: JPEG halves and coarsens chroma, and what no eye sees
there can tell a photograph from every fake.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np

# Rows: Y, Cb, Cr of R, G, B (ITU-R BT.601, as JFIF has it), without the offset of 128.
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
# Edges of the bands in cycles per pixel; the last reaches into the corners of the spectrum. Each is
# cut in three, since filters and codecs treat an axis and a diagonal differently.
EDGES = (1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 5 / 16, 3 / 8, 7 / 16, 1 / 2, 0.71)
DIRECTIONS = ("across", "along", "diagonal")
# Harmonics whose own period lies above FAST and up to SLOW pixels count: slower ones are content.
FAST, SLOW = 2.0, 6.0
BLOCK = 8  # of JPEG, in pixels of the source
# Squared grey levels: rounding alone has 1/12, so less than this is nothing.
NOTHING = 1e-3


def planes_of(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Split float (H, W, 1 or 3), 0..255, into Y or Y, Cb, Cr: name -> (H, W)."""
    if pixels.shape[2] == 1:
        return {"Y": pixels[..., 0]}
    return dict(zip(("Y", "Cb", "Cr"), np.moveaxis(pixels @ YCBCR.T, 2, 0), strict=True))


@cache
def _rings(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Window (height, width), and the band of each coefficient of its rfft2 (-1: none)."""
    window = np.hanning(height)[:, None] * np.hanning(width)[None]
    down = np.abs(np.fft.fftfreq(height))[:, None] + np.zeros((1, width // 2 + 1))
    right = np.fft.rfftfreq(width)[None] + np.zeros((height, 1))
    ring = np.digitize(np.hypot(down, right), EDGES) - 1
    direction = np.where(down < right / 2, 0, np.where(right < down / 2, 1, 2))
    return window, np.where(ring >= 0, ring * len(DIRECTIONS) + direction, -1)


def bands(planes: dict[str, np.ndarray]) -> dict[str, float]:
    """Log of the share of each plane's energy in each band and direction.

    The energy is that of the Fourier coefficients of the plane less its mean, under a Hann window:
    a share does not depend on contrast. The planes' own energies are beside them, for a picture
    whose chroma is nothing.
    """
    found = {}
    for name, plane in planes.items():
        window, ring = _rings(*plane.shape)
        spectrum = np.abs(np.fft.rfft2((plane - plane.mean()) * window)) ** 2 / plane.size
        inside = ring >= 0
        names = [
            f"{low:.2f}-{high:.2f} {way}" for low, high in pairwise(EDGES) for way in DIRECTIONS
        ]
        energy = np.bincount(ring[inside], spectrum[inside], len(names))
        whole = energy.sum() + NOTHING
        shares = np.log((energy + NOTHING / len(names)) / whole)
        found |= {f"bands: {name} {band}": float(s) for band, s in zip(names, shares, strict=True)}
        found[f"bands: {name} energy"] = float(np.log(whole))
    return found


def _roughness(plane: np.ndarray) -> np.ndarray:
    """How rough each column is, standardised: (W - 2,).

    The mean of log(1 + second difference): in logarithms the many small differences at a block's
    edge count as much as the few large ones of the content.
    """
    second = np.abs(plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:])
    rough = np.log1p(second).mean(axis=0)
    return (rough - rough.mean()) / (rough.std() + NOTHING)


def grid(planes: dict[str, np.ndarray], periods: Sequence[float]) -> dict[str, float]:
    """How much of the columns' and rows' roughness comes back with each period.

    A JPEG's blocks of 8 pixels, reduced by a factor of 1.4, come back every 5.75 pixels, those of
    halved chroma twice as far apart; where all photographs have one size, at the same places. So
    the Fourier coefficients of the roughness at the period's harmonics are described by cosine,
    sine and size.

    Args:
        planes: name -> (H, W).
        periods: of the blocks, in pixels.
    """
    found = {}
    for name, plane in planes.items():
        profiles = {"columns": _roughness(plane), "rows": _roughness(plane.T)}
        for block in periods:
            period = block if name == "Y" else 2 * block
            for k in range(math.ceil(period / SLOW), math.ceil(period / FAST)):
                for way, profile in profiles.items():
                    wave = np.exp(-2j * np.pi * k / period * np.arange(len(profile)))
                    value = complex((profile * wave).mean())
                    where = f"grid: {name} {way} {period:.2f}/{k}"
                    found |= {f"{where} cos": value.real, f"{where} sin": value.imag}
                    found[f"{where} size"] = abs(value)
    return found
