"""A finding: it warns or stops, and stays in the table."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.errors import UserError
from pipeline.gates.gate import enforce, judge, table_of


def test_a_named_gate_becomes_a_warning_that_stays_in_the_table(capsys):
    gate = judge("copying", "a", 0.9, 0.25, "90.0% of the images are too near")
    with pytest.raises(UserError, match=r"1 gate failed: copying of a: 90.0%.*limit 0.25"):
        enforce([gate], ["collapse"])
    enforce([gate], ["copying"])
    assert "warning: copying of a: 90.0%" in capsys.readouterr().err
    row = table_of([gate]).to_pylist()[0]
    assert row == dataclasses.asdict(gate) and row["passed"] is False


def test_nan_never_passes():
    assert not judge("collapse", "a", float("nan"), 1, "").passed
