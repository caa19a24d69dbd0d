import shutil

import pytest

import deepfd
from deepfd import shipped
from pipeline.errors import UserError


@pytest.fixture
def package(tmp_path, monkeypatch, make_model):
    """A package with models of its own, and an empty folder to work in."""
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "package")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def ship(*channels):
        for one in channels:
            make_model(f"package/{'orl' if one == 1 else 'celeba'}", channels=one)

    return ship


def test_in_an_empty_folder_the_shipped_model_of_the_kind_is_taken(package):
    package(1, 3)
    assert (deepfd.load().name, deepfd.load(grey=True).name) == ("shipped:celeba", "shipped:orl")
    assert deepfd.load("orl").detector.channels == 1


def test_one_shipped_model_is_taken_for_every_picture(package):
    package(1)
    assert deepfd.load().name == deepfd.load(grey=True).name == "shipped:orl"


def test_a_model_at_hand_goes_before_the_shipped_ones(package, tmp_path, make_model):
    package(1, 3)
    shutil.copytree(make_model(), tmp_path / "empty" / shipped.LOCAL)
    assert deepfd.load().name == "models/deepfd/none/0"


def test_a_folder_goes_before_a_shipped_name(package, tmp_path, make_model):
    package(3)
    shutil.copytree(make_model("one", channels=1), tmp_path / "empty/celeba")
    assert deepfd.load("celeba").detector.channels == 1


def test_without_any_model_the_error_says_what_to_do(package):
    with pytest.raises(UserError, match=r"make benchmark.*--model"):
        deepfd.load()


def test_an_unknown_name_lists_the_shipped_ones(package):
    package(1, 3)
    with pytest.raises(UserError, match="celeba, orl"):
        deepfd.load("imagenet")


def test_what_is_shipped_can_be_loaded_and_has_a_card():
    for name, folder in shipped.shipped().items():
        model = deepfd.load(name)
        assert model.threshold.calibration, f"{name} is not calibrated"
        assert model.detector.about.get("framing"), f"{name} has no framing"
        assert "must not be used for" in (folder / "README.md").read_text()
