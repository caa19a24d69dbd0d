from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from benchmarks import colour_study
from benchmarks.components import COMPONENTS


def test_histogram_counts_every_interior_residual_once():
    plane = np.array([[[0, 0, 0], [0, 10, 255], [0, 7, 0]]], np.uint8)
    found = colour_study.residual_histogram(plane)
    # The one interior pixel, 10: right 255, left 0, down 7, up 0.
    expected = np.zeros(511)
    for neighbour in (255, 0, 7, 0):
        expected[neighbour - 10 + 255] += 0.25
    np.testing.assert_allclose(found, expected)


def test_chi_square_is_0_for_equal_and_1_for_disjoint_histograms():
    p, q = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.25, 0.75])
    assert colour_study.chi_square(p, p) == 0
    assert colour_study.chi_square(p, q) == pytest.approx(1)
    assert colour_study.chi_square(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(
        0.5 * (0.25**2 / 0.75 + 0.25**2 / 1.25)
    )


@pytest.fixture
def colour(small_profile):
    return small_profile(channels=3)


def test_every_component_of_every_generator_has_its_row(colour):
    params, folder = colour
    table = pd.DataFrame(colour_study.study(params, folder))
    assert len(table) == len(colour_study.VIEWS) * len(params.generators) * len(COMPONENTS)
    assert not table[["component", "generator", "perturbation"]].duplicated().any()
    assert table["auc"].between(0, 1).all() and table["chi_square"].between(0, 1).all()
    assert (table[["n_real", "n_fake"]] == 40).all().all()
    assert (table[["n_real_test", "n_fake_test"]] == 10).all().all()


def test_the_component_that_differs_is_found(colour):
    """The planted fakes carry a checkerboard in R, G and B alike: in luma, not in chroma."""
    params, folder = colour
    table = pd.DataFrame(colour_study.study(params, folder))
    clean = (
        table[table["perturbation"] == "none"].groupby("component")[["chi_square", "auc"]].mean()
    )
    assert clean.loc["Y", "auc"] > 0.95
    assert clean.loc["Y", "chi_square"] > 3 * clean.loc["Cb", "chi_square"]


def run_stage(tmp_path, monkeypatch, params):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    values = params.model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    colour_study.main()
    return pq.read_table(colour_study.TABLE)


def test_the_stage_writes_table_and_figure_the_same_twice(colour, tmp_path, monkeypatch):
    table = run_stage(tmp_path, monkeypatch, colour[0])
    assert table.schema.equals(colour_study.SCHEMA) and len(table) == 54
    written = colour_study.FIGURE.read_bytes()
    assert min(Image.open(colour_study.FIGURE).size) > 300
    colour_study.main()
    assert colour_study.FIGURE.read_bytes() == written


def test_grey_faces_give_an_empty_table_and_a_figure_that_says_so(
    small_profile, tmp_path, monkeypatch, capsys
):
    table = run_stage(tmp_path, monkeypatch, small_profile()[0])
    assert table.schema.equals(colour_study.SCHEMA) and len(table) == 0
    assert "needs colour; the faces of this profile are grey" in capsys.readouterr().err
    assert np.asarray(Image.open(colour_study.FIGURE).convert("L")).min() < 50  # text on it
    texts = [text.get_text() for text in colour_study.draw(table.to_pandas()).texts]
    assert texts == [colour_study.NEEDS_COLOUR]
