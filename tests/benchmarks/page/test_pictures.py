"""Contact sheets and mistakes are the images they say they are."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.page import pictures
from pipeline import images, manifest
from pipeline.errors import UserError


def rows(**columns):
    same = {"method": "m", "held_out": "a", "generator": "real:o", "label": 0, "threshold": 0.5}
    same["seen"] = True
    return pd.DataFrame(columns).assign(**{k: v for k, v in same.items() if k not in columns})


def decoded(uri):
    assert uri.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"))


def test_contact_sheets_show_the_fakes_in_order_and_refuse_photographs(small_profile):
    _, folder = small_profile(count=20)
    sheet = pictures.contact_sheet("a", folder)
    assert sheet.shape == (3 * 32, 8 * 32, 1)
    fakes = manifest.pixels(manifest.read(folder / "a"))
    assert np.array_equal(sheet[:32, :32], fakes[0])
    assert np.array_equal(sheet[32:64, 32:64], fakes[9])
    assert (sheet[64:, 4 * 32 :] == 255).all()
    with pytest.raises(UserError, match="not fakes of real_orl"):
        pictures.contact_sheet("real_orl", folder)


def test_mistakes_are_the_surest_wrong_ones_worst_first():
    scores = rows(
        image_id=["f1", "f2", "f3", "r1", "r2", "o1"],
        generator=["a", "a", "a", "real:o", "real:o", "real:x"],
        label=[1, 1, 1, 0, 0, 0],
        seen=[False, False, False, True, True, False],
        score=[0.3, 0.1, 0.9, 0.8, 0.2, 0.7],
    )
    found = pictures.mistakes(scores)
    kinds = {kind: list(part["image_id"]) for kind, part in found.groupby("kind")}
    expected = {pictures.MISSED: ["f2", "f1"], pictures.ACCUSED: ["r1"], pictures.FOREIGN: ["o1"]}
    assert kinds == expected


def test_a_mistake_is_one_by_the_mean_over_seeds_and_a_photograph_is_shown_once():
    scores = rows(
        image_id=["r1"] * 4 + ["r2"] * 2,
        held_out=["a", "a", "b", "b", "a", "a"],
        seed=[0, 1, 0, 1, 0, 1],
        score=[0.9, 0.6, 0.95, 0.9, 0.6, 0.1],
        threshold=[0.5, 0.5, 0.5, 0.5, 0.7, 0.05],
    )
    found = pictures.mistakes(scores).set_index("image_id")
    assert found.loc["r1", "held_out"] == "b" and found.loc["r1", "score"] == pytest.approx(0.925)
    assert list(found.index) == ["r1", "r2"]  # r2: called fake by one seed of two
    many = rows(image_id=[f"r{i}" for i in range(30)], score=[0.9] * 30)
    assert len(pictures.mistakes(many)) == pictures.MISTAKES


def test_pictures_are_those_of_the_ids_and_an_unknown_id_is_an_error(small_profile):
    params, folder = small_profile(count=20)
    ids = ["a-00000007", "real_orl-00000003"]
    wanted = pd.DataFrame({"generator": ["a", "real:orl"], "image_id": ids})
    found = pictures.read_pictures(wanted, params, folder)
    for image_id, name in zip(ids, ("a", "real_orl"), strict=True):
        frame = manifest.read(folder / name).set_index("image_id")
        pixels = images.decode_png(frame.loc[image_id, "image"]["bytes"])[..., 0]
        # Lossy: near it, and much nearer than any other.
        assert np.abs(decoded(found[image_id]).astype(int) - pixels).mean() < 8
    with pytest.raises(UserError, match=r"lacks 1 images that were scored \(such as a-99"):
        pictures.read_pictures(wanted.assign(image_id=["a-99", ids[1]]), params, folder)


def test_large_pictures_are_shown_small():
    assert pictures.small(np.zeros((256, 256, 3), np.uint8)).shape == (96, 96, 3)
    assert pictures.small(np.zeros((64, 64, 1), np.uint8)).shape == (64, 64, 1)
