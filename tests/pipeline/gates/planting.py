"""Small clean manifests, and how faults are planted in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import images, manifest
from pipeline.gates.gate import HARD, Gate
from pipeline.gates.generators import generator_gates, source_gates
from pipeline.gates.leaks import leak_gates
from pipeline.gates.splits import split_gates
from pipeline.gates.traces import together, traces_of
from pipeline.params import Params

SIZE, PERSONS, PHOTOGRAPHS, FAKES = 64, 12, 5, 60
SPLITS = ("train", "train", "train", "valid", "test")


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


def failed(gates: list[Gate], severity: str = HARD) -> set[tuple[str, str]]:
    return {(g.gate, g.subject) for g in gates if not g.passed and g.severity == severity}


def without_probes(params: Params, folder: Path) -> list[Gate]:
    """Run all gates but the leak probes, which take most of the time."""
    names = (*params.collections, "a", "b", "c")
    found = {name: traces_of(name, folder / folder_of(name), 1) for name in names}
    real = together(found[name] for name in params.train_collections)
    gates = [*source_gates(found, params), *split_gates(found, real, params.audit)]
    for name in params.generators:
        gates += generator_gates(name, found[name], real, params.audit)
    return gates


def probes(params: Params, folder: Path, name: str) -> list[Gate]:
    both = {"photographs": "real_orl", name: name}
    sides = {side: traces_of(one, folder / one, 1).rows for side, one in both.items()}
    return list(leak_gates(name, sides, params.audit, 0))
