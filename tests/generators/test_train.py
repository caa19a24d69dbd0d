"""Training of generators: resumable bit for bit, honest cards."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import generators
from generators import NETWORKS
from generators import train as training
from generators.adapters.options import GanGenerator
from generators.base import file_sha256, read_card
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers

OPTIONS = {
    "dcgan": {"images": 24, "batch": 4, "width": 4, "lr": 2e-4, "seed": 1},
    "wgan": {"images": 40, "batch": 4, "width": 4, "lr": 2e-4, "seed": 1},
    "wgan_gp": {"images": 16, "batch": 4, "width": 4, "lr": 2e-4, "seed": 1, "critic_steps": 2},
    "lsgan": {"images": 16, "batch": 4, "width": 4, "lr": 2e-4, "seed": 1},
    "pggan": {"images": 16, "batch": 4, "width": 4, "lr": 1e-3, "seed": 1},
    "vae": {"images": 16, "batch": 4, "width": 4, "lr": 1e-3, "seed": 1},
    "wae": {"images": 16, "batch": 4, "width": 4, "lr": 1e-3, "seed": 1},
    "ppca": {"images": 16, "batch": 4, "width": 4, "seed": 1},
    "began": {"images": 16, "batch": 4, "width": 4, "lr": 2e-4, "seed": 1},
    "ddpm": {"images": 8, "batch": 4, "widths": [8, 8], "lr": 1e-3, "seed": 1},
}


@pytest.fixture
def faces():
    return torch.randint(
        0, 256, (12, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_and_writes_weights_that_its_card_describes(name, faces, tmp_path):
    training.train(name, "orl", OPTIONS[name], faces, tmp_path)
    card = read_card(tmp_path / f"{name}.safetensors")
    assert card["adapter"] == name
    assert card["config"] == {"channels": 1, "width": 4}
    assert card["training"]["images"] == OPTIONS[name]["images"]
    module = import_module(f"generators.networks.{name}")
    network = module.Generator(**card["config"])
    network.load_state_dict(load_file(tmp_path / f"{name}.safetensors"))


def test_what_a_network_was_told_beside_its_width_is_on_its_card(faces, tmp_path):
    training.train("lsgan", "orl", OPTIONS["lsgan"] | {"kernel": 4}, faces, tmp_path)
    card = read_card(tmp_path / "lsgan.safetensors")
    assert card["config"] == {"channels": 1, "width": 4, "kernel": 4}
    assert "kernel 4 (the paper: 5)" in card["differences"]


def test_half_precision_on_disk_is_of_the_same_weights_and_is_sampled(faces, tmp_path):
    training.train("dcgan", "orl", OPTIONS["dcgan"], faces, tmp_path / "full")
    training.train("dcgan", "orl", OPTIONS["dcgan"] | {"half": True}, faces, tmp_path / "half")
    full, half = (load_file(tmp_path / kind / "dcgan.safetensors") for kind in ("full", "half"))
    for key, whole in full.items():
        assert torch.equal(half[key], whole.half() if whole.ndim > 1 else whole)
        assert half[key].dtype == (torch.float16 if whole.ndim > 1 else whole.dtype)
    weights = str(tmp_path / "half/dcgan.safetensors")
    options = GanGenerator(adapter="dcgan", family="one", weights=weights, images=2)
    made = generators.load(options).sample([0, 1])
    assert made.shape == (2, 1, 64, 64) and made.dtype == torch.float32


def test_ddpm_writes_a_pipeline_that_diffusers_loads(faces, tmp_path):
    training.train("ddpm", "orl", OPTIONS["ddpm"], faces, tmp_path)
    from diffusers import DDIMPipeline

    pipe = DDIMPipeline.from_pretrained(tmp_path / "ddpm", use_safetensors=True)
    assert pipe.unet.config.sample_size == 64
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    card = json.loads((tmp_path / "ddpm" / "card.json").read_text())
    for relative, digest in card["files"].items():
        assert file_sha256(tmp_path / "ddpm" / relative) == digest


@pytest.mark.parametrize("name", ["dcgan", "began", "vae", "wae", "ppca", "ddpm"])
def test_an_interrupted_training_ends_with_the_same_bits(name, faces, tmp_path, monkeypatch):
    options = OPTIONS[name]
    training.train(name, "orl", options, faces, tmp_path / "whole")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    half = {**options, "images": options["images"] // 2}
    training.train(name, "orl", half, faces, tmp_path / "parts")
    training.train(name, "orl", options, faces, tmp_path / "parts")
    weights = f"{name}.safetensors"
    if name == "ddpm":
        weights = "ddpm/unet/diffusion_pytorch_model.safetensors"
    whole, parts = load_file(tmp_path / "whole" / weights), load_file(tmp_path / "parts" / weights)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_weights_of_another_name_are_of_the_network_that_the_options_name(faces, tmp_path):
    options = {**OPTIONS["dcgan"], "network": "dcgan", "photographs": "soft"}
    training.train("dcgan_soft", "orl", options, faces, tmp_path)
    card = read_card(tmp_path / "dcgan_soft.safetensors")
    assert card["name"] == "dcgan_soft" and card["adapter"] == "dcgan"
    assert card["training_data"] == "24 soft copies of photographs of orl (train split)"
    assert any("made soft" in one for one in card["differences"])


def test_photographs_made_soft_lose_their_finest_detail_each_in_its_own_way(faces):
    def detail(pictures):
        pictures = pictures.float()
        return (pictures[..., 1:] - pictures[..., :-1]).abs().mean((1, 2, 3))

    soft = training.made_soft(faces, seed=1)
    assert soft.dtype == torch.uint8 and soft.shape == (24, 1, 64, 64)
    assert (detail(soft) < detail(torch.cat([faces, faces]))).all()
    assert not torch.equal(soft[:12], soft[12:])
    assert torch.equal(soft, training.made_soft(faces, seed=1))
    assert not torch.equal(soft, training.made_soft(faces, seed=2))


def test_photographs_of_another_kind_than_soft_are_refused(tmp_path):
    recipes = tmp_path / "params.yaml"
    recipes.write_text("seed: 1\norl:\n  a: {network: dcgan, photographs: sharp}\n")
    with pytest.raises(UserError, match=r"orl\.a has photographs 'sharp'; expected soft"):
        training.recipe_options("orl", "a", recipes)


def test_resuming_with_other_options_is_refused_with_what_differs(faces, tmp_path):
    training.train("dcgan", "orl", OPTIONS["dcgan"], faces, tmp_path)
    other = {**OPTIONS["dcgan"], "lr": 1e-3}
    with pytest.raises(UserError, match=r"lr was 0\.0002, is 0\.001"):
        training.train("dcgan", "orl", other, faces, tmp_path)


def test_resuming_on_other_faces_is_refused(faces, tmp_path):
    training.train("dcgan", "orl", OPTIONS["dcgan"], faces, tmp_path)
    with pytest.raises(UserError, match="faces_sha256"):
        training.train("dcgan", "orl", OPTIONS["dcgan"], faces.flip(0), tmp_path)


def test_an_unknown_generator_or_set_of_faces_names_the_known_ones():
    with pytest.raises(UserError, match="dcgan, wgan"):
        training.recipe_options("orl", "stylegan9")
    with pytest.raises(UserError, match="orl"):
        training.recipe_options("mars", "dcgan")


def test_a_recipe_without_a_network_is_refused():
    with pytest.raises(UserError, match=r"networks/stylegan9\.py not found"):
        training.make_trainer("stylegan9", OPTIONS["dcgan"], 1, 64, torch.device("cpu"))


def test_a_size_that_no_gan_makes_is_refused():
    with pytest.raises(UserError, match=r"faces\.size is 32"):
        training.make_trainer("dcgan", OPTIONS["dcgan"], 1, 32, torch.device("cpu"))


def test_an_unknown_augmentation_is_refused(faces, tmp_path):
    options = {**OPTIONS["pggan"], "augment": ["color"]}
    with pytest.raises(UserError, match=r"\['color'\] is unknown; expected some of colour"):
        training.train("pggan", "orl", options, faces, tmp_path)


@pytest.mark.parametrize("name", ["dcgan", "ddpm"])
def test_measuring_a_run_shows_its_distance_and_changes_nothing(name, faces, tmp_path, monkeypatch):
    options = OPTIONS[name]
    training.train(name, "orl", options, faces, tmp_path / "blind")
    for constant, value in (("CHECKPOINT_SECONDS", -1.0), ("LOOK_SECONDS", -1.0),
                            ("LOOK_SHARE", 0), ("MEASURED", 12)):  # fmt: skip
        monkeypatch.setattr(training, constant, value)
    training.train(name, "orl", options, faces, tmp_path / "seen", faces.flip(3))
    table = pd.read_csv(tmp_path / "seen.run/distance.csv")
    assert list(table) == ["images", "distance", "error", "floor", "floor_error"]
    steps = options["images"] // options["batch"]
    assert table["images"].nunique() == steps and table["images"].max() == options["images"]
    assert table.notna().all(axis=None)
    # Noise is further from photographs than other photographs are.
    assert (table["distance"] > table["floor"]).all() and table["floor"].nunique() == 1
    assert (tmp_path / "seen.run/sheet.png").exists()
    weights = "ddpm/unet/diffusion_pytorch_model" if name == "ddpm" else name
    blind, seen = (
        load_file(tmp_path / run / f"{weights}.safetensors") for run in ("blind", "seen")
    )
    assert all(torch.equal(blind[key], seen[key]) for key in blind)


def test_what_a_growing_generator_is_shown_by_has_its_resolution_of_the_moment():
    trainer = training.make_trainer("pggan", OPTIONS["pggan"], 3, 64, torch.device("cpu"))
    coarse, whole = (trainer.samples(2, done, side=64) for done in (0.05, 1.0))
    assert coarse.shape == whole.shape == (2, 64, 64, 3)
    blocks = coarse.reshape(2, 4, 16, 4, 16, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()  # 4x4, enlarged
    assert len(np.unique(whole[0, :16, :16])) > 3
