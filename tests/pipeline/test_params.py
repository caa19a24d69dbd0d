"""params.yaml: every value of a run, checked when it is read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import params
from pipeline.errors import UserError
from pipeline.images import Jpeg

DCGAN = {"adapter": "dcgan", "family": "dcgan", "weights": "a.safetensors", "images": 10}
VALUES: dict[str, Any] = {
    "profile": "orl",
    "seed": 1,
    "faces": {
        "size": 64,
        "channels": 1,
        "finish": "none",
        "min_side": 32,
        "max_broken": 0.02,
        "split": {"train": 0.65, "valid": 0.15, "test": 0.2},
        "rows_per_part": 200,
    },
    "photographs": {"orl": {"source": "orl"}},
    "sample": {"rows_per_part": 200},
    "generators": {
        "dcgan": DCGAN,
        "wgan": {**DCGAN, "adapter": "wgan"},
        "pggan": {**DCGAN, "adapter": "pggan", "family": "progressive"},
    },
    "methods": {"dct": {"method": "dct"}},
    "fit": {"seeds": [0]},
    "matrix": {"threshold": {"rule": "fpr", "fpr": 0.05}, "bootstrap": 100},
}
GONE = object()


def changed(where: str, value: Any) -> dict[str, Any]:
    """Copy VALUES with the key at the dotted path set, or removed where `value` is GONE."""
    values = copy.deepcopy(VALUES)
    block = values
    *path, last = where.split(".")
    for step in path:
        block = block[step]
    if value is GONE:
        del block[last]
    else:
        block[last] = value
    return values


def message_of(values: Any) -> str:
    with pytest.raises(UserError) as error:
        params.parse(values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_params_of_the_repository_are_valid() -> None:
    params.load(Path(__file__).parents[2] / "params.yaml")


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("seeds", 1, "seeds: unknown key"),
        ("seed", GONE, "seed: missing key"),
        ("seed", -1, "seed: input should be greater than or equal to 0, not -1"),
        ("faces.sise", 64, "faces.sise: unknown key"),
        ("faces.size", GONE, "faces.size: missing key"),
        ("faces.size", -64, "faces.size: input should be greater than or equal to 16, not -64"),
        ("faces.size", "big", "faces.size: input should be a valid integer"),
        ("faces.channels", 2, "faces.channels: input should be 1 or 3, not 2"),
        ("faces.max_broken", 2, "faces.max_broken: "),
        ("faces.finish", GONE, "faces.finish: missing key"),
        ("faces.finish", "jpeg", "faces.finish: 'jpeg'; expected none, or {jpeg: <1 to 100>"),
        ("faces.finish", {"jpeg": 0}, "faces.finish: {'jpeg': 0}; expected none, or"),
        ("faces.finish", {"jpeg": 90, "subsampling": 422}, "subsampling: <420 or 444>"),
        ("faces.finish", {"jpeg": 90, "grid": [0, 16]}, "grid: [<0 to 15>, <0 to 15>]"),
        ("faces.finish", {"jpeg": 90, "quality": 1}, "faces.finish: {'jpeg': 90, 'quality': 1}"),
        ("photographs", {}, "photographs: expected at least 1 collection of use: train"),
        ("photographs.orl.use", "test", "photographs: expected at least 1 collection of use"),
        ("photographs.orl.use", "valid", "photographs.orl.use: input should be 'train' or 'test'"),
        ("photographs.orl.source", "disk", "orl.source: input should be 'orl', 'folder' or 'hub'"),
        ("photographs.orl.source", "folder", "photographs.orl: source folder needs `path`"),
        ("photographs.orl.path", "a", "photographs.orl: source orl takes no `path`; remove it"),
        ("photographs.orl.crop", "centre", "orl.crop: 'centre'; expected center, full, or four"),
        ("photographs.orl.crop", [0, 0, 1], "orl.crop: [0, 0, 1]; expected center, full, or"),
        ("photographs.orl.crop", [0.5, 0, 0.5, 1], "0 <= left < right <= 1"),
        ("faces.split.test", 0.5, "faces.split: train + valid + test is 1.3; expected 1"),
        ("generators.dcgan.adapter", "gan", "generators.dcgan.adapter: unknown 'gan'; expected"),
        ("generators.dcgan.adapter", GONE, "generators.dcgan.adapter: missing key"),
        ("generators.dcgan.weights", GONE, "generators.dcgan.weights: missing key"),
        ("generators.dcgan.images", -600, "generators.dcgan.images: input should be greater"),
        ("generators.dcgan.image", 600, "generators.dcgan.image: unknown key"),
        ("generators.dcgan", None, "generators.dcgan: expected a block of keys, not None"),
        ("generators.My-GAN", DCGAN, "generators.My-GAN: string should match pattern"),
        ("generators.none", DCGAN, "generators.none: the name is taken"),
        ("generators.real", DCGAN, "generators.real: the name is taken"),
        ("generators", {"dcgan": DCGAN}, "generators: leave-one-out needs at least 2"),
        ("methods.dct.method", "svm", "methods.dct.method: unknown 'svm'; expected one of"),
        ("methods.dct.c", float("inf"), "methods.dct.c: input should be a finite number"),
        ("fit.seeds", [], "fit.seeds: tuple should have at least 1 item"),
        ("fit.seeds", [0, 0], "fit.seeds: seeds [0, 0]; expected each once"),
        ("matrix.threshold.fpr", 0, "matrix.threshold.fpr: input should be greater than 0"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_path_of_its_key(
    where: str, value: Any, expected: str
) -> None:
    message = message_of(changed(where, value))
    assert message.startswith("params.yaml: ")
    assert expected in message


def test_a_generator_may_not_take_the_folder_of_another_collection() -> None:
    values = changed("generators.real_photos", DCGAN)
    params.parse(values)
    values["photographs"]["photos"] = {"source": "folder", "path": "a", "use": "test"}
    assert "generators.real_photos: the name is taken" in message_of(values)


def test_many_findings_are_counted_not_listed() -> None:
    assert message_of({}).endswith("and 6 more")


@pytest.mark.parametrize("values", [None, [], 5])
def test_a_file_without_keys_is_refused(values: Any) -> None:
    assert "expected a block of keys" in message_of(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"seed: [", "is not YAML"),
        (b"seed: 1\nseed: 2\n", "key 'seed' stands twice"),
        (b"generators:\n  a: {images: 1}\n  a: {images: 2}\n", "key 'a' stands twice"),
        (b"seed: \xff\xfe", "cannot be read"),
        (b"", "expected a block of keys"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_user_error(
    tmp_path: Path, text: bytes, expected: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=expected):
        params.load(path)


def test_no_file_and_a_folder_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the top folder"):
        params.load(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        params.load(tmp_path)


def test_a_file_reads_as_its_values(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed("photographs.orl.crop", [0.1, 0, 0.9, 1])))
    read = params.load(path)
    assert read.photographs["orl"].crop == (0.1, 0.0, 0.9, 1.0)
    assert read.generators["dcgan"].images == 10


@pytest.mark.parametrize(
    ("held_out", "left"),
    [
        ("none", ("dcgan", "wgan", "pggan")),
        ("wgan", ("dcgan", "pggan")),
        ("family:dcgan", ("pggan",)),
    ],
)
def test_training_leaves_out_the_generator_or_the_family(
    held_out: str, left: tuple[str, ...]
) -> None:
    assert params.parse(VALUES).training_generators(held_out) == left


@pytest.mark.parametrize("held_out", ["stylegan", "family:stylegan"])
def test_an_unknown_held_out_lists_the_known(held_out: str) -> None:
    with pytest.raises(UserError, match="none, dcgan, wgan, pggan, family:dcgan"):
        params.parse(VALUES).training_generators(held_out)


def test_a_held_out_that_leaves_nothing_is_refused() -> None:
    values = changed("generators.pggan", GONE)
    with pytest.raises(UserError, match="leaves no generator"):
        params.parse(values).training_generators("family:dcgan")


def test_held_outs_are_each_generator_then_none() -> None:
    assert params.parse(VALUES).held_outs() == ("dcgan", "wgan", "pggan", "none")


def test_a_family_of_one_generator_is_the_fold_of_that_generator() -> None:
    run = params.parse(VALUES)
    assert run.family_held_outs() == ("family:dcgan", "family:progressive")
    assert run.fold_of("family:progressive") == "pggan"
    assert run.fold_of("family:dcgan") == "family:dcgan"
    assert (run.fold_of("pggan"), run.fold_of("none")) == ("pggan", "none")
    assert run.folds() == ("dcgan", "wgan", "pggan", "none", "family:dcgan")
    for family in run.family_held_outs():
        assert run.training_generators(family) == run.training_generators(run.fold_of(family))


def test_one_entry_more_makes_its_family_a_fold() -> None:
    more = changed("generators.pggan_b", {**DCGAN, "family": "progressive"})
    assert params.parse(more).folds()[-2:] == ("family:dcgan", "family:progressive")


def test_without_a_second_family_none_is_held_out() -> None:
    run = params.parse(changed("generators.pggan", GONE))
    assert run.family_held_outs() == () and run.folds() == ("dcgan", "wgan", "none")


ANOTHER = {"source": "folder", "path": "a"}


def test_of_two_collections_each_is_held_out_and_together_with_each_generator_if_asked() -> None:
    values = changed("photographs.other", ANOTHER)
    assert params.parse(values).folds()[-2:] == ("real:orl", "real:other")
    assert params.parse(values).training("real:orl") == ("real:other", "dcgan", "wgan", "pggan")
    values["fit"] = {"seeds": [0], "together": True}
    run = params.parse(values)
    assert run.folds()[5:] == (
        "real:orl", "real:other", *(f"{g}+real:{c}" for g in ("dcgan", "wgan", "pggan")
                                    for c in ("orl", "other")),
    )  # fmt: skip
    assert run.training("wgan+real:other") == ("real:orl", "dcgan", "pggan")
    for wrong in ("wgan+orl", "stylegan+real:orl", "real:none", "family:dcgan+real:orl", "wgan+"):
        with pytest.raises(UserError, match=r"is unknown; .* real:orl, real:other"):
            run.training(wrong)


def test_what_is_for_testing_only_is_in_no_training_and_is_not_held_out() -> None:
    values = changed("photographs.other", {**ANOTHER, "use": "test"})
    values["generators"]["wild"] = {**DCGAN, "use": "test"}
    run = params.parse(values)
    assert run.folds() == ("dcgan", "wgan", "pggan", "none", "family:dcgan")
    for held_out in run.folds():
        assert not {"wild", "real:other"} & {*run.training(held_out)}
    for name in ("wild", "real:other", "dcgan+real:other"):
        with pytest.raises(UserError, match="is unknown"):
            run.training(name)
    values["generators"] = {"dcgan": DCGAN, "wild": values["generators"]["wild"]}
    assert "leave-one-out needs at least 2 generators of use: train" in message_of(values)


def test_a_finish_is_none_or_a_jpeg() -> None:
    assert params.parse(VALUES).faces.finish is None
    for value in ({"jpeg": 90}, {"jpeg": 90, "subsampling": 420}):
        run = params.parse(changed("faces.finish", value))
        assert run.faces.finish == Jpeg(90, 420)
        # And written down it is read again.
        assert params.parse(run.model_dump(mode="json")) == run
    run = params.parse(changed("faces.finish", {"jpeg": 90, "grid": [4, 3]}))
    assert run.faces.finish == Jpeg(90, 420, (4, 3))
    assert params.parse(run.model_dump(mode="json")) == run


SETS = """
method_sets:
  default: &default
    dct: {method: dct}
  full: &full
    <<: *default
    spectrum: {method: spectrum}
"""


@pytest.mark.parametrize(("chosen", "names"), [("default", ["dct"]), ("full", ["dct", "spectrum"])])
def test_one_word_chooses_a_set_of_methods(tmp_path: Path, chosen: str, names: list[str]) -> None:
    path = tmp_path / "params.yaml"
    rest = {key: value for key, value in VALUES.items() if key != "methods"}
    path.write_text(f"{SETS}methods: *{chosen}\n{yaml.safe_dump(rest)}")
    read = params.load(path)
    assert sorted(read.methods) == sorted(names)
    # What is not chosen is no part of the run's record.
    assert "method_sets" not in read.model_dump()


def test_a_method_of_a_set_that_is_not_chosen_is_checked_too() -> None:
    values = changed("method_sets", {"full": {"dct": {"method": "dct", "steps": 1}}})
    assert "method_sets.full.dct.steps: unknown key" in message_of(values)


@pytest.mark.parametrize("pair", [["dct", "svm"], ["dct", "dct"]])
def test_compared_are_two_known_methods(pair: list[str]) -> None:
    assert "expected two of dct" in message_of(changed("matrix.compare", [pair]))
