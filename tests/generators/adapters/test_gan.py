"""The adapter of this repository's GANs."""

import json

import pytest
import torch
from safetensors.torch import load, save

import generators
from generators.adapters.options import GanGenerator
from generators.base import file_sha256
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers


def options(path, adapter="dcgan"):
    return GanGenerator(adapter=adapter, family="f", images=4, weights=str(path))


def recard(path, **changes):
    card = json.loads(path.with_suffix(".json").read_text())
    card |= {"sha256": file_sha256(path)} | changes
    path.with_suffix(".json").write_text(json.dumps(card))


def test_half_precision_on_disk_defines_the_samples(gan_weights):
    path = gan_weights()
    full = generators.load(options(path)).sample([1, 2])
    state = load(path.read_bytes())
    path.write_bytes(save({n: t.half() if t.is_floating_point() else t for n, t in state.items()}))
    recard(path)
    made = generators.load(options(path)).sample([1, 2])
    assert made.dtype == torch.float32
    assert 0 < (made - full).abs().max() < 0.1


def test_weights_of_another_adapter_are_refused(gan_weights):
    with pytest.raises(UserError, match=r"is of adapter 'dcgan', params.yaml says 'wgan'"):
        generators.load(options(gan_weights(), adapter="wgan"))


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"channels": 1, "width": 4}},
        {"config": {"channels": 1}},
        {"config": {"depth": 3}},
        {"config": None},
        {"channels": "many"},
    ],
)
def test_weights_that_do_not_fit_their_card_are_refused(gan_weights, change):
    path = gan_weights()
    recard(path, **change)
    with pytest.raises(UserError, match="does not fit the network dcgan"):
        generators.load(options(path))


def test_a_file_that_is_not_safetensors_is_refused(gan_weights):
    path = gan_weights()
    torch.save(load(path.read_bytes()), path)
    recard(path)
    with pytest.raises(UserError, match="does not fit"):
        generators.load(options(path))


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"{", b""])
def test_a_damaged_card_is_refused(gan_weights, damage):
    path = gan_weights()
    path.with_suffix(".json").write_bytes(damage)
    with pytest.raises(UserError, match="is not JSON"):
        generators.load(options(path))
