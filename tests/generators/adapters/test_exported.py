"""Exports: what is more than tensors and tensor operators is refused before it is loaded."""

import json
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import generators
from generators.adapters.exported import check_archive
from generators.adapters.options import ExportedGenerator
from generators.base import file_sha256, latents
from pipeline.errors import UserError


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3 * 8 * 8)

    def forward(self, z):
        return torch.tanh(self.linear(z)).reshape(-1, 3, 8, 8)


class Noisy(Small):
    def forward(self, z):
        return super().forward(z) + torch.randn(z.shape[0], 3, 8, 8)


class Bytes(Small):
    def forward(self, z):
        return super().forward(z) * 255


class Flat(Small):
    def forward(self, z):
        return self.linear(z)


class Modulated(nn.Module):
    """StyleGAN2's modulated convolution, all samples in one grouped convolution."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))
        self.affine = nn.Linear(4, 8)
        self.register_buffer("noise", torch.randn(8, 8))

    def forward(self, x, w):
        n = x.shape[0]
        weight = self.weight[None] * self.affine(w).reshape(n, 1, -1, 1, 1)
        weight = weight * (weight.square().sum([2, 3, 4]) + 1e-8).rsqrt().reshape(n, -1, 1, 1, 1)
        x = x.reshape(1, -1, 8, 8)
        x = nn.functional.conv2d(x, weight.reshape(-1, 8, 3, 3), padding=1, groups=n)
        return x.reshape(n, -1, 8, 8) + self.noise


class StyleGAN(nn.Module):
    """A small network with StyleGAN's interface: mapping and synthesis."""

    def __init__(self):
        super().__init__()
        self.z_dim = 4
        self.const = nn.Parameter(torch.randn(8, 8, 8))
        self.dense, self.conv, self.rgb = nn.Linear(4, 4), Modulated(), nn.Conv2d(8, 3, 1)

    def mapping(self, z, c, truncation_psi=1.0):
        return self.dense(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()) * truncation_psi

    def synthesis(self, w, noise_mode="random", force_fp32=False):
        assert noise_mode == "const"
        x = self.const[None].repeat(w.shape[0], 1, 1, 1)
        return torch.tanh(self.rgb(self.conv(x, w)))


def export(path, network, any_batch=True, **card):
    shapes = ({0: torch.export.Dim("n")},) if any_batch else None
    program = torch.export.export(network.eval(), (torch.randn(2, 4),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    write_card(path, **card)
    return ExportedGenerator(adapter="exported", family="f", images=4, weights=str(path))


def write_card(path, **card):
    values = {"latent": [4], "channels": 3, "sha256": file_sha256(path)} | card
    path.with_suffix(".json").write_text(json.dumps(values))


def rewrite(path, change):
    """Rewrite the members of an archive as `change(name, data)` says, and its card's digest."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, change(name, data))
    write_card(path)


def replacing(old, new):
    def change(name, data):
        if name.endswith(".json"):
            return data.replace(old.encode(), new.encode())
        return data

    return change


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.ops.aten.tanh.default", "torch.os.system"),
        ("torch.ops.aten.tanh.default", "torch.hub.load"),
        ("torch.ops.aten.tanh.default", "torch.ops.aten.from_file.default"),
        ("torch.ops.aten.tanh.default", "_operator.methodcaller"),
        ("torch.ops.aten.tanh.default", "torch.ops.aten.tanh.default.__globals__"),
        ("Symbol('", "open('"),
        ("positive=True, integer=True)", "positive=exit())"),
        ('"use_pickle": false', '"use_pickle": true'),
    ],
)
def test_an_export_that_calls_or_unpickles_is_refused(tmp_path, old, new):
    options = export(tmp_path / "net.pt2", Small())
    check_archive(options.weights)
    with zipfile.ZipFile(options.weights) as archive:
        texts = [archive.read(n).decode() for n in archive.namelist() if n.endswith(".json")]
    assert any(old in text for text in texts)
    rewrite(tmp_path / "net.pt2", replacing(old, new))
    with pytest.raises(UserError, match="expected tensors and aten operators only"):
        generators.load(options)


@pytest.mark.parametrize(
    "member",
    [
        "net/data/constants/opaque_obj_0",
        "net/data/constants/custom_obj_0",
        "net/data/weights/model.pt",
        "net/data/aotinductor/model/a.so",
        "net/models/model.json",
    ],
)
def test_an_export_with_objects_libraries_or_a_member_twice_is_refused(tmp_path, member):
    options = export(tmp_path / "net.pt2", Small())
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "net.pt2", "a") as archive:
        warnings.simplefilter("ignore")  # of a member twice, which is the point
        archive.writestr(member, b"{}")
    write_card(tmp_path / "net.pt2")
    with pytest.raises(UserError, match="expected tensors and aten operators only"):
        generators.load(options)


def test_sample_inputs_that_are_a_pickle_run_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    options = export(tmp_path / "net.pt2", Small())
    torch.save((Evil(),), tmp_path / "evil.pt")
    evil = (tmp_path / "evil.pt").read_bytes()
    rewrite(tmp_path / "net.pt2", lambda n, data: evil if "sample_inputs" in n else data)
    with pytest.raises(UserError):
        generators.load(options)
    assert not (tmp_path / "ran").exists()


def test_a_file_of_another_kind_is_refused(tmp_path):
    options = export(tmp_path / "net.pt2", Small())
    (tmp_path / "net.pt2").write_bytes(b"no archive")
    write_card(tmp_path / "net.pt2")
    with pytest.raises(UserError, match="is not a file of torch"):
        generators.load(options)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Noisy, "export it with constant noise"),
        (Bytes, "expected [-1, 1]"),
        (Flat, "expected images (N, C, H, W)"),
    ],
)
def test_an_export_that_gives_no_images_of_its_seeds_is_refused(tmp_path, network, reason):
    made = generators.load(export(tmp_path / "net.pt2", network()))
    with pytest.raises(UserError) as refused:
        made.sample([1, 2, 3])
    assert reason in str(refused.value)


def test_the_recipe_of_the_docs_exports_a_stylegan(tmp_path):
    recipe = (Path(__file__).parents[3] / "docs" / "generators.md").read_text()
    code = recipe.split("```python\n")[1].split("```")[0]
    torch.manual_seed(0)
    names = {"torch": torch, "G": StyleGAN().eval()}
    exec(code.replace("stylegan.pt2", str(tmp_path / "net.pt2")), names)
    write_card(tmp_path / "net.pt2")
    options = ExportedGenerator(
        adapter="exported", family="f", images=4, weights=str(tmp_path / "net.pt2")
    )
    made = generators.load(options).sample([1, 2, 3])
    with torch.no_grad():
        expected = names["Net"](names["G"])(latents([1, 2, 3], (4,)))
    assert torch.allclose(made, expected, atol=1e-5)


def test_an_export_of_one_batch_size_says_how_to_export(tmp_path):
    made = generators.load(export(tmp_path / "net.pt2", Small(), any_batch=False))
    assert made.sample([1, 2]).shape == (2, 3, 8, 8)
    with pytest.raises(UserError, match="export it with a batch of any size"):
        made.sample([1, 2, 3])


@pytest.mark.parametrize("card", [{"latent": None}, {"latent": "x"}, {"channels": 0}])
def test_a_card_without_sizes_is_refused(tmp_path, card):
    with pytest.raises(UserError, match="expected sizes"):
        generators.load(export(tmp_path / "net.pt2", Small(), **card))
