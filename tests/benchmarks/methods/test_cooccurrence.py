from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.methods.cooccurrence import COLUMNS, ROWS, merged_bins, merged_shares, triples


@pytest.mark.parametrize(("levels", "axis"), itertools.product((5, 8), (ROWS, COLUMNS)))
def test_triples_are_those_of_a_plain_loop(levels, axis):
    codes = np.random.default_rng(0).integers(0, levels, (3, 7, 9), dtype=np.uint8)
    found = triples(codes, levels, axis)
    assert found.shape == (3, levels**3) and found.dtype == np.float64
    for n, one in enumerate(codes if axis == ROWS else codes.swapaxes(1, 2)):
        expected = np.zeros((levels,) * 3)
        for row in one:
            for triple in zip(row, row[1:], row[2:], strict=False):
                expected[triple] += 1
        np.testing.assert_array_equal(found[n], expected.ravel())


@pytest.mark.parametrize(("levels", "count"), [(5, 75), (8, 288)])
def test_a_triple_and_its_mirror_image_share_a_bin(levels, count):
    bins = merged_bins(levels).reshape(levels, levels, levels)
    assert bins.max() + 1 == len(np.unique(bins)) == count
    np.testing.assert_array_equal(bins, bins.transpose(2, 1, 0))


def test_with_signs_a_triple_and_its_negative_share_a_bin_too():
    bins = merged_bins(5, signs=True)
    assert bins.max() + 1 == len(np.unique(bins)) == 39
    groups = {}
    for triple, number in zip(itertools.product(range(-2, 3), repeat=3), bins, strict=True):
        groups.setdefault(number, set()).add(triple)
    for group in groups.values():
        a, b, c = next(iter(group))
        assert group == {(a, b, c), (c, b, a), (-a, -b, -c), (-c, -b, -a)}


def test_shares_of_the_merged_triples_sum_to_one():
    counts = triples(np.random.default_rng(0).integers(0, 5, (2, 6, 6), dtype=np.uint8), 5, ROWS)
    bins = merged_bins(5, signs=True)
    shares = merged_shares(counts, bins)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[1, bins[7]] == counts[1, bins == bins[7]].sum() / (6 * 4)
