"""Splits: no image, near-duplicate or person in two of them, nor an image of two generators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from pipeline import manifest
from pipeline.gates.gate import Gate, judge, some
from pipeline.gates.options import Audit
from pipeline.gates.traces import Traces

# A 16x16 perceptual hash: on the ORL faces and on 3,000 CelebA faces at 64x64, two pictures of
# different persons differ in 52 bits or more (of 4.6 million pairs), the same picture after JPEG
# 50, noise of 4 grey levels or resizing to 56 px and back in 16 or fewer, after a shift by one
# pixel mostly in 32 to 42. `audit.near_bits` lies between.
BITS = 256  # of images.perceptual_hash
CHUNK = 1024
# Images of a source that are compared each with each for how often they repeat.
MOST = 4096


def closest(
    queries: np.ndarray, keys: np.ndarray, skip_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest inner product of each query with a key, and the position of that key.

    Args:
        queries: float32 (N, D).
        keys: float32 (M, D), M >= 1 (2 with `skip_self`).
        skip_self: `keys` are the queries themselves; an image is not its own neighbour.

    Returns:
        float32 (N,) and int (N,).
    """
    best = np.empty(len(queries), np.float32)
    where = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), CHUNK):
        products = queries[start : start + CHUNK] @ keys.T  # (chunk, M)
        if skip_self:
            own = np.arange(len(products))
            products[own, start + own] = -np.inf
        where[start : start + CHUNK] = products.argmax(axis=1)
        best[start : start + CHUNK] = products.max(axis=1)
    return best, where


def bits_apart(products: np.ndarray) -> np.ndarray:
    """Turn inner products of hashes into Hamming distances, 0..256."""
    return (BITS - products) / 2


def repeated(hashes: np.ndarray, audit: Audit, count: int) -> float:
    """Return the share of images with a near-duplicate among `count` of them, picked at random.

    It is the mean over all picks, by the hypergeometric distribution: the share of a single pick
    moves by points, which would let a growing generator through in one round and not in the next.
    Of more than `MOST` images, so many are looked at, evenly picked.
    """
    hashes = hashes[np.linspace(0, len(hashes) - 1, min(MOST, len(hashes))).astype(int)]
    others, picked = len(hashes) - 1, min(count, len(hashes)) - 1
    if others < 1 or picked < 1:
        return 0.0
    near = np.empty(len(hashes), np.int64)
    for start in range(0, len(hashes), CHUNK):
        apart = bits_apart(hashes[start : start + CHUNK] @ hashes.T)
        near[start : start + CHUNK] = (apart <= audit.near_bits).sum(axis=1) - 1  # not itself
    # P(none of d near ones is picked): product over j < d of (others - picked - j) / (others - j)
    factors = (others - picked - np.arange(near.max())) / (others - np.arange(near.max()))
    spared = np.concatenate([[1.0], np.cumprod(np.maximum(factors, 0.0))])
    return float((1 - spared[near]).mean())


def split_gates(found: Mapping[str, Traces], real: Traces, audit: Audit) -> Iterator[Gate]:
    """Yield the gates on images, near-duplicates and persons in two places.

    The place of a photograph is its split: it is compared with those of other splits, of its own
    and of other collections (one that is in two collections is in the same split of both, unless
    one of them is for testing only). The place of a fake is its generator and its split, so that an
    image of the held-out generator cannot stand in training under another name.

    Args:
        found: the images of every source.
        real: those of the collections that are trained on.
        audit: the limits.
    """
    for real_kind in (True, False):
        kind = {name: one for name, one in found.items() if manifest.is_real(name) == real_kind}
        if not kind:
            continue
        rows = pd.concat(
            [one.rows.assign(source=name) for name, one in kind.items()], ignore_index=True
        )
        home = rows["split"] if real_kind else rows["source"] + "/" + rows["split"]
        hashes = np.concatenate([one.hashes for one in kind.values()])
        place = rows["source"] + "/" + rows["split"]
        homes = home.groupby(rows["digest"]).transform("nunique")
        for name in kind:
            limit = audit.near_duplicate
            if not real_kind:
                limit = audit.collapse + repeated(real.hashes, audit, len(kind[name].hashes))
            own = (rows["source"] == name).to_numpy()
            twice = rows[own & (homes > 1).to_numpy()]
            evidence = f"{len(twice)} images stand in another split or source too"
            if len(twice):
                first = twice.iloc[0]
                same = rows[(rows["digest"] == first["digest"]) & (home != home[first.name])]
                evidence += (
                    f": {first['image_id']} ({place[first.name]}) is {same.iloc[0]['image_id']} "
                    f"({place[same.index[0]]})"
                )
            yield judge("sha256", name, len(twice), 0, evidence)

            # The nearest image of another place, for each image of this source.
            bits = np.full(len(rows), np.inf)
            other = np.zeros(len(rows), np.int64)
            for here in home[own].unique():
                mine, theirs = own & (home == here).to_numpy(), np.flatnonzero(home != here)
                if len(theirs):
                    best, where = closest(hashes[mine], hashes[theirs])
                    bits[mine], other[mine] = bits_apart(best), theirs[where]
            share = (bits[own] <= audit.near_bits).mean()
            evidence = f"{(bits[own] <= audit.near_bits).sum()} of {own.sum()} images have a "
            evidence += f"near-duplicate (<= {audit.near_bits} of {BITS} bits) elsewhere"
            if np.isfinite(bits[own]).any():
                at = int(np.where(own, bits, np.inf).argmin())
                evidence += (
                    f"; nearest: {rows['image_id'][at]} ({place[at]}) and "
                    f"{rows['image_id'][other[at]]} ({place[other[at]]}), {bits[at]:.0f} bits"
                )
            yield judge("near_duplicate", name, share, limit, evidence)

    for name, one in found.items():
        if not manifest.is_real(name):
            continue
        known = one.rows[one.rows["identity"].notna()]
        splits = known.groupby("identity")["split"].agg(lambda s: sorted(set(s)))
        torn = splits[splits.map(len) > 1]
        evidence = f"{len(splits)} persons known, of {len(known)} of {len(one.rows)} photographs"
        if len(torn):
            evidence += "; in two splits: " + some(f"{i} ({'+'.join(s)})" for i, s in torn.items())
        yield judge("identity", name, len(torn), 0, evidence)
