"""What is recorded of how a photograph came."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import container


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (80, 120), **how: Any) -> bytes:
    draw = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(draw).convert(mode).save(buffer, kind, **how)
    return buffer.getvalue()


def described(data: bytes, crop: Any = "center", size: int = 64) -> dict[str, Any]:
    return container.describe(data, Image.open(io.BytesIO(data)).size, crop, size)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 90, 95, 100])
def test_the_quality_that_libjpeg_was_given_is_read_from_its_tables(quality: int) -> None:
    assert described(encoded("JPEG", quality=quality))["quality"] == quality


@pytest.mark.parametrize(
    ("name", "expected"), [("4:4:4", "444"), ("4:2:2", "422"), ("4:2:0", "420")]
)
def test_the_subsampling_of_chroma_is_recorded(name: str, expected: str) -> None:
    found = described(encoded("JPEG", subsampling=name))
    assert (found["format"], found["subsampling"]) == ("JPEG", expected)


def test_other_tables_have_another_digest_and_the_nearest_quality() -> None:
    tables = [[min(255, value + 1) for value in range(8, 72)]] * 2
    own = described(encoded("JPEG", qtables=tables))
    known = described(encoded("JPEG", quality=75))
    assert own["tables"] != known["tables"] and len(own["tables"]) == 12
    assert 1 <= own["quality"] <= 100
    assert known["tables"] == described(encoded("JPEG", quality=75, size=(40, 40)))["tables"]


def test_grey_has_no_subsampling_and_what_is_no_jpeg_has_no_tables() -> None:
    assert described(encoded("JPEG", mode="L"))["subsampling"] is None
    found = described(encoded("PNG"))
    assert found["format"] == "PNG"
    assert found["quality"] is found["tables"] is found["subsampling"] is None


def test_the_reduction_is_that_of_the_crop_of_the_upright_picture() -> None:
    data = encoded("JPEG")  # 80 x 120
    assert described(data)["reduction"] == 80 / 64
    assert described(data, "center", 160)["reduction"] == 0.5
    assert described(data, (0, 0, 0.5, 1))["reduction"] == 40 / 64
    turned = container.describe(data, (120, 80), (0, 0, 0.5, 1), 64)
    assert (turned["width"], turned["height"], turned["reduction"]) == (120, 80, 60 / 64)
