"""What the cards say of papers is what the code does."""

import json
from pathlib import Path

import pytest
import yaml

from generators import train
from generators.networks import pggan
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import differences

ROOT = Path(__file__).parents[3]
CARDS = [
    path
    for path in sorted((ROOT / "generators/weights").rglob("*.json"))
    if "training" in json.loads(path.read_text())
]


@pytest.mark.parametrize("path", CARDS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_card_says_what_its_training_did_otherwise(path):
    card = json.loads(path.read_text())
    assert card["differences"] == differences(card["name"], card["training"])


def test_everything_that_is_trained_here_has_a_card():
    recipes = yaml.safe_load((ROOT / train.RECIPES).read_text())
    folder = ROOT / "generators/weights"
    cards = {
        (path.relative_to(folder).parts[0], json.loads(path.read_text())["name"]) for path in CARDS
    }
    trained = {(faces, name) for faces in ("orl", "celeba") for name in recipes[faces]}
    assert cards == trained


def test_an_option_that_is_the_papers_is_no_difference():
    options = {"batch": 64, "width": 64, "lr": 1e-4, "critic_steps": 1}
    said = " ".join(differences("wgan_gp", options))
    assert "critic_steps 1 (the paper: 5)" in said and "layer norm" in said
    assert "batch 64" not in said and "lr 0.0001" not in said
    # Where a training does not say, the recipe's own: the paper's.
    assert "critic_steps" not in " ".join(differences("wgan_gp", options | {"critic_steps": 5}))
    del options["critic_steps"]
    assert "critic_steps" not in " ".join(differences("wgan_gp", options))


def test_average_and_augmentation_are_those_of_the_training():
    said = differences("dcgan", {"augment": ["translation"]})
    assert any(f"half-life {EMA_IMAGES} images" in one for one in said)
    assert said[-2].endswith("in both updates: translation")
    said = differences("ddpm", {"ema_images": 7})
    assert any("half-life 7 images" in one for one in said)
    assert not any("DiffAugment" in one or "batch statistics" in one for one in said)


def test_growth_is_named_as_it_happens():
    said = " ".join(differences("pggan", {}))
    assert "complete at 8%, 18%, 32%, 50%, 100% of the training" in said
    network = pggan.Growing()
    pggan.grow(network, 0.5 + 0.5 * 0.2)  # a fifth into the last share: faded in
    assert network.level == 4 and network.alpha == pytest.approx(1)
    pggan.grow(network, 0.5 + 0.5 * 0.1)
    assert network.alpha == pytest.approx(0.5)
