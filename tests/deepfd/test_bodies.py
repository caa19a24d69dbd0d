"""The residual block: its shortcut in two steps, and its second batch norm in a convolution."""

import pytest
import torch
from torch.nn import functional as F

from deepfd.bodies import ResidualBlock


def test_the_shortcut_is_a_strided_convolution():
    block = ResidualBlock(4, 8, stride=2).eval()
    x = torch.randn(2, 4, 16, 16).to(memory_format=torch.channels_last)
    inner = block.conv2(F.silu(block.norm2(block.conv1(F.silu(block.norm1(x))))))
    strided = F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    torch.testing.assert_close(block(x), inner + strided)


def test_a_block_of_one_shape_adds_the_picture_itself():
    block = ResidualBlock(4, 4, stride=1).eval()
    x = torch.randn(2, 4, 8, 8)
    inner = block.conv2(F.silu(block.norm2(block.conv1(F.silu(block.norm1(x))))))
    torch.testing.assert_close(block(x), inner + x)


@pytest.mark.parametrize("stride", [1, 2])
def test_evaluating_normalises_by_what_training_has_seen(stride):
    block = ResidualBlock(4, 8, stride)
    torch.nn.init.normal_(block.norm2.weight)
    torch.nn.init.normal_(block.norm2.bias)
    x = 3 + 2 * torch.randn(8, 4, 16, 16)
    for _ in range(20):
        block(x)
    seen = {name: value.clone() for name, value in block.state_dict().items()}
    assert seen["norm2.running_mean"].any()
    block.eval()
    inner = F.silu(block.norm2(block.conv1(F.silu(block.norm1(x)))))
    expected = block.shortcut(x[:, :, ::stride, ::stride]) + block.conv2(inner)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), expected)
    # Weights are what they were, and learn where that is asked for.
    assert all(torch.equal(value, seen[name]) for name, value in block.state_dict().items())
    block(x).sum().backward()
    assert all(weight.grad is not None for weight in block.parameters())
