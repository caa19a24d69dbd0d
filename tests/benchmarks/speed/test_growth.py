"""How things grow, measured on little by the real steps."""

import numpy as np
import pytest

from benchmarks.speed import growth
from benchmarks.speed.growth import Size
from pipeline import folds


def test_a_size_has_the_generators_collections_and_images_it_says(tmp_path):
    size = Size(images=12, generators=3, collections=2)
    params = growth.params_of(size)
    growth.write(params, size, tmp_path)
    corpus = folds.load(params, tmp_path)
    names, counts = np.unique(corpus.images.generators, return_counts=True)
    assert names.tolist() == ["g0", "g1", "g2", "real:c0", "real:c1"] and set(counts) == {12}
    assert corpus.images.pixels.shape[1:] == (64, 64, 3)


@pytest.mark.parametrize("step", ["load", "fit", "matrix", "history"])
def test_every_step_runs(step, tmp_path):
    size = Size(images=40, generators=2, rounds=3)
    growth.write(growth.params_of(size), size, tmp_path)
    assert growth.work(step, size, tmp_path) > 0


def test_memory_is_that_of_the_step_and_not_of_its_parent(tmp_path):
    ballast = np.ones(1_000_000_000, np.uint8)  # getrusage of a child would begin there
    seconds, megabytes = growth.apart("write", Size(images=8, generators=2), tmp_path)
    assert seconds > 0 and 20 < megabytes < ballast.nbytes / 1e6 < growth.peak()


def test_a_line_is_found_with_its_fit():
    slope, intercept, fit = growth.line([1, 2, 3, 4], [2.0, 4.0, 6.0, 9.0])
    assert slope == pytest.approx(2.3) and intercept == pytest.approx(-0.5) and 0.98 < fit < 1


def test_every_quantity_is_measured_by_steps_that_there_are():
    assert growth.SERIES.keys() == growth.QUICK.keys() == growth.MOVES.keys()
    assert {step for steps in growth.MOVES.values() for step in steps} == set(growth.STEPS)
