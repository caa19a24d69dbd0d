import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from deepfd.fronts import FRONTS, SCALE, SRM, enlarged, highpass, median, neighbours, srm

RESIDUALS = [name for name in FRONTS if name != "none"]


def pictures(channels=2, side=12):
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (3, channels, side, side)))


@pytest.mark.parametrize("name", list(FRONTS))
def test_every_front_keeps_the_size_and_makes_the_channels_it_says(name):
    front, factor = FRONTS[name]
    assert front(pictures()).shape == (3, 2 * factor, 12, 12)


@pytest.mark.parametrize("name", RESIDUALS)
def test_a_residual_of_an_even_picture_is_0(name):
    assert FRONTS[name][0](torch.full((1, 3, 8, 8), 0.3)).abs().max() < 1e-5


def test_highpass_is_the_picture_minus_its_binomial_blur():
    x = pictures()
    line = np.array([1, 4, 6, 4, 1]) / 16
    low = ndimage.convolve1d(x.numpy(), line, axis=2, mode="mirror")
    low = ndimage.convolve1d(low, line, axis=3, mode="mirror")
    np.testing.assert_allclose(highpass(x).numpy(), (x.numpy() - low) * SCALE, atol=1e-12)


def test_highpass_turns_with_the_picture():
    x = pictures()
    torch.testing.assert_close(highpass(x.flip(3)), highpass(x).flip(3))
    torch.testing.assert_close(highpass(x.transpose(2, 3)), highpass(x).transpose(2, 3))


def test_neighbours_are_right_and_below():
    x = pictures(1)
    found = neighbours(x) / SCALE
    torch.testing.assert_close(found[0, 0, 3, 4], x[0, 0, 3, 5] - x[0, 0, 3, 4])
    torch.testing.assert_close(found[0, 1, 3, 4], x[0, 0, 4, 4] - x[0, 0, 3, 4])
    assert not found[:, 0, :, -1].any() and not found[:, 1, -1].any()


def test_median_is_that_of_the_eight_neighbours():
    x = pictures(1)
    around = x[0, 0, 4:7, 2:5].flatten()
    others = torch.cat([around[:4], around[5:]]).sort().values
    torch.testing.assert_close(median(x)[0, 0, 5, 3] / SCALE, x[0, 0, 5, 3] - others[3])


def test_srm_answers_each_kernel_on_each_channel():
    x = pictures()
    found = srm(x).numpy() / SCALE
    for channel in range(2):
        for number, kernel in enumerate(SRM):
            by_hand = ndimage.correlate(x[1, channel].numpy(), np.array(kernel), mode="mirror")
            np.testing.assert_allclose(found[1, channel * 5 + number], by_hand, atol=1e-12)


def test_enlarged_is_two_thirds_of_the_difference_from_the_upper_left_of_each_block():
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    expected = torch.empty_like(x)
    for c, i, j in np.ndindex(2, 4, 4):
        expected[0, c, i, j] = (x[0, c, i, j] - x[0, c, i // 2 * 2, j // 2 * 2]) * 2 / 3
    torch.testing.assert_close(enlarged(x), expected)


def test_a_picture_enlarged_by_nearest_neighbour_leaves_nothing():
    x = F.interpolate(torch.randn(2, 3, 8, 8), scale_factor=2, mode="nearest")
    assert not enlarged(x).any()
