import pytest
import torch

from deepfd.d1 import D1, map_side, widths
from deepfd.detector import Network
from pipeline.errors import UserError


def test_the_papers_network_has_the_authors_3_78_million_parameters():
    network = Network(channels=3, size=64, width=96)
    assert widths(96) == (96, 128, 256)
    assert sum(p.numel() for p in network.parameters()) == 3_776_296


@pytest.mark.parametrize("size", [19, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_and_features_have_the_announced_shapes(size, channels):
    d1 = D1(channels, size, width=6)
    maps, features = d1(torch.randn(2, channels, size, size))
    assert maps.shape == (2, d1.outputs, map_side(size), map_side(size))
    assert features.shape == (2, 128)
    torch.testing.assert_close(features.sum(1), torch.ones(2))


def test_the_map_of_64_pixels_is_3_by_3_as_the_authors():
    assert map_side(64) == 3


@pytest.mark.parametrize("size", [1, 16, 18])
def test_a_picture_too_small_is_refused_with_its_size(size):
    with pytest.raises(UserError, match=f"{size} px"):
        D1(1, size)


def test_a_widening_block_keeps_its_input_in_the_middle_channels():
    d1 = D1(1, 64, width=6)
    block = d1.blocks[1]
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(1, 6, 8, 8)
    out = block(x)
    assert out.shape == (1, 8, 4, 4)
    torch.testing.assert_close(out[:, 1:7], torch.nn.functional.avg_pool2d(x, 2))
    assert not out[:, 0].any()
    assert not out[:, 7].any()
