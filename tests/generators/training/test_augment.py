import pytest
import torch

from generators.training.augment import diff_augment


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [4, 64])
def test_keeps_the_shape_and_lets_gradients_through(channels, size):
    images = torch.rand(6, channels, size, size, requires_grad=True)
    out = diff_augment(images, torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    out.sum().backward()
    assert images.grad.abs().sum() > 0


def test_same_draws_for_the_same_seed_and_another_for_each_image():
    images = torch.rand(1, 1, 32, 32).expand(8, 1, 32, 32)
    first = diff_augment(images, torch.Generator().manual_seed(3))
    again = diff_augment(images, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_translation_stays_within_an_eighth():
    images = torch.zeros(64, 1, 32, 32)
    images[:, :, 16, 16] = 100.0
    out = diff_augment(images, torch.Generator().manual_seed(0))
    peaks = out.flatten(1).argmax(1)[out.flatten(1).amax(1) > 20]  # the others were cut out
    assert len(peaks) > 20
    assert ((peaks // 32 - 16).abs() <= 4).all()
    assert ((peaks % 32 - 16).abs() <= 4).all()
    assert len(peaks.unique()) > 10


def test_a_policy_leaves_out_what_it_does_not_name():
    images = torch.rand(4, 1, 16, 16)
    random = torch.Generator().manual_seed(0)
    assert torch.equal(diff_augment(images, random, policy=()), images)
    # Without colour every value is one of the image's, or the grey of a border or a cut-out.
    moved = diff_augment(images, random, policy=("translation", "cutout"))
    assert all(torch.isin(b[b != 0], a).all() for a, b in zip(images, moved, strict=True))
    assert not torch.equal(moved, images)
