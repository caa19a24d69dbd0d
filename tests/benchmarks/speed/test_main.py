"""`make speed` on little: every part runs on real data, and what it writes is kept and rendered."""

import json

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from benchmarks import workers
from benchmarks.publish import render, speeds
from benchmarks.speed import __main__ as speed
from benchmarks.speed import whole
from benchmarks.speed.turns import OURS, SCHEMA
from pipeline import folds, manifest
from pipeline.errors import UserError

DEEPFD = {"method": "deepfd", "widths": [8], "steps": 2, "batch": 8}


@pytest.fixture
def setting(small_profile, tmp_path):
    checked, folder = small_profile(methods={"deepfd": DEEPFD}, fit={"seeds": [0]})
    values = checked.model_dump(mode="json")
    index = json.dumps(folds.index(checked, folder), indent=1) + "\n"
    (folder.parent / "folds.json").write_text(index)
    return speed.Setting(values, folder, tmp_path / "place", quick=True)


@pytest.mark.parametrize("part", ["writing", "training", "metrics"])
def test_a_part_runs_and_leaves_nothing(setting, part):
    found = list(speed.measure(setting, [part]))
    assert pa.Table.from_pylist(found, SCHEMA).num_rows >= 2
    assert min(row["rate_min"] for row in found) > 0
    assert len({row["way"] for row in found}) >= 2 and OURS in {row["way"] for row in found}
    assert not list(setting.place.iterdir())


def test_training_is_counted_in_pairs_and_in_images(setting):
    found = list(speed.measure(setting, ["training"]))
    work = {(row["unit"], row["way"] == OURS): row["work"] for row in found}
    assert work["pairs", True] == 2 * 8 * 7 / 2 and work["pairs", False] == 2 * 8 / 2
    assert work["images", True] == work["images", False] == 16
    assert work["GFLOP", True] > 0


def test_the_matrix_is_fitted_whole_by_both_ways_and_nowhere_else(setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    asked = []
    start = whole.start

    def seen(home, arguments, **variables):
        asked.append((home.name, len(arguments) - 1, variables))
        start(home, arguments, **variables)

    monkeypatch.setattr(whole, "start", seen)
    race, threads = whole.races(setting.values, "deepfd", setting.manifests, setting.place, most=2)
    for call in (*race.ways.values(), *threads.ways.values()):
        call()
    one = {workers.WORKERS: 1}
    assert asked == [
        ("together", 2, {}), *[("alone", 1, one)] * 2, ("part", 2, {}), ("part", 2, one),
        ("part", 2, one | {workers.STACK: 2}),
    ]  # fmt: skip
    assert sorted(path.name for path in (setting.place / "part/models/deepfd").iterdir()) == [
        "a", "b",
    ]  # fmt: skip
    together = setting.place / "together/models/deepfd"
    assert sorted(path.name for path in together.iterdir()) == ["a", "b"]
    assert (together / "a/0/scores-none.parquet").is_file()
    assert (setting.place / "alone/models/deepfd/b/0/scores-none.parquet").is_file()
    assert race.work == {"fits": dict.fromkeys(race.ways, 2.0)}
    assert set(tmp_path.iterdir()) - before == {setting.place}


def test_a_fit_that_fails_stops_the_measurement(setting):
    values = setting.values | {"matrix": {**setting.values["matrix"], "bootstrap": 1}}
    home = whole.home(setting.place, setting.values, setting.manifests)
    (home / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"failed: error: .*matrix\.bootstrap"):
        whole.start(home, ["deepfd", "a"])


def row(way, ratio, target, unit="images"):
    numbers = {f"{w}_{s}": ratio for w in ("seconds", "rate", "ratio") for s in
               ("min", "median", "max")}  # fmt: skip
    about = {"comparison": "reading", "way": way, "unit": unit, "work": 1.0, "turns": 3}
    return about | numbers | {"target": target, "note": "small"}


def kept(*rows):
    about = {"cores": 2, "cpu": "a CPU", "gpu": "none", "commit": "c" * 40, "seconds": 601.0}
    return speeds.KeptSpeed(pd.DataFrame(rows), about)


def test_what_falls_short_of_its_aim_is_said_and_nothing_else():
    found = kept(row(OURS, 1.0, None), row("slow", 4.0, 3.0), row("fast", 2.0, 3.0))
    assert speeds.short(found) == (
        "Short of its aim: reading against fast (in images): 2.00 where 3 was aimed at."
    )
    assert speeds.short(kept(row(OURS, 1.0, None), row("slow", 4.0, 3.0))).startswith("Every aim")
    assert "in 10 minutes" in speeds.where(found)


def test_a_measurement_is_kept_and_rendered(tmp_path):
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "README.md").write_text("nothing\n")
    marks = "".join(
        f"<!-- results:speed:{block}:start -->\n<!-- results:speed:{block}:end -->\n"
        for block in render.SPEEDS
    )
    (tmp_path / "docs/speed.md").write_text(marks)
    assert not render.stale(tmp_path)  # nothing is kept yet
    described = {speeds.META: json.dumps(kept(row(OURS, 1.0, None)).about).encode()}
    rows = [row(OURS, 1.0, None), row("peer", 2.5, 3.0)]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata(described))
    manifest.write_table(tmp_path / "speed.parquet", table)
    speeds.put(tmp_path / "speed.parquet", tmp_path / "docs/results")
    assert render.render(tmp_path) == [tmp_path / "docs/speed.md"]
    text = (tmp_path / "docs/speed.md").read_text()
    assert "| reading (small) | ours | 1.00 images | 1.00 |  |  |" in text
    assert "|  | peer | 2.50 images | 2.50 | 2.50 | 3 |" in text and "Short of its aim" in text
    (tmp_path / "docs/results/speed.parquet").write_text("broken")
    with pytest.raises(UserError, match=r"speed\.parquet is damaged"):
        render.stale(tmp_path)


def test_what_is_quick_or_a_part_is_not_kept(capsys):
    for argument in ("--quick", "--only reading"):
        with pytest.raises(SystemExit):
            speed.main(["--keep", *argument.split()])
        assert "what is kept is the whole measurement" in capsys.readouterr().err
