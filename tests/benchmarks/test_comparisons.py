"""Corrections of p values against their plain definition."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import comparisons


def test_holm_equals_its_definition_and_lies_between_none_and_bonferroni():
    draw = np.random.default_rng(0)
    for m in (1, 2, 7, 30):
        p = draw.random(m) ** 3
        found = comparisons.holm(p)
        ranked = np.sort(p)
        for value, corrected in zip(p, found, strict=True):
            steps = [min(1.0, (m - i) * ranked[i]) for i in range(m) if ranked[i] <= value]
            assert corrected == pytest.approx(max(steps), abs=1e-12)
        assert (p <= found).all() and (found <= np.minimum(1, m * p) + 1e-12).all()
