"""The contract of a generator, over every adapter of the registry on small real material."""

import json
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

import generators
from generators import sample as stage
from generators.adapters import network
from generators.base import file_sha256
from pipeline import images, manifest, params
from pipeline.errors import RetryLater, UserError

LEVEL = 1 / 127.5

NETWORK = """
import torch
from torch import nn
class Generator(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.main = nn.Sequential(nn.ConvTranspose2d(8, width, 4), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())
    def forward(self, z):
        return self.main(z)
"""

PROGRAM = """
import pathlib, random, sys
from PIL import Image
weights, first, count, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
assert pathlib.Path(weights).is_file()
for seed in range(first, first + count):
    random.seed(seed)
    Image.frombytes("RGB", (16, 16), random.randbytes(768)).save(f"{out}/seed{seed:04d}.png")
"""


def make_exported(tmp_path):
    torch.manual_seed(0)
    network = import_module("generators.networks.dcgan").Generator(channels=3, width=2).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    path = tmp_path / "net.pt2"
    shapes = ({0: torch.export.Dim("n")},)
    torch.export.save(
        torch.export.export(network, (torch.randn(2, 100),), dynamic_shapes=shapes), path
    )
    card = {"latent": 100, "channels": 3, "sha256": file_sha256(path)}
    path.with_suffix(".json").write_text(json.dumps(card))
    return {"weights": str(path)}


def make_package(tmp_path, monkeypatch):
    package = tmp_path / "site" / "tinygan"
    package.mkdir(parents=True)
    (package / "models.py").write_text(NETWORK)
    info = tmp_path / "site" / "tinygan-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinygan\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in [name for name in sys.modules if name.split(".")[0] == "tinygan"]:
        monkeypatch.delitem(sys.modules, name)
    torch.manual_seed(0)
    state = import_module("tinygan.models").Generator(4).state_dict()
    torch.save({"netG": state}, package / "weights.tar")
    card = {
        "package": "tinygan", "version": "1.2", "file": "tinygan/weights.tar",
        "sha256": file_sha256(package / "weights.tar"), "network": "tinygan.models:Generator",
        "config": {"width": 4}, "state": "netG", "latent": [8, 1, 1], "channels": 3,
    }  # fmt: skip
    path = tmp_path / "package.json"
    path.write_text(json.dumps(card))
    return {"weights": str(path)}


def make_hub(tmp_path, monkeypatch, zoo_checkpoint):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    path = tmp_path / "hub/checkpoints/pgan.pth"
    path.parent.mkdir(parents=True)
    zoo_checkpoint(path)
    card = {"url": "https://example.invalid/pgan.pth", "sha256": file_sha256(path)[:8]}
    (tmp_path / "hub.json").write_text(json.dumps(card))
    return {"weights": str(tmp_path / "hub.json")}


def make_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        images.to_pil(pixels).save(folder / f"{index:03d}.png")
    return {"weights": str(folder)}


