"""How photographs came: recorded by the stage, compared between collections, warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline import faces, manifest
from pipeline.gates.gate import SOFT, Gate, enforce
from pipeline.gates.leaks import leak_gates
from pipeline.gates.sources import codec_gates, periods_of
from pipeline.gates.traces import Traces, traces_of
from pipeline.params import Params, parse

ROOT = Path(__file__).parents[3]
COUNT = 30


def collection(folder: Path, side: int, kind: str, seed: int, **how: object) -> dict[str, object]:
    """Write COUNT photographs of `side` pixels; return their entry of `photographs:`."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for index in range(COUNT):
        coarse = Image.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        name = folder / f"{index:02d}.{kind.lower()}"
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(name, kind, **how)
    return {"source": "folder", "path": str(folder)}


@pytest.fixture
def made(tmp_path: Path):
    """Make the manifests of a small JPEG, a large JPEG and a PNG collection with a finish."""

    def make(finish: object = "none") -> tuple[Params, dict[str, Traces]]:
        root = tmp_path / str(finish)
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["faces"] |= {"size": 32, "channels": 3, "finish": finish}
        values["photographs"] = {
            "near": collection(root / "near", 44, "JPEG", 0, quality=75),
            "far": collection(root / "far", 256, "JPEG", 1, quality=95, subsampling=0),
            "exact": collection(root / "exact", 64, "PNG", 2),
        }
        params = parse(values)
        for name in params.photographs:
            faces.run(params, name, root / "data")
        folders = {
            name: root / "data/manifests" / name.replace(":", "_") for name in params.collections
        }
        periods = periods_of(list(folders.values()))
        assert periods == (5.82, 8.0)  # 8 * 32 / 44; `far` is reduced 8 times
        found = {name: traces_of(name, folder, 3, periods) for name, folder in folders.items()}
        return params, found

    return make


def gates_of(params: Params, found: dict[str, Traces]) -> dict[str, Gate]:
    rows = {name: one.rows for name, one in found.items()}
    return {gate.subject: gate for gate in codec_gates(rows, params)}


def test_photographs_that_keep_their_own_codec_are_warned_of_unless_finished(made, capsys):
    gates = gates_of(*made())
    near, far, exact = (gates[f"real:{name}"] for name in ("near", "far", "exact"))
    assert not near.passed and near.value == 1 and near.severity == SOFT
    assert f"{COUNT} JPEG; quality 75 (median), chroma 420 (mostly); reduced 1.38" in near.evidence
    assert near.evidence.endswith("set faces.finish, such as {jpeg: 90, subsampling: 420}")
    assert far.passed and "quality 95 (median), chroma 444" in far.evidence
    assert exact.passed and "30 PNG; reduced 2.00 times" in exact.evidence
    enforce(gates.values(), [])  # stops nothing
    assert "note: codec of real:near" in capsys.readouterr().err
    finished = gates_of(*made({"jpeg": 90}))
    assert all(gate.passed for gate in finished.values())
    assert "under one JPEG 90 of both" in finished["real:near"].evidence


def test_collections_that_came_otherwise_are_told_by_it_and_the_same_are_not(made):
    params, found = made()
    sides = {name: one.rows for name, one in found.items() if name != "real:exact"}
    gates = {gate.gate: gate for gate in leak_gates("two", sides, params.audit, 0)}
    assert gates["came_as"].value == pytest.approx(1) and not gates["came_as"].passed
    assert "in real:near and" in gates["came_as"].evidence
    half = np.arange(COUNT) < COUNT // 2
    rows = found["real:near"].rows
    sides = {"one": rows[half], "other": rows[~half]}
    gates = {gate.gate: gate for gate in leak_gates("halves", sides, params.audit, 0)}
    assert gates["came_as"].value == 0.5 and gates["came_as"].passed


def test_the_manifest_says_how_each_photograph_came(made):
    _, found = made()
    source = found["real:near"].rows["source"][0]
    assert (source["format"], source["quality"], source["width"]) == ("JPEG", 75, 44)
    assert source["reduction"] == pytest.approx(44 / 32)
    assert set(source) == {field.name for field in manifest.SOURCE}


def test_manifests_that_do_not_say_it_are_read_all_the_same(tmp_path, small_profile):
    params, folder = small_profile()
    assert periods_of([folder / "real_orl"]) == (8.0,)
    rows = traces_of("real:orl", folder / "real_orl", 1).rows
    gate = next(codec_gates({"real:orl": rows}, params))
    assert gate.passed and gate.evidence == "how they came is not recorded"
