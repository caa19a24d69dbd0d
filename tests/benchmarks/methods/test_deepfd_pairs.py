from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.methods.deepfd_pairs import (
    DEPTHS,
    UPSAMPLERS,
    AutoEncoder,
    DeepFDPairs,
    Pairs,
    TraceNetwork,
    gamma,
    reconstructions,
    sharpened,
    treat,
    treatment,
)
from benchmarks.perturb import blurred, coded, noisy, resized
from deepfd.detector import initialised
from pipeline.folds import Images
from pipeline.params import DeepFDPairs as Options

OPTIONS = Options(
    method="deepfd_pairs", width=8, classifier_steps=3, batch=8, lr=0.002, encoder_steps=3
)


@pytest.fixture
def smooth():
    """Photographs that an auto-encoder learns in a few steps: uint8 (24, 16, 16, 1)."""
    draw = np.random.default_rng(0)
    rows = np.linspace(0, 1, 16)[None, :, None] * draw.uniform(50, 150, (24, 1, 1))
    return (rows + np.zeros((24, 16, 16)) + draw.uniform(0, 100, (24, 1, 1))).astype(np.uint8)[
        ..., None
    ]


@pytest.fixture
def fold(smooth):
    """24 photographs and 24 fakes of one grey level each, by which they can be told."""
    fakes = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None], smooth.shape).copy()
    return Images(
        np.concatenate([smooth, fakes]),
        np.repeat([0, 1], 24).astype(np.int8),
        np.repeat(["real", "a"], 24),
        np.array([f"{i:03}" for i in range(48)]),
    )


@pytest.mark.parametrize("way", UPSAMPLERS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_auto_encoder_gives_back_the_shape(way, depth):
    x = torch.zeros(2, 3, 64, 64)
    assert AutoEncoder(3, way, depth)(x).shape == x.shape


def test_reconstructions_resemble_their_photographs_and_differ_from_each_other(smooth):
    rebuilt = reconstructions(smooth, steps=60, seed=0)
    assert rebuilt.shape == (8, *smooth.shape) and rebuilt.dtype == np.uint8
    error = np.abs(rebuilt.astype(float) - smooth).mean((1, 2, 3, 4))
    apart = np.abs(smooth[1:].astype(float) - smooth[:-1]).mean()
    assert (error < apart / 2).all()
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(rebuilt))


def test_reconstructions_are_a_function_of_the_seed(smooth):
    one, again, other = (reconstructions(smooth, steps=2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_a_third_of_the_pictures_stay_as_they_are():
    draw = np.random.default_rng(0)
    plans = [treatment(draw) for _ in range(2000)]
    # And those whom no change met: 1/3 + 2/3 * 0.6 ** 6.
    assert np.mean([not plan for plan in plans]) == pytest.approx(1 / 3 + 2 / 3 * 0.6**6, abs=0.04)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "change",
    [
        partial(gamma, power=1.3),
        partial(resized, factor=0.7),
        partial(blurred, sigma=0.8),
        partial(sharpened, percent=90),
        partial(noisy, sigma=4.0),
        partial(coded, kind="JPEG", quality=60, subsampling=0),
    ],
    ids=lambda change: change.func.__name__,
)
def test_a_change_changes_the_picture_a_little_and_always_alike(change, channels):
    draw = np.random.default_rng(0)
    coarse = draw.integers(40, 210, (8, 8, channels), dtype=np.uint8)
    pixels = coarse.repeat(4, axis=0).repeat(4, axis=1)
    treated = treat(pixels, [change], seed=3)
    assert treated.shape == pixels.shape and treated.dtype == np.uint8
    assert not np.array_equal(treated, pixels)
    assert np.corrcoef(treated.ravel(), pixels.ravel())[0, 1] > 0.8
    assert np.array_equal(treat(pixels, [change], seed=3), treated)


def test_no_change_leaves_the_pixels(smooth):
    assert np.array_equal(treat(smooth[0], [], seed=0), smooth[0])


def test_a_batch_is_photographs_their_reconstructions_and_fakes_treated_in_pairs(fold, monkeypatch):
    plain = "benchmarks.methods.deepfd_pairs.treatment"
    monkeypatch.setattr(plain, lambda draw: [])
    goal = Pairs(fold, OPTIONS, seed=0, device=torch.device("cpu"))
    x, labels = next(goal.batches)
    grey = ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert labels.tolist() == [0] * 4 + [1] * 4
    photographs, rebuilt, fakes = grey[:4], grey[4:6], grey[6:]

    def known(pictures, among):
        return [
            any(np.array_equal(p, q) or np.array_equal(p[:, ::-1], q) for q in among)
            for p in pictures
        ]

    assert all(known(photographs, fold.pixels[:24])) and all(known(fakes, fold.pixels[24:]))
    assert all(known(rebuilt, goal.rebuilt.reshape(-1, 16, 16, 1)))
    # Each is of the photograph at its own place.
    places = [
        [place for place in range(24) if known([one], [fold.pixels[place]])[0]]
        for one in photographs
    ]
    for one, place in zip(rebuilt, places, strict=False):
        assert any(known([one], goal.rebuilt[:, p])[0] for p in place)


def test_a_pair_is_treated_alike(fold, monkeypatch):
    module = "benchmarks.methods.deepfd_pairs.treat"
    seen = []
    monkeypatch.setattr(module, lambda pixels, *plan: (seen.append(plan), pixels)[1])
    next(Pairs(fold, OPTIONS, seed=0, device=torch.device("cpu")).batches)
    assert len(seen) == 8 and seen[:4] == seen[4:]


def test_maps_are_a_quarter_of_the_picture_and_grey_reads_y(planted, tmp_path):
    network = initialised(3, 64, 8, 0, TraceNetwork).eval()
    assert network.d1.maps(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 16, 16)
    model = DeepFDPairs.fit(planted(40), planted(20, seed=1), OPTIONS, seed=0)
    assert model.network.config["components"] == ["Y"]
    model.save(tmp_path)
    test = planted(10, seed=2).pixels
    np.testing.assert_array_equal(DeepFDPairs.load(tmp_path).score(test), model.score(test))
