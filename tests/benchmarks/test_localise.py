import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import jaccard_score, roc_auc_score

from benchmarks import localisation, localise
from benchmarks.composites import CONTROL, FAKE_IN, REAL_IN, UNTOUCHED
from benchmarks.methods.deepfd import DeepFD
from deepfd import data, faces
from deepfd.detector import Detector, Network
from deepfd.localise import heat_maps, smoothed
from pipeline import folds
from pipeline.errors import UserError

FRAMING = (0.1, 0.2, 0.9, 1.0)


def drawn(n=6, size=16, seed=0):
    draw = np.random.default_rng(seed)
    masks = draw.random((n, size, size)) < 0.3
    return np.round(draw.normal(size=masks.shape) + masks, 1), masks


def test_the_figures_are_those_of_scikit_learn():
    maps, masks = drawn()
    found = localise.measure(maps, masks, 0.5)
    for i, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        assert found["pixel_auc"][i] == pytest.approx(roc_auc_score(mask.ravel(), one.ravel()))
        assert found["iou"][i] == pytest.approx(jaccard_score(mask.ravel(), one.ravel() >= 0.5))
        top = np.unravel_index(one.argmax(), one.shape)
        assert found["pointing"][i] == mask[top]


def test_a_perfect_map_a_blind_one_and_a_contrary_one():
    _, masks = drawn()
    best, blind, worst = (
        localise.measure(maps.astype(float), masks, 0.5)
        for maps in (masks, np.zeros(masks.shape), ~masks)
    )
    assert (best["pixel_auc"] == 1).all() and (best["iou"] == 1).all()
    assert (best["iou_of_area"] == 1).all() and (best["pointing"] == 1).all()
    assert (blind["pixel_auc"] == 0.5).all() and (blind["iou"] == 0).all()
    assert (worst["pixel_auc"] == 0).all() and (worst["pointing"] == 0).all()


def test_as_many_of_the_highest_places_as_the_mask_has():
    maps, masks = drawn()
    found = localise.highest(np.zeros_like(maps), masks)
    np.testing.assert_array_equal(found.sum((1, 2)), masks.sum((1, 2)))
    found = localise.highest(maps, masks)
    for one, marked in zip(maps, found, strict=True):
        assert one[marked].min() >= one[~marked].max()


@pytest.fixture
def profile(small_profile, tmp_path, monkeypatch):
    """Planted checkerboards in an empty folder, for which the face finder is told what to say."""
    method = {
        "method": "deepfd", "widths": [8], "crop": 16, "steps": 40, "batch": 32, "lr": 0.01,
        "seeds": [0, 1],
    }  # fmt: skip
    checked, folder = small_profile(count=80, methods={"deepfd": method})
    monkeypatch.chdir(tmp_path)
    folds.INDEX.write_text(json.dumps(folds.index(checked, folder)))
    monkeypatch.setattr(faces, "framing_of", lambda pixels: FRAMING)
    monkeypatch.setattr(faces, "available", lambda: True)
    monkeypatch.setattr(localise, "HOSTS", 6)
    return checked


@pytest.fixture
def fitted(profile):
    """Detectors with nothing and with `a` held out."""
    corpus = folds.load(profile)
    for held_out in ("none", "a"):
        fold = corpus.fold(held_out)
        for seed in (0, 1):
            path = localise.scores.model_path("deepfd", held_out, seed)
            model = DeepFD.fit(fold.train, fold.valid, profile.methods["deepfd"], seed)
            model.save(path)
            facts = {"rule": "fpr", "target": 0.05, "threshold": 0.5}
            (path / "threshold.json").write_text(json.dumps(facts))
    return profile


@pytest.mark.parametrize("channels, backbone", [(1, None), (3, None), (3, "efficientnet_lite")])
def test_what_it_measures_are_the_detectors_own_score_and_map_and_grad_cam(channels, backbone):
    body = {"kind": "residual", "widths": [8], "stride": 1}
    network = Network(channels, 32, body=body, head="paper", seed=0, backbone=backbone)
    draw = np.random.default_rng(0)
    if backbone:
        network.set_boundary(draw.normal(size=len(network.boundary()[0])) * 0.1, 0.0)
    detector = Detector(network)
    pixels = draw.integers(0, 256, (70, 32, 32, channels)).astype(np.uint8)
    (looked,) = localise.looked_by([detector], pixels)
    np.testing.assert_allclose(looked.scores, detector.score(pixels), atol=1e-5)
    np.testing.assert_allclose(smoothed(looked.evidence), heat_maps(detector, pixels), atol=1e-5)
    # Grad-CAM by its definition: maps weighted by the mean gradient of the logit, above 0.
    x = data.to_input(data.to_tensor(pixels[:3], detector.device))
    maps = network.d1.maps(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.d2(maps)[:, 1].sum(), maps)
    expected = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1)).detach()
    np.testing.assert_allclose(looked.grad_cam[:3], expected.numpy(), atol=1e-5)


