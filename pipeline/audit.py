"""The audit: every gate of `pipeline.gates`, as two stages with a table each.

`python -m pipeline.audit` (stage `audit`) reads the manifests that params.yaml names and writes
benchmarks/audit.parquet; `python -m pipeline.audit reads` (stage `audit-reads`) reads what every
fit recorded in models/<method>/<held_out>/<seed>/reads.json and writes benchmarks/reads.parquet.
One row per gate and subject (docs/audit.md).
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

from pipeline import manifest
from pipeline.errors import one_line
from pipeline.folds import MANIFESTS, sources, test_only
from pipeline.gates.gate import HARD, SOFT, Gate, enforce, table_of
from pipeline.gates.generators import generator_gates, source_gates
from pipeline.gates.leaks import leak_gates
from pipeline.gates.reads import audit_reads
from pipeline.gates.sources import codec_gates, periods_of
from pipeline.gates.splits import split_gates
from pipeline.gates.traces import together, traces_of
from pipeline.params import Params
from pipeline.params import load as load_params

TABLE = Path("benchmarks/audit.parquet")
READS_TABLE = Path("benchmarks/reads.parquet")


def audit_data(params: Params, folder: Path = MANIFESTS) -> list[Gate]:
    """Run every gate on the manifests that `params` names.

    Raises:
        UserError: a manifest is missing or damaged, or holds too few images to judge.
    """
    folders = sources(params)
    periods = periods_of([folder / folders[name] for name in params.collections])
    found = {
        name: traces_of(name, folder / source, params.faces.channels, periods)
        for name, source in folders.items()
    }
    real = together(found[name] for name in params.train_collections)
    gates = [
        *source_gates(found, params),
        *codec_gates({name: found[name].rows for name in params.collections}, params),
        *split_gates(found, real, params.audit),
    ]
    for name in params.generators:
        # What nothing is trained on may be of little variety; its number says the less.
        severity = SOFT if test_only(params, name) else HARD
        gates += generator_gates(name, found[name], real, params.audit, severity)
        rows = {"photographs": real.rows, name: found[name].rows}
        gates += leak_gates(name, rows, params.audit, params.seed)
    for pair in combinations(params.collections, 2):
        rows = {name: found[name].rows for name in pair}
        gates += leak_gates(" and ".join(pair), rows, params.audit, params.seed)
    return gates


@one_line
def main(argv: list[str] | None = None) -> None:
    """Write benchmarks/audit.parquet (or, after the fits, reads.parquet) and judge it."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.audit", description=__doc__)
    parser.add_argument("what", nargs="?", default="data", choices=["data", "reads"])
    what = parser.parse_args(argv).what
    params = load_params()
    gates = audit_data(params) if what == "data" else audit_reads(params)
    manifest.write_table(TABLE if what == "data" else READS_TABLE, table_of(gates))
    enforce(gates, params.audit.warn)
    print(f"audit: {sum(gate.passed for gate in gates)} of {len(gates)} gates passed")


if __name__ == "__main__":
    main()
