from collections import Counter

import numpy as np
import pytest
import torch

from deepfd import data
from pipeline.errors import UserError
from pipeline.folds import Images
from pipeline.images import to_unit


def images(reals=7, **fakes):
    generators = ["real"] * reals + [name for name, n in fakes.items() for _ in range(n)]
    count = len(generators)
    return Images(
        np.zeros((count, 4, 4, 1), np.uint8),
        np.array([name != "real" for name in generators], np.int8),
        np.array(generators),
        np.array([str(i) for i in range(count)]),
    )


def test_batches_are_half_real_and_mix_generators_evenly_whatever_their_sizes():
    fold = images(7, big=50, small=3, mid=9)
    for positions in data.balanced(fold, 30, 12, seed=0):
        counts = Counter(fold.generators[positions].tolist())
        assert counts["real"] == 6
        assert counts["big"] == counts["small"] == counts["mid"] == 2


def test_collections_of_photographs_are_mixed_evenly_too():
    fold = images(7, a_long_name=5)
    fold.generators[:2] = "real:few"
    counts = Counter(fold.generators[data.balanced(fold, 20, 8, seed=0)].ravel().tolist())
    assert counts == {"real:few": 40, "real": 40, "a_long_name": 80}


def test_every_image_of_a_class_is_seen_before_one_is_seen_again():
    fold = images(8, a=8)
    assert sorted(data.balanced(fold, 2, 8, seed=0).flatten().tolist()) == list(range(16))


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    fold = images(20, a=20, b=20)
    one, again, other = (data.balanced(fold, 5, 8, seed) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_pairs_are_a_quarter_real_real_a_quarter_fake_fake_and_half_mixed():
    fold = images(9, a=5, b=30)
    kinds = Counter()
    across = 0
    for first, second, same in data.pair_batches(fold, 40, 16, seed=0):
        assert (first != second).all()
        one, other = fold.labels[first], fold.labels[second]
        assert ((one == other) == same.numpy()).all()
        kinds.update((one + other).tolist())
        fakes = (one + other) == 2
        across += (fold.generators[first] != fold.generators[second])[fakes].sum()
    assert kinds == {0: 160, 1: 320, 2: 160}
    assert 0 < across < 160  # fake-fake pairs join any generators


@pytest.mark.parametrize("fold", [images(5), images(0, a=4)])
def test_training_on_one_class_is_refused(fold):
    with pytest.raises(UserError, match="expected some of both"):
        data.balanced(fold, 1, 4, seed=0)


def test_inputs_are_scaled_as_everywhere_and_lie_channels_last():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3)).astype(np.uint8)
    tensor = data.to_tensor(pixels, torch.device("cpu"))
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(data.to_input(tensor).numpy(), to_unit(pixels), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_flips_some_and_jitters_a_little(channels):
    ramp = torch.linspace(-0.7, 0.7, 8).expand(64, channels, 8, 8)
    out = data.augment(ramp, data.generator(0))
    assert out.shape == ramp.shape
    flipped = out[:, 0, 0, 0] > out[:, 0, 0, -1]
    assert 16 < flipped.sum() < 48
    back = torch.where(flipped[:, None, None, None], out.flip(3), out)
    error = (back - ramp).abs()
    assert 0 < error.max() < 0.25
    assert len(error.flatten(1).sum(1).unique()) > 32  # each image has its own draw
    assert torch.equal(out, data.augment(ramp, data.generator(0)))


def test_no_draw_touches_the_global_random_state():
    state = torch.get_rng_state()
    fold = images(4, a=4)
    data.balanced(fold, 1, 4, seed=0)
    next(data.pair_batches(fold, 1, 4, seed=0))
    data.Crops.drawn(2, 4, 8, 4, seed=0)
    data.augment(torch.zeros(2, 1, 4, 4), data.generator(0))
    assert torch.equal(state, torch.get_rng_state())


def test_a_crop_is_a_turned_piece_of_its_picture():
    pixels = torch.arange(2 * 3 * 10 * 10).reshape(2, 3, 10, 10)
    crops = data.Crops.drawn(5, 40, 10, 4, seed=0)
    for step in range(5):
        index = torch.arange(40) % 2
        found = crops.cut(pixels, index, step)
        assert found.shape == (40, 3, 4, 4)
        for one, i, top, left, symmetry in zip(
            found, index, crops.top[step], crops.left[step], crops.symmetry[step], strict=True
        ):
            piece = pixels[i, :, top : top + 4, left : left + 4]
            if symmetry & 1:
                piece = piece.flip(1)
            if symmetry & 2:
                piece = piece.flip(2)
            if symmetry & 4:
                piece = piece.transpose(1, 2)
            assert torch.equal(one, piece)
    assert len(crops.symmetry.unique()) == 8
    assert crops.top.unique().tolist() == list(range(7))


def test_a_crop_of_the_pictures_size_is_the_picture_turned():
    pixels = torch.arange(64).reshape(1, 1, 8, 8)
    crops = data.Crops.drawn(1, 30, 8, 64, seed=0)
    found = crops.cut(pixels, torch.zeros(30, dtype=torch.int64), 0)
    assert found.shape == (30, 1, 8, 8)
    assert (found.flatten(1).sort(1).values == torch.arange(64)).all()
