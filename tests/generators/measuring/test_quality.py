import numpy as np
import pytest

from generators.measuring import quality


@pytest.fixture
def photographs():
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (60, 16, 16)), random.uniform(0, 255, (40, 16, 16))


def test_unlike_fakes_are_no_copies_and_diverse(photographs):
    training, unseen = photographs
    fakes = np.random.default_rng(1).uniform(0, 255, (50, 16, 16))
    figures = quality.assess(fakes, training, unseen)
    assert figures["nearest_ratio"] == pytest.approx(1, abs=0.05)
    assert figures["diversity_ratio"] == pytest.approx(1, abs=0.05)
    assert figures["copies"] <= 0.1
    assert figures["duplicates"] <= 0.1


def test_copies_of_mirrored_training_photographs_are_seen(photographs):
    training, unseen = photographs
    figures = quality.assess(training[:30, :, ::-1] + 1.0, training, unseen)
    assert figures["copies"] == 1.0
    assert figures["nearest_ratio"] < 0.1


def test_a_collapsed_generator_is_seen(photographs):
    training, unseen = photographs
    one = np.random.default_rng(2).uniform(0, 255, (1, 16, 16))
    figures = quality.assess(np.repeat(one, 30, 0), training, unseen)
    assert figures["duplicates"] == 1.0
    assert figures["diversity_ratio"] < 0.1


def test_a_contact_sheet_keeps_the_order_of_images():
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    sheet = quality.contact_sheet(pixels, columns=3)
    assert sheet.shape == (4, 9, 1)
    assert sheet[::2, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_incomplete_row_of_a_contact_sheet_is_white():
    sheet = quality.contact_sheet(np.zeros((4, 2, 3, 1), np.uint8), columns=3)
    assert sheet.shape == (4, 9, 1)
    assert sheet[2:, :, 0].tolist() == [[0] * 3 + [255] * 6] * 2
