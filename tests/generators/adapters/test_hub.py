"""The progressive GANs of pytorch_GAN_zoo, on checkpoints of their layout."""

import json
import sys

import pytest
import torch
from pydantic import TypeAdapter
from torch.nn import functional as F

from generators.adapters import hub
from generators.base import latents
from pipeline import params
from pipeline.errors import UserError


def pictures(state, z, slope=0.2, alpha=0.0, equalised=True):
    """What that repository's generator gives, one layer after the other from the state alone."""
    state = {name.replace("module.", ""): tensor for name, tensor in state.items()}

    def layer(x, name):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        one = F.linear if weight.ndim == 2 else F.conv2d
        padding = {} if weight.ndim == 2 else {"padding": weight.shape[-1] // 2}
        # The constant is applied to what the layer gives, its bias included.
        return one(x, weight, bias, **padding) * (2 / weight[0].numel() if equalised else 1) ** 0.5

    def normal(x):
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def twice(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    x = F.leaky_relu(layer(normal(z), "formatLayer"), slope).reshape(len(z), -1, 4, 4)
    x = normal(F.leaky_relu(layer(normal(x), "groupScale0.0"), slope))
    scales = sum(name.endswith(".1.weight") for name in state if name.startswith("scaleLayers"))
    for scale in range(scales):
        small = x
        x = twice(x)
        for place in range(2):
            x = normal(F.leaky_relu(layer(x, f"scaleLayers.{scale}.{place}"), slope))
    image = layer(x, f"toRGBLayers.{scales}")
    if alpha:
        image = (1 - alpha) * image + alpha * twice(layer(small, f"toRGBLayers.{scales - 1}"))
    return image


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pictures_are_those_of_the_checkpoints_moving_average(
    zoo_checkpoint, tmp_path, wrapped, legacy
):
    state = zoo_checkpoint(tmp_path / "a.pth", wrapped=wrapped, legacy=legacy)
    network, z = hub.read(tmp_path / "a.pth"), latents(range(5), [8])
    found = network(z)
    assert found.shape == (5, 3, 16, 16)
    torch.testing.assert_close(found, pictures(state, z), rtol=1e-4, atol=1e-4)
    assert "models" not in sys.modules  # no code of the repository


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"depths": (6,)}, {}),
        ({"depths": (16, 16, 16, 8, 8, 8), "channels": 1}, {}),
        ({"leakyReluLeak": 0.1}, {"slope": 0.1}),
        ({"alpha": 0.25}, {"alpha": 0.25}),
        ({"equalizedlR": False}, {"equalised": False}),
    ],
)
def test_the_network_is_that_of_the_checkpoints_settings(zoo_checkpoint, tmp_path, settings, asked):
    state = zoo_checkpoint(tmp_path / "a.pth", **settings)
    network, z = hub.read(tmp_path / "a.pth"), latents(range(3), [8])
    torch.testing.assert_close(network(z), pictures(state, z, **asked), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", ["MSE", "DCGAN"])
def test_the_last_activation_goes_by_the_loss(zoo_checkpoint, tmp_path, loss):
    state = zoo_checkpoint(tmp_path / "a.pth", lossCriterion=loss)
    z = latents(range(3), [8])
    expected = torch.tanh(pictures(state, z))
    torch.testing.assert_close(hub.read(tmp_path / "a.pth")(z), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"categoryVectorDim": 4}, "it is conditional"),
        ({"perChannelNormalization": False}, "without pixel normalisation"),
        ({"lossCriterion": "Hinge"}, "its loss 'Hinge' is unknown"),
        ({"depthOtherScales": [8]}, "size mismatch|Unexpected key"),
    ],
)
def test_a_checkpoint_that_is_not_provided_for_is_refused(
    zoo_checkpoint, tmp_path, settings, reason
):
    zoo_checkpoint(tmp_path / "a.pth", **settings)
    with pytest.raises(UserError, match=reason):
        hub.read(tmp_path / "a.pth")


def test_a_checkpoint_without_a_moving_average_is_refused(tmp_path):
    torch.save({"config": {}, "netG": {}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"'avgG'.*expected a checkpoint of an unconditional PGAN"):
        hub.read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"sha256": "2b0"}, "8 to 64 hex digits"), ({"url": None}, "expected that of the weights")],
)
def test_a_card_without_address_or_digest_is_refused(tmp_path, change, reason):
    card = {"url": "https://example.invalid/a.pth", "sha256": "0" * 8} | change
    (tmp_path / "card.json").write_text(json.dumps(card))
    entry = {"adapter": "hub", "family": "f", "images": 4, "weights": str(tmp_path / "card.json")}
    with pytest.raises(UserError, match=reason):
        hub.Hub(TypeAdapter(params.Generator).validate_python(entry))
