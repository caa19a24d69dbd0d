import io

import numpy as np
import pytest
from PIL import Image

from deepfd import treatment
from deepfd.options import Treatment
from deepfd.treatment import FAKES, PHOTOGRAPHS, treated, varied
from pipeline.images import Jpeg, finished


def energy(pixels):
    """Mean square of differences between neighbours, per picture."""
    return (np.diff(pixels.astype(float), axis=2) ** 2).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_copies_keep_their_shape_and_differ_from_the_picture_and_from_each_other(planted, channels):
    fold = planted(40, channels=channels)
    before = fold.pixels.copy()
    one, other = (treated(fold, Treatment(), copy) for copy in (0, 1))
    assert one.shape == other.shape == fold.pixels.shape and one.dtype == np.uint8
    assert np.array_equal(fold.pixels, before)
    changed = (one != fold.pixels).any(axis=(1, 2, 3)).mean()
    assert 0.5 < changed < 1  # some meet nothing
    assert (one != other).any(axis=(1, 2, 3)).mean() > 0.5


def test_a_copy_depends_on_id_and_number_alone_whatever_the_neighbours(planted):
    fold = planted(30)
    whole = treated(fold, Treatment(), 0)
    treatment._made.clear()
    some = np.array([3, 17, 5])
    assert np.array_equal(treated(fold.subset(some), Treatment(), 0), whole[some])


def test_what_was_made_is_not_made_again(planted, monkeypatch):
    fold = planted(30)
    first = treated(fold, Treatment(), 0)
    monkeypatch.setattr(treatment, "plan", pytest.fail)
    assert np.array_equal(treated(fold.subset(np.arange(9)), Treatment(), 0), first[:9])


def test_the_draw_knows_nothing_of_the_class(planted):
    fold = planted(400, strength=0)  # both classes are the same noise
    copies = treated(fold, Treatment(soft=0.5, soft_photographs=None), 0)
    found = energy(copies) / energy(fold.pixels)
    real, fake = found[fold.labels == 0], found[fold.labels == 1]
    error = np.hypot(real.std(), fake.std()) / np.sqrt(200)
    assert abs(real.mean() - fake.mean()) < 4 * error


def test_photographs_alone_are_made_soft_where_that_is_asked_for(planted):
    fold = planted(200, strength=0)
    options = Treatment(soft=0.0, soft_photographs=1.0)
    found = energy(treated(fold, options, 0)) / energy(fold.pixels)
    assert np.median(found[fold.labels == 0]) < 0.5 < np.median(found[fold.labels == 1])


def plans(options, photograph):
    """Four hundred plans: each step with what it is told."""
    seeds = range(400)
    drawn = (treatment.plan(options, np.random.default_rng(seed), photograph) for seed in seeds)
    return [[repr(step) for step in one] for one in drawn]


def test_parts_of_photographs_alone_are_enlarged_and_half_of_them_meet_nothing_else(planted):
    options = Treatment(soft=1.0, soft_photographs=1.0, jpeg=0.0, zoom=1.0)
    found = plans(options, photograph=True)
    assert all("zoomed" in one[0] for one in found)
    assert 0.43 < np.mean([len(one) == 1 for one in found]) < 0.57
    assert not any("zoomed" in str(one) for one in plans(options, photograph=False))

    fold = planted(200, strength=0)
    options = Treatment(soft=0.0, soft_photographs=0.0, jpeg=0.0, zoom=1.0)
    found = energy(treated(fold, options, 0)) / energy(fold.pixels)
    assert np.median(found[fold.labels == 0]) < 0.8 < np.median(found[fold.labels == 1])


def test_where_no_part_is_enlarged_nothing_is_drawn_for_it():
    """Copies of runs made before there was `zoom` are the same ones."""
    options = Treatment(soft=0.6, soft_photographs=None)
    assert plans(options, photograph=True) == plans(options, photograph=False)


def test_every_copy_ends_as_the_profile_says(planted):
    fold, finish = planted(20, channels=3), Jpeg(60)
    options = Treatment(soft=0.0, jpeg=0.0)
    bare = treated(fold, options, 0)
    expected = np.stack([finished(one, finish) for one in bare])
    assert np.array_equal(treated(fold, options, 0, finish), expected)
    buffer = io.BytesIO()
    Image.fromarray(bare[0]).save(buffer, "JPEG", quality=60, subsampling="4:2:0")
    assert np.array_equal(np.asarray(Image.open(buffer)), expected[0])


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_varied_keeps_its_shape_and_depends_on_no_other(planted, channels):
    fold = planted(30, channels=channels)
    before = fold.pixels.copy()
    whole = varied(fold, Jpeg(90))
    assert whole.shape == fold.pixels.shape and whole.dtype == np.uint8
    assert np.array_equal(fold.pixels, before)
    assert (whole != fold.pixels).any(axis=(1, 2, 3)).all()
    some = np.array([3, 17, 5])
    assert np.array_equal(varied(fold.subset(some), Jpeg(90)), whole[some])
    assert varied(fold.subset(some[:0])).shape == (0, *fold.pixels.shape[1:])


def test_photographs_are_varied_further_than_fakes(planted):
    for photograph, fake in zip(
        (PHOTOGRAPHS.turn, PHOTOGRAPHS.scale[1], PHOTOGRAPHS.stretch, PHOTOGRAPHS.hue),
        (FAKES.turn, FAKES.scale[1], FAKES.stretch, FAKES.hue),
        strict=True,
    ):
        assert photograph > fake
    fold = planted(300, strength=0)  # both classes are the same noise
    found = energy(varied(fold)) / energy(fold.pixels)
    # Enlarged further, noise is softer.
    assert np.median(found[fold.labels == 0]) < 0.7 * np.median(found[fold.labels == 1])


def test_light_varies_in_both_classes_alike(planted):
    fold = planted(400, strength=0)
    means = varied(fold).mean(axis=(1, 2, 3))
    real, fake = means[fold.labels == 0], means[fold.labels == 1]
    assert min(real.std(), fake.std()) > 15
    assert abs(real.mean() - fake.mean()) < 4 * np.hypot(real.std(), fake.std()) / np.sqrt(200)
