"""Pictures put together from two, with a known mask: what localisation is measured on.

A region of a *donor* is put into a *host*. Which pixels are fake follows from the two: the region
where a fake is the donor, the rest where it is the host, none where both are photographs. That last
kind is the control: it has the same regions and the same seams, and nothing fake.

Everything is a function of the images' ids and the base seed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import splu

from pipeline.folds import Images
from pipeline.seeds import seed_for

# Names of what is put into what; the last is the control.
FAKE_IN, REAL_IN, CONTROL = "fake_in_photograph", "photograph_in_fake", "photograph_in_photograph"
# The control's hosts as they were, with its regions: what the place alone gives.
UNTOUCHED = "untouched_photograph"
REGIONS = ("eyes", "mouth", "half", "ellipse")
SEAMS = ("feathered", "poisson")
# Width of a feathered seam: standard deviation of the blurred mask, as a fraction of the side.
FEATHER = 1 / 40

Framing = Sequence[float]


@dataclass(frozen=True)
class Composite:
    """One picture put together.

    Attributes:
        pixels: uint8 (S, S, C).
        region: bool (S, S), what is the donor's.
        fake: bool (S, S), what is a generator's; all False in the control.
        pair: of host and donor, known by the host's id; the same for all regions and seams.
        shape: name of the region.
        seam: name of the seam.
    """

    pixels: np.ndarray
    region: np.ndarray
    fake: np.ndarray
    pair: str
    shape: str
    seam: str


def _ellipse(size: int, box: Sequence[float], angle: float = 0.0) -> np.ndarray:
    """Mask of the ellipse in a box (left, upper, right, lower as fractions), turned by `angle`."""
    y, x = (np.indices((size, size)) + 0.5) / size
    left, upper, right, lower = box
    x, y = x - (left + right) / 2, y - (upper + lower) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (along / (right - left)) ** 2 + (across / (lower - upper)) ** 2 <= 0.25


def region(shape: str, size: int, framing: Framing, rng: np.random.Generator) -> np.ndarray:
    """Draw a region.

    Args:
        shape: of `REGIONS`. Eyes and mouth lie where `framing` says, `half` is one of the four
            halves, `ellipse` covers 5 to 25 % of the picture, wholly inside it.
        size: side of the picture.
        framing: box of the face from the eyebrows to the chin, as fractions of the picture.
        rng: draws the half, or the ellipse.

    Returns:
        bool (size, size).
    """
    left, upper, right, lower = framing
    width, height = right - left, lower - upper
    if shape == "eyes":
        return _ellipse(size, (left, upper, right, upper + 0.4 * height))
    if shape == "mouth":
        box = (left + 0.2 * width, upper + 0.6 * height, right - 0.2 * width, lower)
        return _ellipse(size, box)
    if shape == "half":
        mask = np.zeros((size, size), bool)
        mask[: size // 2] = True
        return np.rot90(mask, rng.integers(4))
    area, ratio = rng.uniform(0.05, 0.25), rng.uniform(0.6, 1.6)
    # Of an ellipse with semi-axes a and b the area is pi a b.
    a, b = np.sqrt(area / np.pi * ratio), np.sqrt(area / np.pi / ratio)
    far = min(max(a, b), 0.5)
    x, y = rng.uniform(far, 1 - far, 2)
    return _ellipse(size, (x - a, y - b, x + a, y + b), rng.uniform(0, np.pi))


def feathered(host: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blend by the blurred mask; uint8 (S, S, C) each, mask bool (S, S)."""
    alpha = gaussian_filter(mask.astype(float), FEATHER * len(mask), mode="nearest")[..., None]
    return np.rint(donor * alpha + host * (1 - alpha)).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _laplacian(packed: bytes, size: int) -> tuple[object, sparse.csr_matrix]:
    """Factorise the Laplacian of a mask's pixels, and return it over all pixels of the picture."""
    mask = np.unpackbits(np.frombuffer(packed, np.uint8))[: size * size].astype(bool)
    places = np.arange(size * size).reshape(size, size)
    # One row (+1, -1) for each pair of neighbours: the gradient; its square is the Laplacian, which
    # thereby has no gradient across the picture's border.
    pairs = np.concatenate(
        [
            np.stack([places[:, 1:].ravel(), places[:, :-1].ravel()], 1),
            np.stack([places[1:].ravel(), places[:-1].ravel()], 1),
        ]
    )
    rows = np.arange(len(pairs))
    gradient = sparse.csr_matrix(
        (np.repeat([1.0, -1.0], len(pairs)), (np.tile(rows, 2), pairs.T.ravel())),
        shape=(len(pairs), size * size),
    )
    # Only pairs with a pixel of the region matter: the others are the host's own.
    touched = mask[pairs].any(axis=1)
    whole = (gradient[touched].T @ gradient[touched]).tocsr()
    inside = np.flatnonzero(mask)
    return splu(whole[inside][:, inside].tocsc()), whole


