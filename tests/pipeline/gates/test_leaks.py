"""Every leak gate: its fault, planted in one class or collection, is caught."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planting import SIZE, failed, pixels_of, probes, replace, replant

from pipeline import images
from pipeline.errors import UserError
from pipeline.gates.gate import SOFT, enforce
from pipeline.params import Params


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
        enforce(gates, [])


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
    assert (gate, "b") in failed(gates, SOFT)
    assert failed(gates) == set()
    enforce(gates, [])
    assert f"note: {gate} of b: AUC" in capsys.readouterr().err
