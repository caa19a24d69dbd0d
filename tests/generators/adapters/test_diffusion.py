"""The adapter of diffusers pipelines, on small real pipelines."""

import json
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import generators
from generators.adapters import diffusion, network
from generators.adapters.options import DiffusersGenerator
from generators.base import file_sha256
from pipeline.errors import RetryLater, UserError


def options(source, **changes):
    values = {
        "adapter": "diffusers",
        "family": "f",
        "images": 4,
        "weights": str(source),
        "steps": 3,
    }
    return DiffusersGenerator(**(values | changes))


def write_card(folder):
    (folder / "card.json").write_text(json.dumps({"files": diffusion.digests(folder)}))


@pytest.mark.parametrize(
    "scheduler", [None, "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"]
)
@pytest.mark.parametrize("kind", ["DDPMPipeline", "DDIMPipeline"])
def test_a_seed_is_one_image_under_any_scheduler(pipeline_folder, kind, scheduler):
    own = "DDIMScheduler" if kind == "DDIMPipeline" else "DDPMScheduler"
    made = generators.load(options(pipeline_folder(kind, own), scheduler=scheduler))
    together = made.sample([3, 4, 5])
    alone = torch.cat([made.sample([seed]) for seed in (5, 3)])
    assert (together[[2, 0]] - alone).abs().max() <= 1 / 127.5
    assert (together[0] - together[1]).abs().max() > 0.1


def test_a_ddpm_is_sampled_by_ddim_as_its_own_pipeline_does(pipeline_folder):
    folder = pipeline_folder()
    made = generators.load(options(folder)).sample([7, 8])
    pipe = diffusers.DDIMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    random = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    theirs = pipe(batch_size=2, generator=random, num_inference_steps=3, output_type="np").images
    np.testing.assert_allclose(made.numpy(), theirs.transpose(0, 3, 1, 2) * 2 - 1, atol=1e-4)


def test_the_spec_tells_every_setting(pipeline_folder):
    folder = pipeline_folder()
    base = generators.load(options(folder)).spec()
    assert base["weights"]["unet/config.json"] == file_sha256(folder / "unet/config.json")
    for change in ({"steps": 4}, {"scheduler": "DDPMScheduler"}, {"dtype": "bfloat16"}):
        assert generators.load(options(folder, **change)).spec() != base


def test_a_score_sde_pipeline_mixes_its_batch_and_is_run_one_by_one(tmp_path):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        time_embedding_type="fourier",
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    pipe = diffusers.ScoreSdeVePipeline(unet=unet, scheduler=diffusers.ScoreSdeVeScheduler())
    pipe.save_pretrained(tmp_path / "pipe")
    made = generators.load(options(tmp_path / "pipe"))
    together, alone = made.sample([1, 2]), made.sample([2])
    assert (together[1] - alone[0]).abs().max() <= 1 / 127.5


