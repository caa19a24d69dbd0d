"""Seeds by name: every draw has its own, so that adding a generator moves no other draw."""

from __future__ import annotations

import hashlib


def seed_for(base: int, *names: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on `base` and `names` alone.

    >>> seed_for(0, "fit", "deepfd", "dcgan", 1) == seed_for(0, "fit", "deepfd", "dcgan", 1)
    True
    >>> seed_for(0, "fit", "ab", "c") == seed_for(0, "fit", "a", "bc")
    False
    """
    text = "\x1f".join(str(part) for part in (base, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
