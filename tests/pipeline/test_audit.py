"""Every gate: a clean manifest passes, and its fault, planted in one, is caught."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from benchmarks.fit import file_name
from pipeline import audit, images, manifest
from pipeline.errors import UserError
from pipeline.folds import Fold, Images, load
from pipeline.params import Params, parse

SIZE, PERSONS, PHOTOGRAPHS, FAKES = 64, 12, 5, 60
SPLITS = ("train", "train", "train", "valid", "test")


@pytest.fixture(scope="module")
def params() -> Params:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["generators"] = {
        name: {"adapter": "dcgan", "family": family, "weights": "none", "images": FAKES}
        for name, family in (("a", "one"), ("b", "one"), ("c", "two"))
    }
    values["methods"] = {"spectrum": {"method": "spectrum"}}
    values["audit"], values["matrix"]["compare"] = {}, []
    return parse(values)


def pictures(n: int, seed: int) -> np.ndarray:
    """Smooth random pictures with some grain, uint8 (n, 64, 64, 1)."""
    draw = np.random.default_rng(seed)
    small = draw.integers(30, 225, (n, 12, 12), dtype=np.uint8)
    smooth = np.stack([np.asarray(Image.fromarray(one).resize((SIZE, SIZE))) for one in small])
    return np.clip(smooth + draw.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)[..., None]


def folder_of(source: str) -> str:
    return source.replace(":", "_")


def rows(source: str, pixels: np.ndarray) -> list[dict]:
    real = manifest.is_real(source)
    return manifest.rows_of(
        pixels,
        ids=[f"{folder_of(source)}-{i:04d}" for i in range(len(pixels))],
        splits=[SPLITS[(i % PERSONS if real else i) % 5] for i in range(len(pixels))],
        generator=source,
        family="real" if real else source,
        spec="spec",
        seeds=[None if real else i for i in range(len(pixels))],
        identities=[f"p{i % PERSONS}" if real else None for i in range(len(pixels))],
    )


def write(folder: Path, source: str, rows: list[dict]) -> None:
    manifest.write_part(manifest.part_path(folder / folder_of(source), 0), rows)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for seed, source in enumerate(("real:orl", "a", "b", "c")):
        n = PERSONS * PHOTOGRAPHS if manifest.is_real(source) else FAKES
        write(tmp_path, source, rows(source, pictures(n, seed)))
    return tmp_path


def replant(folder: Path, source: str, fault: Callable[[list[dict]], object]) -> None:
    """Rewrite a manifest after `fault` has changed its rows in place."""
    found = manifest.read_part(manifest.part_path(folder / folder_of(source), 0)).to_pylist()
    fault(found)
    write(folder, source, found)


def replace(row: dict, pixels: np.ndarray) -> None:
    """Put other pixels into a row, digest and all."""
    row["image"]["bytes"] = images.encode_png(pixels)
    row["sha256"] = images.pixel_sha256(pixels)


def pixels_of(row: dict) -> np.ndarray:
    return images.decode_png(row["image"]["bytes"])


def failed(gates: list[audit.Gate], severity: str = audit.HARD) -> set[tuple[str, str]]:
    return {(g.gate, g.subject) for g in gates if not g.passed and g.severity == severity}


def test_a_clean_run_passes_every_gate(clean: Path, params: Params):
    gates = audit.audit_data(params, clean)
    assert failed(gates) == failed(gates, audit.SOFT) == set()
    assert {g.gate for g in gates} == {
        "container", "size", "naming", "file_size", "moments", "border", "blockiness", "sharpness",
        "digest", "label", "ids", "counts", "sha256", "near_duplicate", "identity", "constant",
        "collapse", "copying",
    }  # fmt: skip
    aucs = [g.value for g in gates if g.gate in audit.HARD_PROBES]
    assert aucs == [0.5] * len(aucs) and len(aucs) == 9


def without_probes(params: Params, folder: Path) -> list[audit.Gate]:
    """Run all gates but the leak probes, which take most of the time."""
    names = (*params.collections, "a", "b", "c")
    found = {name: audit.traces_of(name, folder / folder_of(name), 1) for name in names}
    real = audit.together(found[name] for name in params.train_collections)
    gates = [*audit.source_gates(found, params), *audit.split_gates(found, real, params.audit)]
    for name in params.generators:
        gates += audit.generator_gates(name, found[name], real, params.audit)
    return gates


def probes(params: Params, folder: Path, name: str) -> list[audit.Gate]:
    real, fake = (audit.traces_of(one, folder / one, 1).rows for one in ("real_orl", name))
    return list(audit.leak_gates(name, real, fake, params.audit, 0))


# ------------------------------------------------------------------------------------------- leaks


def _as_jpeg(found: list[dict]) -> None:
    for row in found:
        buffer = io.BytesIO()
        images.to_pil(pixels_of(row)).save(buffer, "JPEG", quality=95)
        row["image"]["bytes"] = buffer.getvalue()
        row["sha256"] = images.pixel_sha256(images.decode_png(buffer.getvalue()))


def _other_level(found: list[dict]) -> None:
    for row in found:
        buffer = io.BytesIO()
        images.to_pil(pixels_of(row)).save(buffer, "PNG", compress_level=1)
        row["image"]["bytes"] = buffer.getvalue()


def _other_size(found: list[dict]) -> None:
    for row in found:
        replace(row, pixels_of(row)[:-2])


def _other_suffix(found: list[dict]) -> None:
    for row in found:
        row["image"]["path"] = f"{row['image_id']}.jpg"


@pytest.mark.parametrize(
    ("gate", "fault"),
    [
        ("container", _as_jpeg),
        ("container", _other_level),
        ("size", _other_size),
        ("naming", _other_suffix),
    ],
)
def test_a_hard_leak_is_caught(clean: Path, params: Params, gate: str, fault: Callable):
    replant(clean, "real:orl", fault)
    gates = probes(params, clean, "a")
    assert (gate, "a") in failed(gates)
    found = next(g for g in gates if g.gate == gate)
    assert found.value == pytest.approx(1.0, abs=0.02)
    with pytest.raises(UserError, match=f"gates? failed: .*{gate} of a: AUC 1.000; most apart"):
        audit.enforce(gates, [])


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("moments", lambda p: p // 2 + 90),
        ("border", lambda p: np.pad(p[1:-1, 1:-1], ((1, 1), (1, 1), (0, 0)), mode="edge")),
        ("blockiness", lambda p: p + 12 * (np.arange(SIZE) // 8 % 2)[:, None, None]),
        ("sharpness", lambda p: p[::2, ::2].repeat(2, 0).repeat(2, 1)),
        ("file_size", lambda p: p // 32 * 32),
    ],
)
def test_a_soft_leak_is_reported_and_stops_nothing(
    clean: Path, params: Params, gate: str, change: Callable, capsys
):
    def fault(found: list[dict]) -> None:
        for row in found:
            replace(row, np.clip(change(pixels_of(row).astype(int)), 0, 255).astype(np.uint8))

    replant(clean, "b", fault)
    gates = probes(params, clean, "b")
    assert (gate, "b") in failed(gates, audit.SOFT)
    assert failed(gates) == set()
    audit.enforce(gates, [])
    assert f"note: {gate} of b: AUC" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ splits


def test_the_same_photograph_in_two_splits_is_caught(clean: Path, params: Params):
    replant(clean, "real:orl", lambda found: replace(found[3], pixels_of(found[0])))
    gates = without_probes(params, clean)
    assert {("sha256", "real:orl"), ("near_duplicate", "real:orl")} <= failed(gates)
    evidence = next(g.evidence for g in gates if (g.gate, g.subject) == ("sha256", "real:orl"))
    assert "real_orl-0000 (real:orl/train) is real_orl-0003 (real:orl/valid)" in evidence


def test_a_photograph_in_two_collections_is_caught_unless_it_is_in_the_same_split(
    clean: Path, params: Params
):
    entry = {"source": "folder", "path": "-"}
    values = params.model_dump(mode="json", exclude_defaults=True)
    values["photographs"]["two"] = entry
    both = parse(values)
    write(clean, "real:two", rows("real:two", pictures(PERSONS * PHOTOGRAPHS, 9)))
    first = manifest.read(clean / "real_orl", ["image"]).to_dict("records")[0]
    for place, caught in ((0, set()), (3, {("sha256", n) for n in ("real:orl", "real:two")})):
        # The first photograph of orl, of the split train, stands at `place` of the other too.
        replant(clean, "real:two", lambda found, at=place: replace(found[at], pixels_of(first)))
        gates = [g for g in without_probes(both, clean) if g.gate == "sha256"]
        assert failed(gates) == caught


def test_a_recoded_photograph_in_two_splits_is_caught(clean: Path, params: Params):
    def fault(found: list[dict]) -> None:
        buffer = io.BytesIO()
        images.to_pil(pixels_of(found[0])).save(buffer, "JPEG", quality=50)
        replace(found[3], images.decode_png(buffer.getvalue()))

    replant(clean, "real:orl", fault)
    gates = without_probes(params, clean)
    assert failed(gates) == {("near_duplicate", "real:orl")}


def test_a_person_in_two_splits_is_caught(clean: Path, params: Params):
    replant(clean, "real:orl", lambda found: found[0].update(split="test"))
    gates = without_probes(params, clean)
    assert failed(gates) == {("identity", "real:orl")}
    assert "p0 (test+train)" in next(g.evidence for g in gates if g.gate == "identity")


def test_the_same_fake_under_two_generators_is_caught(clean: Path, params: Params):
    twin = rows("b", manifest.pixels(manifest.read(clean / "a")))
    write(clean, "b", twin)
    assert failed(without_probes(params, clean)) == {
        (gate, name) for gate in ("sha256", "near_duplicate") for name in ("a", "b")
    }


def test_near_duplicate_fakes_across_splits_are_caught(clean: Path, params: Params):
    def fault(found: list[dict]) -> None:
        for row, other in zip(found[0::5], found[4::5], strict=True):  # train and test
            replace(other, np.clip(pixels_of(row) + np.int16(3), 0, 255).astype(np.uint8))

    replant(clean, "c", fault)
    assert {("near_duplicate", "c"), ("collapse", "c")} == failed(without_probes(params, clean))


# -------------------------------------------------------------------------------------- generators


def test_a_constant_image_is_caught(clean: Path, params: Params):
    replant(clean, "a", lambda found: replace(found[7], np.zeros((SIZE, SIZE, 1), np.uint8)))
    gates = without_probes(params, clean)
    assert failed(gates) == {("constant", "a")}
    assert "a-0007" in next(g.evidence for g in gates if not g.passed)


def test_collapse_is_caught(clean: Path, params: Params):
    def fault(found: list[dict]) -> None:
        grain = np.random.default_rng(0)
        mode = pixels_of(found[0])
        for row in found:
            noise = grain.normal(0, 3, mode.shape)
            replace(row, np.clip(mode + noise, 0, 255).astype(np.uint8))

    replant(clean, "a", fault)
    assert ("collapse", "a") in failed(without_probes(params, clean))


def test_copies_of_training_photographs_are_caught(clean: Path, params: Params):
    real = manifest.read(clean / "real_orl")
    train = manifest.pixels(real[real["split"] == "train"])

    def fault(found: list[dict]) -> None:
        for row, copied in zip(found[:30], train, strict=False):  # brighter, blurred by a pixel
            copied = copied.astype(int) // 2 + np.roll(copied, 1, 1) // 2
            replace(row, np.clip(copied * 1.1, 0, 255).astype(np.uint8))

    replant(clean, "a", fault)
    gates = without_probes(params, clean)
    assert failed(gates) == {("copying", "a")}
    assert next(g.value for g in gates if not g.passed and g.severity == "hard") >= 0.5


@pytest.mark.parametrize(
    ("gate", "fault"),
    [
        ("ids", lambda found: found[1].update(image_id=found[0]["image_id"])),
        ("counts", lambda found: found.pop()),
        ("label", lambda found: found[0].update(label=0)),
        ("digest", lambda found: found[0].update(sha256=found[1]["sha256"])),
    ],
)
def test_faulty_ids_counts_labels_and_digests_are_caught(
    clean: Path, params: Params, gate: str, fault: Callable
):
    replant(clean, "a", fault)
    assert (gate, "a") in failed(without_probes(params, clean))


# ------------------------------------------------------------------------------------------- reads


def record(fold: Fold, **parts: Images) -> dict:
    images_of = {"fit": fold.train, "selection": fold.valid, "threshold": fold.valid} | parts
    return {step: fold.describe_reads(part.ids) for step, part in images_of.items()}


@pytest.mark.parametrize("held_out", ["a", "none", "family:one"])
def test_an_honest_fit_passes(clean: Path, params: Params, tmp_path: Path, held_out: str):
    fold = load(params, clean).fold(held_out)
    gate = audit.reads_gate("m", held_out, record(fold), params, audit.manifest_ids(params, clean))
    assert gate.passed, gate.evidence


@pytest.mark.parametrize("step", ["fit", "selection", "threshold"])
def test_a_fit_that_read_the_held_out_generator_is_caught(clean: Path, params: Params, step: str):
    leaky = record(load(params, clean).fold("none"))  # a fit that loaded the wrong fold
    reads = record(load(params, clean).fold("a")) | {step: leaky[step]}
    gate = audit.reads_gate("m", "a", reads, params, audit.manifest_ids(params, clean))
    assert not gate.passed
    assert f"{step}: " in gate.evidence and "images of a/" in gate.evidence


@pytest.mark.parametrize("step", ["fit", "selection", "threshold"])
def test_a_fit_that_read_the_test_split_is_caught(clean: Path, params: Params, step: str):
    fold = load(params, clean).fold("a")
    seen = fold.test.subset(np.isin(fold.test.generators, ["real:orl", "b"]))
    gate = audit.reads_gate(
        "m", "a", record(fold, **{step: seen}), params, audit.manifest_ids(params, clean)
    )
    assert not gate.passed and f"{step}: 12 images of b/test" in gate.evidence


def test_a_member_of_a_held_out_family_is_caught(clean: Path, params: Params):
    fold = load(params, clean).fold("a")  # still trains on b, of the same family
    gate = audit.reads_gate(
        "m", "family:one", record(fold), params, audit.manifest_ids(params, clean)
    )
    assert not gate.passed and "images of b/train" in gate.evidence


def test_a_record_of_other_images_is_caught(clean: Path, params: Params):
    reads = record(load(params, clean).fold("a"))
    reads["fit"] = reads["fit"] | {"digest": "0" * 64}
    gate = audit.reads_gate("m", "a", reads, params, audit.manifest_ids(params, clean))
    assert not gate.passed and "not those of the manifests" in gate.evidence


def test_a_step_without_record_is_caught(clean: Path, params: Params):
    reads = record(load(params, clean).fold("a"))
    del reads["threshold"]
    gate = audit.reads_gate("m", "a", reads, params, audit.manifest_ids(params, clean))
    assert not gate.passed and "threshold: no record" in gate.evidence


def test_every_fit_that_params_names_is_judged(clean: Path, params: Params, tmp_path: Path):
    models = tmp_path / "models"
    for held_out in params.folds():
        home = models / "spectrum" / file_name(held_out) / "0"
        home.mkdir(parents=True)
        reads = record(load(params, clean).fold(held_out))
        (home / "reads.json").write_text(json.dumps(reads))
    gates = audit.audit_reads(params, models, clean)
    assert [g.subject for g in gates] == [f"spectrum/{h}/0" for h in params.folds()]
    assert all(g.passed for g in gates)
    (home / "reads.json").unlink()
    with pytest.raises(UserError, match=r"holds no <seed>/reads.json; run the fit"):
        audit.audit_reads(params, models, clean)


# ------------------------------------------------------------------------------------------- stage


def test_a_named_gate_becomes_a_warning_that_stays_in_the_table(capsys):
    gate = audit.judge("copying", "a", 0.9, 0.25, "90.0% of the images are too near")
    with pytest.raises(UserError, match=r"1 gate failed: copying of a: 90.0%.*limit 0.25"):
        audit.enforce([gate], ["collapse"])
    audit.enforce([gate], ["copying"])
    assert "warning: copying of a: 90.0%" in capsys.readouterr().err
    row = audit.table_of([gate]).to_pylist()[0]
    assert row == dataclasses.asdict(gate) and row["passed"] is False


def test_nan_never_passes():
    assert not audit.judge("collapse", "a", float("nan"), 1, "").passed


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
