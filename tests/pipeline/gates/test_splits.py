"""No image, near-duplicate or person in two splits: planted, each is caught."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from planting import (
    PERSONS,
    PHOTOGRAPHS,
    failed,
    pictures,
    pixels_of,
    replace,
    replant,
    rows,
    without_probes,
    write,
)

from pipeline import images, manifest
from pipeline.gates import splits
from pipeline.gates.options import Audit
from pipeline.params import Params, parse


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


def test_the_share_of_repeated_images_is_the_mean_over_all_picks():
    draw = np.random.default_rng(0)
    hashes = np.sign(draw.normal(size=(40, splits.BITS))).astype(np.float32)
    hashes[1:13:2] = hashes[:12:2]  # six pairs
    hashes[20] = hashes[21] = hashes[0]  # and two more of the first
    audit = Audit()

    def of_one_pick(count):
        picked = hashes[draw.choice(40, count, replace=False)]
        best, _ = splits.closest(picked, picked, skip_self=True)
        return (splits.bits_apart(best) <= audit.near_bits).mean()

    for count in (40, 20, 5):
        mean = np.mean([of_one_pick(count) for _ in range(2000)])
        assert splits.repeated(hashes, audit, count) == pytest.approx(mean, abs=0.01)
    assert splits.repeated(hashes[:1], audit, 40) == 0