def poisson(host: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Clone the donor's gradients into the host (Perez, Gangnet and Blake 2003, eq. 2 and 4).

    Within the mask the result has the donor's gradients as nearly as its border, the host's pixels,
    allows: minimise sum |grad f - grad donor|^2 over pairs of neighbours with one in the mask.

    Args:
        host: uint8 (S, S, C).
        donor: uint8 (S, S, C).
        mask: bool (S, S); neither empty nor the whole picture.
    """
    size, inside = len(mask), np.flatnonzero(mask)
    solver, whole = _laplacian(np.packbits(mask).tobytes(), size)
    out = host.astype(float).reshape(size * size, -1)
    wanted = donor.astype(float).reshape(size * size, -1)
    outside = np.setdiff1d(np.arange(size * size), inside)
    right = whole[inside] @ wanted - whole[inside][:, outside] @ out[outside]
    out[inside] = solver.solve(right)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8).reshape(host.shape)


BLENDS = {"feathered": feathered, "poisson": poisson}


def donors_of(hosts: Images, donors: Images, seed: int, kind: str) -> np.ndarray:
    """Choose for each host a donor, another picture and, where known, of another person.

    Returns:
        int (hosts,), places in `donors`. A host for which there is none is -1.
    """
    chosen = np.full(len(hosts), -1)
    for place, name in enumerate(hosts.ids):
        person = hosts.identities[place]
        other = donors.ids != name
        if person:
            other &= donors.identities != person
        if len(others := np.flatnonzero(other)):
            rng = np.random.default_rng(seed_for(seed, "donor", kind, str(name)))
            chosen[place] = rng.choice(others)
    return chosen


def composites(
    kind: str, hosts: Images, donors: Images, framing: Framing, seed: int
) -> Iterator[Composite]:
    """Put a region of a donor into each host, for each shape and each seam.

    Args:
        kind: `FAKE_IN`, `REAL_IN` or `CONTROL`: says which of the two is fake.
        hosts: N pictures of one side S.
        donors: to choose from.
        framing: see `region`.
        seed: of all draws.

    Yields:
        Up to N x regions x seams composites.
    """
    chosen = donors_of(hosts, donors, seed, kind)
    for place, donor in enumerate(chosen):
        if donor < 0:
            continue
        name = str(hosts.ids[place])
        host, other = hosts.pixels[place], donors.pixels[donor]
        for shape in REGIONS:
            rng = np.random.default_rng(seed_for(seed, "region", kind, shape, name))
            mask = region(shape, len(host), framing, rng)
            fake = {FAKE_IN: mask, REAL_IN: ~mask, CONTROL: np.zeros_like(mask)}[kind]
            for seam in SEAMS:
                pixels = BLENDS[seam](host, other, mask)
                yield Composite(pixels, mask, fake, name, shape, seam)
