import pytest
import torch
from torch.nn import functional as F

from benchmarks.methods.deepfd import architecture
from deepfd.bodies import Paper, paper_widths
from deepfd.d1 import D1
from deepfd.detector import Network
from deepfd.options import DeepFD
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers

SLIM = {"kind": "residual", "widths": [4, 6, 8], "stride": 1}


def paper(channels, size, width=6):
    return D1(channels, size, "none", {"kind": "paper", "width": width}, "softmax")


def test_the_papers_network_has_the_authors_3_78_million_parameters():
    network = Network(channels=3, size=64)
    assert paper_widths(96) == (96, 128, 256)
    assert sum(p.numel() for p in network.parameters()) == 3_776_296


@pytest.mark.parametrize("size", [19, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_papers_maps_and_features_have_the_announced_shapes(size, channels):
    d1 = paper(channels, size)
    maps, features = d1(torch.randn(2, channels, size, size))
    assert maps.shape == (2, d1.outputs, Paper.side(size), Paper.side(size))
    assert features.shape == (2, 128)
    torch.testing.assert_close(features.sum(1), torch.ones(2))


def test_the_papers_map_of_64_pixels_is_3_by_3():
    assert Paper.side(64) == 3


@pytest.mark.parametrize("size", [1, 16, 18])
def test_a_picture_too_small_for_the_papers_stem_is_refused_with_its_size(size):
    with pytest.raises(UserError, match=f"{size} px"):
        paper(1, size)


@pytest.mark.parametrize("front", ["none", "highpass", "neighbours", "median", "srm", "npr"])
@pytest.mark.parametrize("side", [16, 64])
def test_the_residual_body_reads_crops_and_whole_pictures(front, side):
    d1 = D1(3, 64, front, SLIM, "unit")
    maps, features = d1(torch.rand(2, 3, side, side) * 2 - 1)
    assert maps.shape == (2, 8, side // 4, side // 4)  # 16 x 16 places for 64 pixels
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


def test_without_a_stride_a_place_of_one_block_sees_seven_pixels():
    d1 = D1(1, 32, "none", {"kind": "residual", "widths": [4], "stride": 1}, "unit").eval()
    x = torch.zeros(1, 1, 32, 32, requires_grad=True)
    d1.maps(x)[0, :, 16, 16].sum().backward()
    seen = x.grad[0, 0].abs().gt(0).nonzero()
    assert seen.min() >= 13 and seen.max() <= 19


def test_a_widening_paper_block_keeps_its_input_in_the_middle_channels():
    block = paper(1, 64).body[2]
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(1, 6, 8, 8)
    out = block(x)
    assert out.shape == (1, 8, 4, 4)
    torch.testing.assert_close(out[:, 1:7], torch.nn.functional.avg_pool2d(x, 2))
    assert not out[:, 0].any()
    assert not out[:, 7].any()


def test_npr_has_the_published_1_44_million_parameters():
    network = Network(3, 64, "npr", {"kind": "resnet", "width": 64}, "unit", "linear")
    count = sum(one.numel() for name, one in network.named_parameters() if "d1.head" not in name)
    # Stem 1,856, layers of ResNet-50 215,808 and 1,219,584, and two logits of 512 weights.
    assert count == 1856 + 215_808 + 1_219_584 + 2 * 513
    assert network.d1.maps(torch.zeros(2, 3, 64, 64)).shape == (2, 512, 8, 8)


def test_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    one, again, other = (Network(1, 32, "highpass", SLIM, "unit", seed=s).state_dict()
                         for s in (3, 3, 4))  # fmt: skip
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["d1.body.0.weight"], other["d1.body.0.weight"])


def test_a_stem_keeps_the_full_resolution_by_itself_and_each_block_halves_it():
    body = {"kind": "residual", "widths": [6, 8], "stride": 1, "stem": 4}
    d1 = D1(3, 64, "none", body, "unit")
    x = torch.rand(2, 3, 64, 64)
    assert d1.body[0](x).shape == (2, 4, 64, 64)
    assert d1.maps(x).shape == (2, 8, 16, 16)
    # What the first block reads is not linear before a stride is taken.
    block = d1.body[1].eval()
    kept = d1.body[0](x)
    seen = block.conv1(F.silu(block.norm1(kept)))
    assert block.conv1.stride == (2, 2) and seen.shape == (2, 6, 32, 32)


@pytest.mark.parametrize("stem", [None, 4])
def test_an_options_stem_is_the_bodys(stem):
    options = DeepFD(method="deepfd", widths=(6, 8), stem=stem, crop=16, steps=1)
    d1 = Network(1, 32, **architecture(options), seed=0).d1
    assert d1.body[0].out_channels == (stem or 6)
    assert [block.stride for block in list(d1.body)[1:]] == ([2, 2] if stem else [1, 2])
