import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import deepfd
from deepfd import faces, hub, shipped
from deepfd.predict import Predictor
from pipeline import manifest

READS = {
    "fit": {"n": 30, "counts": {"dcgan": {"train": 14}, "real:orl": {"train": 16}}},
    "threshold": {"n": 4, "counts": {"dcgan": {"valid": 2}, "real:orl": {"valid": 2}}},
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """No manifests of the repository: what is shipped is a function of what the test says."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(make_model, calibration):
    made = make_model(channels=3, threshold=0.4, calibration=calibration)
    (made / "reads.json").write_text(json.dumps(READS))
    return made


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)


@pytest.fixture
def results(tmp_path):
    row = {
        "method": "deepfd", "held_out": "dcgan", "generator": "dcgan", "perturbation": "none",
        "seed": -1, "recall": 0.93, "recall_low": 0.81, "recall_high": 0.98, "n_fake": 90,
        "fpr": 0.04, "fpr_low": 0.01, "fpr_high": 0.1, "n_real": 80,
    }  # fmt: skip
    others = [{"method": "plain"}, {"generator": "wgan"}, {"perturbation": "blur"}, {"seed": 0}]
    path = tmp_path / "results.parquet"
    pd.DataFrame([row, *(row | {"recall": 0.11} | one for one in others)]).to_parquet(path)
    return path


def test_saved_and_read_again_it_says_the_same(folder, tmp_path, picture):
    model = deepfd.load(folder)
    model.save_pretrained(tmp_path / "saved")
    again = deepfd.from_pretrained(tmp_path / "saved")
    one, other = model.predict(picture), again.predict(picture)
    assert (one.score, one.probability, one.threshold, one.verdict, one.rule) == (
        other.score, other.probability, other.threshold, other.verdict, other.rule
    )  # fmt: skip
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {
        "README.md", "config.json", "model.json", "model.safetensors", "reads.json",
        "threshold.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "saved/config.json").read_text())["channels"] == 3
    # What was saved can be saved again.
    again.save_pretrained(tmp_path / "twice")
    assert (tmp_path / "twice/README.md").read_text() == (tmp_path / "saved/README.md").read_text()


class Hub:
    """The Hub's side of an upload, with a folder for its disk."""

    disk: Path

    def __init__(self, token=None):
        pass

    def create_repo(self, repo_id, private=None, exist_ok=False):
        return type("Url", (), {"repo_id": repo_id})

    def upload_folder(self, *, repo_id, folder_path, **_):
        shutil.copytree(folder_path, self.disk / repo_id)
        return f"commit of {repo_id}"


def test_what_is_pushed_is_what_is_pulled(folder, tmp_path, picture, monkeypatch):
    Hub.disk = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    model = deepfd.load(folder)
    assert model.push_to_hub("someone/deepfd") == "commit of someone/deepfd"
    # Pulled: the download alone is replaced, by the disk of that Hub.
    monkeypatch.setattr(hub, "snapshot_download", lambda repo, **_: str(tmp_path / "hub" / repo))
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download",
        lambda repo_id, filename, **_: str(tmp_path / "hub" / repo_id / filename),
    )
    again = deepfd.from_pretrained("someone/deepfd")
    assert again.name == "someone/deepfd"
    assert again.predict(picture).probability == model.predict(picture).probability


def test_the_card_names_sources_figures_and_what_it_must_not_be_used_for(folder, tmp_path, results):
    hub.ship(folder, tmp_path / "shipped", results)
    card = (tmp_path / "shipped/README.md").read_text()
    assert card.startswith("---\n") and "library_name: deepfd" in card
    assert "| `dcgan` | generator | 14 |" in card
    assert "| `real:orl` | photographs | 16 |" in card
    assert "| `dcgan` | 0.93 (0.81-0.98) | 90 | 0.04 (0.01-0.10) | 80 |" in card
    assert "0.11" not in card
    assert "must not be used for" in card
    assert "{{" not in card and "{%" not in card


def test_a_card_without_figures_or_records_says_so(make_model, tmp_path):
    hub.ship(make_model(), tmp_path / "shipped", tmp_path / "no.parquet")
    card = (tmp_path / "shipped/README.md").read_text()
    assert "None were at hand" in card
    assert "Not recorded" in card
    assert "not calibrated" in card


def test_shipping_puts_a_model_into_the_package(folder, tmp_path, results, monkeypatch):
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "package")
    arguments = [str(folder), str(tmp_path / "package/orl"), "--results", str(results)]
    hub.main(arguments)
    hub.main(arguments)  # over what is there
    assert deepfd.load("orl").name == "shipped:orl"
    assert [path.name for path in (tmp_path / "package").iterdir()] == ["orl"]


def test_terms_of_the_photographs_take_the_place_of_the_licence(folder, tmp_path, results):
    arguments = [str(folder), str(tmp_path / "one"), "--results", str(results)]
    hub.main([*arguments, "--terms", "non-commercial research only"])
    card = (tmp_path / "one/README.md").read_text()
    assert "license: other" in card and "license: mit" not in card
    assert "**Terms:** non-commercial research only" in card
    hub.main(arguments)
    card = (tmp_path / "one/README.md").read_text()
    assert "license: mit" in card and "Terms" not in card


def test_how_faces_were_framed_is_measured_on_the_training_photographs(
    folder, tmp_path, picture, monkeypatch
):
    rows = manifest.rows_of(
        np.stack([picture] * 3), ids=["a", "b", "c"], splits=["train", "train", "test"],
        generator="real:orl", family="real", spec="", seeds=[None] * 3, identities=[None] * 3,
    )  # fmt: skip
    manifest.write_part(manifest.part_path(tmp_path / "data/manifests/real_orl", 0), rows)
    given = []
    monkeypatch.setattr(faces, "framing_of", lambda pixels: given.append(pixels) or (0, 0, 1, 1))
    hub.ship(folder, tmp_path / "shipped")
    assert given[0].shape == (2, 32, 32, 3)
    assert deepfd.load(tmp_path / "shipped").detector.about["framing"] == [0, 0, 1, 1]


def test_a_model_that_cannot_be_read_ships_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        hub.main([str(tmp_path / "none"), str(tmp_path / "package/orl")])
    assert stopped.value.code == 1
    assert "not found" in capsys.readouterr().err
    assert not (tmp_path / "package").exists()


def test_records_that_are_none_stop_with_one_error(folder, tmp_path, capsys):
    (folder / "reads.json").write_text("[]")
    with pytest.raises(SystemExit):
        hub.main([str(folder), str(tmp_path / "package/orl")])
    assert "no record of reads" in capsys.readouterr().err
    assert not (tmp_path / "package/orl").exists()


def test_a_predictor_is_of_the_hubs_own_mixin():
    from huggingface_hub import ModelHubMixin

    assert issubclass(Predictor, ModelHubMixin)