def make_command(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    argv = [sys.executable, str(program), "{weights}", "{first}", "{count}", "{out}"]
    return {"weights": str(program), "argv": argv}


@pytest.fixture
def make_entry(tmp_path, monkeypatch, gan_weights, pipeline_folder, zoo_checkpoint):
    """Build small real material for an adapter; returns its entry of params.yaml."""

    def make(adapter):
        if adapter == "diffusers":
            entry = {"weights": str(pipeline_folder(channels=3)), "steps": 2}
        elif adapter == "hub":
            entry = make_hub(tmp_path, monkeypatch, zoo_checkpoint)
        elif adapter == "package":
            entry = make_package(tmp_path, monkeypatch)
        elif adapter in ("exported", "folder", "command"):
            entry = globals()[f"make_{adapter}"](tmp_path)
        else:
            entry = {"weights": str(gan_weights(adapter))}
        return {"adapter": adapter, "family": "f", "images": 8, "batch": 4} | entry

    return make


def load(entry):
    return generators.load(TypeAdapter(params.Generator).validate_python(entry))


@pytest.mark.parametrize("adapter", generators.GENERATORS)
def test_every_adapter_keeps_the_contract(make_entry, adapter):
    entry = make_entry(adapter)
    made = load(entry)

    together = made.sample([3, 4, 5, 6])
    assert together.dtype == torch.float32 and together.device.type == "cpu"
    assert together.ndim == 4 and together.shape[:2] == (4, made.channels)
    assert together.min() >= -1 and together.max() <= 1
    assert together.std() > 0.01

    # One seed, one image: alone, in another order, in a batch of another size, and a second time.
    alone = torch.cat([made.sample([seed]) for seed in (3, 4, 5, 6)])
    assert (alone - together).abs().max() <= LEVEL + 1e-6
    other = made.sample([6, 0, 3])
    assert (other[[2, 0]] - together[[0, 3]]).abs().max() <= LEVEL + 1e-6
    assert torch.equal(made.sample([3, 4, 5, 6]), together)
    assert all((together[0] - one).abs().max() > LEVEL for one in together[1:])

    # Torch's own generators have no say in it.
    torch.manual_seed(123)
    assert torch.equal(made.sample([3, 4, 5, 6]), together)

    # The spec is JSON, and the same for the same material.
    assert json.loads(json.dumps(made.spec())) == load(entry).spec() == made.spec()


@pytest.mark.parametrize("adapter", generators.GENERATORS)
def test_every_adapter_says_in_one_sentence_that_its_material_is_absent(make_entry, adapter):
    entry = make_entry(adapter) | {"weights": "nowhere/absent.json"}
    with pytest.raises(UserError, match=r"nowhere/absent"):
        load(entry)


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("adapter", ["exported", "package", "hub"])
def test_weights_of_another_digest_are_refused(make_entry, tmp_path, adapter):
    entry = make_entry(adapter)
    file = {
        "exported": "net.pt2",
        "package": "site/tinygan/weights.tar",
        "hub": "hub/checkpoints/pgan.pth",
    }
    damage(tmp_path / file[adapter])
    with pytest.raises(UserError, match="sha256"):
        load(entry)


class Evil:
    """A pickle that runs code when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("adapter", ["exported", "package", "hub", "diffusers"])
def test_a_pickle_that_runs_code_is_refused_unrun(make_entry, tmp_path, adapter):
    entry = make_entry(adapter)
    file = {
        "exported": "net.pt2",
        "package": "site/tinygan/weights.tar",
        "hub": "hub/checkpoints/pgan.pth",
        "diffusers": "pipe/unet/diffusion_pytorch_model.bin",
    }
    path = tmp_path / file[adapter]
    torch.save({"netG": Evil(tmp_path / "ran")}, path)
    if adapter == "diffusers":
        path.with_suffix(".safetensors").unlink()
    else:
        card = (path if adapter == "exported" else tmp_path / adapter).with_suffix(".json")
        sha256 = file_sha256(path)
        card.write_text(json.dumps(json.loads(card.read_text()) | {"sha256": sha256}))
    with pytest.raises(UserError):
        load(entry)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("adapter", ["hub", "diffusers"])
def test_a_hub_that_cannot_be_reached_says_what_to_do_offline(
    make_entry, tmp_path, monkeypatch, adapter
):
    entry = make_entry(adapter)
    monkeypatch.setattr(network, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    card = {"source": "owner/zoo", "revision": "b" * 40, "sha256": "0" * 8,
            "url": "http://127.0.0.1:9/gone.pth"}  # fmt: skip
    path = tmp_path / "gone.json"
    path.write_text(json.dumps(card))
    with pytest.raises(UserError, match="offline: fetch it where there is a network") as caught:
        load(entry | {"weights": str(path)})
    # The flow tries again where a network was lost, not where none is wanted.
    assert isinstance(caught.value, RetryLater) == (adapter == "hub")


@pytest.mark.parametrize("adapter", generators.GENERATORS)
def test_every_adapter_goes_through_the_stage_and_grows(make_entry, make_params, tmp_path, adapter):
    entry = make_entry(adapter)
    channels = 1 if load(entry).channels == 1 else 3
    for folder, counts in (("grown", (3, 6)), ("at_once", (6,))):
        for count in counts:
            _, run = make_params({"a": entry | {"images": count}}, size=16, channels=channels)
            stage.sample("a", run, tmp_path / folder)
    grown, at_once = (manifest.read(tmp_path / folder) for folder in ("grown", "at_once"))
    assert list(grown["sha256"]) == list(at_once["sha256"])
    assert grown["sha256"].nunique() == 6
    assert manifest.pixels(grown).shape == (6, 16, 16, channels)
