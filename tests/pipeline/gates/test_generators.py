"""Constant images, collapse, copies, ids and counts: planted, each is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planting import SIZE, failed, pixels_of, replace, replant, without_probes

from pipeline import audit, manifest
from pipeline.gates.gate import SOFT
from pipeline.params import Params, parse


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


def test_collapse_only_warns_where_nothing_is_trained_on_the_generator(
    clean: Path, params: Params, monkeypatch
):
    monkeypatch.setattr(audit, "leak_gates", lambda *_: [])  # most of the time, and not asked for
    replant(clean, "c", lambda found: [replace(row, pixels_of(found[0])) for row in found])
    assert ("collapse", "c") in failed(audit.audit_data(params, clean))
    values = params.model_dump(mode="json", exclude_defaults=True)
    values["generators"]["c"]["use"] = "test"
    gates = audit.audit_data(parse(values), clean)
    assert ("collapse", "c") in failed(gates, SOFT) - failed(gates)


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
