"""The whole audit: a clean run passes every gate, a faulty one stops."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from planting import failed, replant

from pipeline import audit
from pipeline.gates.gate import SOFT
from pipeline.gates.leaks import HARD_PROBES
from pipeline.params import Params


def test_a_clean_run_passes_every_gate(clean: Path, params: Params):
    gates = audit.audit_data(params, clean)
    assert failed(gates) == failed(gates, SOFT) == set()
    assert {g.gate for g in gates} == {
        "container", "size", "naming", "file_size", "moments", "border", "blockiness", "sharpness",
        "bands", "grid", "codec",
        "digest", "label", "ids", "counts", "sha256", "near_duplicate", "identity", "constant",
        "collapse", "copying",
    }  # fmt: skip
    aucs = [g.value for g in gates if g.gate in HARD_PROBES]
    assert aucs == [0.5] * len(aucs) and len(aucs) == 9


def test_the_stage_writes_the_table_and_stops_on_a_failed_gate(
    clean: Path, params: Params, tmp_path: Path, monkeypatch, capsys
):
    values = params.model_dump(mode="json", exclude_defaults=True)
    run = tmp_path / "run"
    run.mkdir()
    (run / "params.yaml").write_text(yaml.safe_dump(values))
    for source in ("real_orl", "a", "b", "c"):
        (clean / source).rename(_made(run / "data" / "manifests") / source)
    monkeypatch.chdir(run)
    audit.main([])
    assert all(pq.read_table(audit.TABLE)["passed"].to_pylist())
    replant(run / "data" / "manifests", "a", lambda found: found.pop())
    with pytest.raises(SystemExit) as stopped:
        audit.main([])
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: 1 gate failed: counts of a: 59 images; params.yaml asks for 60")
    assert pq.read_table(audit.TABLE).to_pandas().query("not passed")["gate"].tolist() == ["counts"]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