def test_a_seed_that_does_not_read_the_backbone_hides_it_from_no_other(fitted, monkeypatch):
    body = {"kind": "residual", "widths": [8], "stride": 1}
    found = []
    for seed in (0, 1):
        network = Network(1, 32, body=body, seed=0, backbone="efficientnet_lite")
        weights, bias = network.boundary()
        draw = np.random.default_rng(0).normal(size=len(weights)) * 0.1
        network.set_boundary(draw * (np.arange(len(draw)) < (8 if seed == 0 else 1e9)), bias)
        found.append((seed, Detector(network), localise.Threshold(0.5)))
    assert [detector.backbone for _, detector, _ in found] == [None, "efficientnet_lite"]
    monkeypatch.setattr(localise, "load_detectors", lambda params, held_out: iter(found))
    looks, look = [], localise.look

    def looked(detector, pixels, *beside):
        looks.append((look(detector, pixels, *beside).scores, detector.score(pixels)))
        return look(detector, pixels, *beside)

    monkeypatch.setattr(localise, "look", looked)
    monkeypatch.setattr(localise, "mapped", lambda one, n, *_: [one(i) for i in range(n)])
    localise.study(fitted, ["a"])
    assert looks and not np.allclose(looks[0][0], looks[1][0])
    for scores, expected in looks:
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_planted_part_is_found_and_the_seam_alone_is_not(fitted, monkeypatch, capsys):
    table = localise.study(fitted, ["none", "a"])
    whole = table[(table["region"] == "all") & (table["seam"] == "all")]
    maps = whole.set_index(["held_out", "generator", "composite", "map"]).sort_index()
    for held_out in ("none", "a"):
        for kind in (FAKE_IN, REAL_IN):
            found = maps.loc[held_out, "a", kind]
            assert found.loc["heat_map", "pixel_auc"] > 0.8
            assert found.loc["evidence", "pixel_auc"] > found.loc["random", "pixel_auc"] + 0.1
            assert found.loc["heat_map", "iou_of_area"] > found.loc["random", "iou_of_area"]
            assert abs(found.loc["random", "pixel_auc"] - 0.5) < 0.02
        control = maps.loc[held_out, "", CONTROL]
        assert abs(control.loc["heat_map", "pixel_auc"] - 0.5) < 0.2
        assert control.loc["evidence", "called_fake"] < 0.5
        place = maps.loc[held_out, "", UNTOUCHED]
        assert abs(place.loc["heat_map", "pixel_auc"] - 0.5) < 0.2
        assert set(place["n"]) == {24}
        assert (
            maps.loc[held_out, "a", REAL_IN].loc["evidence", "called_fake"]
            > control.loc["evidence", "called_fake"]
        )
    # Seen or not, how many, and that the intervals hold the value.
    assert not maps.loc["a", "a", FAKE_IN]["seen"].any()
    assert maps.loc["none", "a", FAKE_IN]["seen"].all()
    assert set(whole[whole["composite"] != UNTOUCHED]["n"]) == {48}
    assert set(whole["pairs"]) == {6} and set(whole["seeds"]) == {2}
    for metric in ("pixel_auc", "iou_of_area", "pointing"):
        assert (table[f"{metric}_low"] <= table[metric] + 1e-9).all()
        assert (table[metric] <= table[f"{metric}_high"] + 1e-9).all()
    assert set(table["map"]) == set(localisation.MAPS)
    assert table[table["map"] == "centre"]["iou"].isna().all()

    # The stage: the same table again, bit for bit.
    monkeypatch.setattr(localise, "load_params", lambda: fitted)
    original = localise.study
    monkeypatch.setattr(localise, "study", lambda params: original(params, ["a"]))
    monkeypatch.setattr(localise, "HOSTS", 2)
    localise.main()
    first = localise.OUT.read_bytes()
    assert list(pd.read_parquet(localise.OUT).columns) == localise.SCHEMA.names
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:4] == ["seen", "composite", "map", "pixel_auc"]
    assert ["held", "out", "fake_in_photograph", "heat_map"] in [line[:4] for line in lines]
    localise.main()
    assert localise.OUT.read_bytes() == first


def test_a_missing_model_is_named(profile):
    with pytest.raises(UserError, match="models/deepfd/b/0"):
        localise.study(profile, ["b"])


def test_without_a_face_finder_it_says_what_to_install(profile, monkeypatch):
    monkeypatch.setattr(faces, "available", lambda: False)
    with pytest.raises(UserError, match="deepfd-benchmark\\[face\\]"):
        localise.study(profile)


def test_where_there_is_nothing_to_measure_the_table_is_empty(
    profile, small_profile, monkeypatch, capsys
):
    monkeypatch.setattr(faces, "framing_of", lambda pixels: None)
    assert list(localise.study(profile).columns) == localise.SCHEMA.names
    assert "no face was found in 20 test photographs" in capsys.readouterr().err
    checked, _ = small_profile()
    assert not len(localise.study(checked))
    assert "no method 'deepfd'" in capsys.readouterr().err
    monkeypatch.setattr(localise, "load_params", lambda: checked)
    localise.main()
    assert len(pd.read_parquet(localise.OUT)) == 0