def save_latent_pipeline(folder):
    """Save a small unconditional latent diffusion pipeline; returns it."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16),
        layers_per_block=1, norm_num_groups=4, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    vqvae = diffusers.VQModel(block_out_channels=(8,), norm_num_groups=4, latent_channels=3)
    # As it is initialised, the code book is so narrow that every latent gets the same few codes.
    torch.nn.init.normal_(vqvae.quantize.embedding.weight)
    pipe = diffusers.LDMPipeline(vqvae=vqvae, unet=unet, scheduler=diffusers.DDIMScheduler())
    pipe.save_pretrained(folder)
    return pipe


def test_latents_from_before_there_was_a_scaling_factor_are_decoded_as_they_are(tmp_path):
    pipe = save_latent_pipeline(tmp_path / "pipe")
    config = tmp_path / "pipe/vqvae/config.json"
    values = json.loads(config.read_text())

    def made(scale):
        without = {key: value for key, value in values.items() if key != "scaling_factor"}
        config.write_text(
            json.dumps(without | ({} if scale is None else {"scaling_factor": scale}))
        )
        return generators.load(options(tmp_path / "pipe"))

    assert torch.equal(made(None).sample([1, 2]), made(1.0).sample([1, 2]))
    # Of a model that says what its latents were multiplied by, they are divided by it.
    scaled = made(0.5)
    assert scaled.spec()["latent_scale"] == 0.5 and made(None).spec()["latent_scale"] == 1.0
    assert (scaled.sample([1]) - made(None).sample([1])).abs().max() > 1 / 127.5
    pipe.vqvae.register_to_config(scaling_factor=0.5)
    noise = [torch.Generator().manual_seed(1)]
    images = pipe(1, noise, num_inference_steps=3, output_type="np").images
    expected = torch.from_numpy(images).movedim(-1, 1) * 2 - 1
    torch.testing.assert_close(scaled.sample([1]), expected, rtol=0, atol=1e-5)


def test_noise_that_is_not_the_images_own_is_refused(tmp_path):
    save_latent_pipeline(tmp_path / "pipe")
    made = generators.load(options(tmp_path / "pipe")).sample([1, 2])
    assert made.shape[:2] == (2, 3) and made.abs().max() <= 1
    # LDMPipeline gives its scheduler no generator.
    stochastic = generators.load(options(tmp_path / "pipe", scheduler="DDPMScheduler"))
    with pytest.raises(UserError, match="draws noise that is not the image's own"):
        stochastic.sample([1, 2])


def test_prompts_go_by_seed_through_a_text_to_image_pipeline(pipeline_folder, monkeypatch):
    made = generators.load(options(pipeline_folder(channels=3)))

    class Text(diffusers.DDPMPipeline):
        def __call__(self, prompt, generator=None, num_inference_steps=3, output_type="pt"):
            self.prompts = prompt
            return super().__call__(len(prompt), generator, num_inference_steps, output_type)

    made._pipe = Text(unet=made._pipe.unet, scheduler=made._pipe.scheduler)
    made._options = options("x", prompts=("a", "b", "c"))
    made._call = made._arguments()
    made._pipe.set_progress_bar_config(disable=True)
    assert made.sample([4, 5, 6]).shape == (3, 3, 16, 16)
    assert made._pipe.prompts == ["b", "c", "a"]
    made._options = options("x")
    with pytest.raises(UserError, match="has 0 prompts; set `prompts`"):
        made._arguments()


def test_prompts_for_an_unconditional_pipeline_are_refused(pipeline_folder):
    with pytest.raises(UserError, match="remove `prompts`"):
        generators.load(options(pipeline_folder(), prompts=("a face",)))


def test_a_pipeline_that_makes_no_images_is_refused(tmp_path):
    unet = diffusers.UNet1DModel(sample_size=256, in_channels=2, out_channels=2,
                                 block_out_channels=(8, 8, 16), extra_in_channels=16)  # fmt: skip
    pipe = diffusers.DanceDiffusionPipeline(unet=unet, scheduler=diffusers.IPNDMScheduler())
    pipe.save_pretrained(tmp_path / "pipe")
    with pytest.raises(UserError, match="DanceDiffusionPipeline, which makes no images"):
        generators.load(options(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        ("Nonsense", "is not a scheduler class"),
        ("UNet2DModel", "is not a scheduler class"),
        ("EulerDiscreteScheduler", "scales its input"),
        ("PNDMScheduler", "takes no generator"),
    ],
)
def test_a_scheduler_that_gives_wrong_images_is_refused(pipeline_folder, scheduler, reason):
    with pytest.raises(UserError, match=reason):
        generators.load(options(pipeline_folder(), scheduler=scheduler, steps=10))


def test_more_steps_than_the_schedule_has_are_refused(pipeline_folder):
    with pytest.raises(UserError, match="does not take 2000 steps"):
        generators.load(options(pipeline_folder(), steps=2000))


def test_the_flat_layout_of_old_public_pipelines_with_bin_weights_is_read(pipeline_folder):
    folder = pipeline_folder()
    expected = generators.load(options(folder)).sample([1, 2])
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), folder / "diffusion_pytorch_model.bin")
    weights.unlink()
    for file in ("unet/config.json", "scheduler/scheduler_config.json"):
        (folder / file).rename(folder / Path(file).name)
    (folder / "unet").rmdir()
    (folder / "scheduler").rmdir()
    assert torch.equal(generators.load(options(folder)).sample([1, 2]), expected)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "unet/config.json").write_text("{}"),
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").unlink(),
        lambda f: (f / "unet/pytorch_model.bin").write_bytes(b"added"),
        lambda f: (f / "card.json").write_text("[]"),
        lambda f: (f / "card.json").write_bytes(b"\xff"),
    ],
)
def test_a_folder_that_is_not_as_its_card_says_is_refused(pipeline_folder, damage):
    folder = pipeline_folder()
    write_card(folder)
    generators.load(options(folder))
    damage(folder)
    with pytest.raises(UserError, match=r"card\.json"):
        generators.load(options(folder))


def test_a_pipeline_with_code_of_its_owner_is_refused(pipeline_folder, tmp_path):
    folder = pipeline_folder()
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "unet" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass E: pass")
    index["unet"] = ["evil", "E"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError):
        generators.load(options(folder))
    assert not (tmp_path / "ran").exists()


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="absent not found"):
        generators.load(options(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"absent\.json cannot be read"):
        generators.load(options(tmp_path / "absent.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"model_index\.json"):
        generators.load(options(tmp_path / "empty"))


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "abc123", "G" * 40])
def test_a_hub_id_without_a_pinned_revision_is_refused(tmp_path, revision):
    card = tmp_path / "hub.json"
    card.write_text(json.dumps({"source": "google/ddpm-celebahq-256", "revision": revision}))
    with pytest.raises(UserError, match="expected the 40 hex digits of a commit"):
        generators.load(options(card))


def test_an_unreachable_hub_is_tried_again_and_then_says_what_to_do_offline(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(network.time, "sleep", waits.append)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    card = tmp_path / "hub.json"
    card.write_text(json.dumps({"source": "google/ddpm-celebahq-256", "revision": "0" * 40}))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE=1"):
        generators.load(options(card))
    assert len(waits) == network.ATTEMPTS - 1 and waits[1] > waits[0]


def test_a_lost_network_is_for_the_flow_to_try_again(tmp_path, monkeypatch):
    def lost(*arguments, **options):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(network, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(diffusion.diffusers.DiffusionPipeline, "download", lost)
    card = tmp_path / "hub.json"
    card.write_text(json.dumps({"source": "google/ddpm-celebahq-256", "revision": "0" * 40}))
    with pytest.raises(RetryLater, match="reset by peer"):
        generators.load(options(card))
