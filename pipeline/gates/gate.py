"""A finding of the audit, the table of findings, and what a failed one does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa

from pipeline.errors import UserError

HARD, SOFT = "hard", "soft"

SCHEMA = pa.schema(
    [
        ("gate", pa.string()),
        ("subject", pa.string()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
        ("passed", pa.bool_()),
        ("severity", pa.string()),
        ("evidence", pa.string()),
    ]
)


@dataclass(frozen=True)
class Gate:
    """One finding: `value` passes where it is at most `limit`.

    Attributes:
        gate: which gate.
        subject: the generator, `real`, or `<method>/<held_out>/<seed>`.
        value: what was measured (an AUC, a count or a share).
        limit: the largest value that passes.
        passed: whether it does.
        severity: `hard` gates stop a run, `soft` ones report.
        evidence: one line that says what was found.
    """

    gate: str
    subject: str
    value: float
    limit: float
    passed: bool
    severity: str
    evidence: str


def judge(
    gate: str, subject: str, value: float, limit: float, evidence: str, severity: str = HARD
) -> Gate:
    """Make a finding; NaN never passes."""
    return Gate(gate, subject, float(value), float(limit), bool(value <= limit), severity, evidence)


def some(ids: Iterable[str], most: int = 3) -> str:
    """List the first few of some names."""
    ids = list(ids)
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def table_of(gates: Iterable[Gate]) -> pa.Table:
    """Turn findings into the table that the report reads."""
    return pa.Table.from_pylist([asdict(gate) for gate in gates], SCHEMA)


def enforce(gates: Iterable[Gate], warn: Iterable[str]) -> None:
    """Stop where a hard gate failed that `warn` does not name; print the others that failed.

    Raises:
        UserError: with the evidence of every such gate.
    """
    warn, stop = set(warn), []
    for gate in gates:
        if gate.passed:
            continue
        line = f"{gate.gate} of {gate.subject}: {gate.evidence} (limit {gate.limit:g})"
        if gate.severity == HARD and gate.gate not in warn:
            stop.append((gate.gate, line))
        else:
            print(
                f"audit: {'warning' if gate.severity == HARD else 'note'}: {line}", file=sys.stderr
            )
    if stop:
        names = list(dict.fromkeys(name for name, _ in stop))
        lines = [line for _, line in stop]
        raise UserError(
            f"{len(stop)} gate{'s' * (len(stop) > 1)} failed: {'; '.join(lines[:3])}"
            + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
            + f"; mend the data, or go on with a red mark: audit.warn: [{', '.join(names)}]"
        )
