"""The residual block: its shortcut is a strided 1x1 convolution, made in two steps."""

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
