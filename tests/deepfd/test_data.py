import itertools
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
    batches = data.balanced_batches(fold, 12, seed=0)
    for positions in itertools.islice(batches, 30):
        counts = Counter(fold.generators[positions].tolist())
        assert counts["real"] == 6
        assert counts["big"] == counts["small"] == counts["mid"] == 2


def test_every_image_of_a_class_is_seen_before_one_is_seen_again():
    fold = images(8, a=8)
    seen = torch.cat(list(itertools.islice(data.balanced_batches(fold, 8, seed=0), 2))).tolist()
    assert sorted(seen) == list(range(16))


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    fold = images(20, a=20, b=20)
    one, again, other = (
        torch.stack(list(itertools.islice(data.balanced_batches(fold, 8, seed), 5)))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_pairs_are_a_quarter_real_real_a_quarter_fake_fake_and_half_mixed():
    fold = images(9, a=5, b=30)
    kinds = Counter()
    across = 0
    for first, second, same in itertools.islice(data.pair_batches(fold, 16, seed=0), 40):
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
        next(data.balanced_batches(fold, 4, seed=0))


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
    next(data.balanced_batches(fold, 4, seed=0))
    next(data.pair_batches(fold, 4, seed=0))
    data.augment(torch.zeros(2, 1, 4, 4), data.generator(0))
    assert torch.equal(state, torch.get_rng_state())
