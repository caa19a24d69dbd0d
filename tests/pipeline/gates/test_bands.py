"""Energy by band and blocks by period: known pictures, and faults planted in real photographs."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from pipeline import images, manifest
from pipeline.gates import bands, leaks, traces
from pipeline.gates.gate import SOFT
from pipeline.gates.options import Audit
from pipeline.sources import orl

SIZE = 64
WIDTH = 92  # of an ORL photograph; its centred square is reduced to SIZE
REDUCTION = WIDTH / SIZE


def wave(right: float, down: float, amplitude: float = 20) -> np.ndarray:
    """A plane wave of so many cycles per pixel, float (64, 64)."""
    y, x = np.indices((SIZE, SIZE))
    return 128 + amplitude * np.cos(2 * np.pi * (right * x + down * y))


@pytest.mark.parametrize(
    ("right", "down", "band"),
    [
        (0.22, 0, "0.19-0.25 across"),
        (0, 0.22, "0.19-0.25 along"),
        (0.16, 0.16, "0.19-0.25 diagonal"),
        (0.45, 0.45, "0.50-0.71 diagonal"),
        (0.09, 0, "0.06-0.12 across"),
    ],
)
def test_a_wave_has_its_energy_in_its_band_whatever_its_contrast(right, down, band):
    for amplitude in (5, 50):
        found = bands.bands({"Y": wave(right, down, amplitude)})
        shares = {name: np.exp(value) for name, value in found.items() if "energy" not in name}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
        assert shares[f"bands: Y {band}"] > 0.95


def test_chroma_is_seen_by_itself_and_grey_has_none():
    colour = np.repeat(wave(0.05, 0)[..., None], 3, axis=2)
    assert bands.planes_of(colour)["Cb"] == pytest.approx(0, abs=1e-9)
    colour[..., 2] += wave(0.4, 0) - 128  # blue
    found = bands.bands(bands.planes_of(colour))
    assert np.exp(found["bands: Cb 0.38-0.44 across"]) > 0.95
    assert set(bands.planes_of(colour[..., :1])) == {"Y"}


def test_blocks_show_at_their_own_period_and_at_no_other():
    draw = np.random.default_rng(0)
    x = np.arange(SIZE)
    plane = 128 + draw.normal(0, 1, (SIZE, SIZE)) + 6 * (x // 5.5 % 2)[None]
    found = bands.grid({"Y": plane}, (5.5, 8.0))
    sizes = {n: v for n, v in found.items() if n.endswith("size")}
    assert max(sizes, key=sizes.get).startswith("grid: Y columns 5.50/")
    assert max(v for n, v in sizes.items() if "rows" in n or "8.00" in n) < 0.3


# ---------------------------------------------------------------- faults in real photographs


@pytest.fixture(scope="module")
def photographs() -> list[tuple[str, Image.Image]]:
    """The 400 ORL photographs with their persons."""
    return [(one.identity, images.open_image(one.read())) for one in orl().photographs]


def plain(image: Image.Image) -> np.ndarray:
    return images.to_pixels(image, SIZE, 1)


def as_jpeg(image: Image.Image) -> np.ndarray:
    return images.finished(plain(image), images.Jpeg(75))


def blurred(image: Image.Image) -> np.ndarray:
    soft = images.to_pil(plain(image)).filter(ImageFilter.GaussianBlur(0.4))
    return np.asarray(soft)[..., None]


def by_filter(kind: Image.Resampling, image: Image.Image) -> np.ndarray:
    square = image.crop(images.crop_box(*image.size, "center")).convert("L")
    return np.asarray(square.resize((SIZE, SIZE), kind))[..., None]


def came_as_jpeg(image: Image.Image) -> np.ndarray:
    buffer = io.BytesIO()
    image.convert("L").save(buffer, "JPEG", quality=75)
    return plain(images.open_image(buffer.getvalue()))


def in_colour(photographs: list[tuple[str, Image.Image]]) -> list[tuple[str, Image.Image]]:
    """Lay three photographs of a person over each other: chroma is as fine as luma."""
    found = []
    for index, (person, image) in enumerate(photographs):
        others = [photographs[index // 10 * 10 + (index + k) % 10][1] for k in (1, 2)]
        grey = [one.convert("L") for one in (image, *others)]
        mixed = [Image.blend(grey[0], one, 0.3) for one in grey]
        found.append((person, Image.merge("RGB", mixed)))
    return found


def coloured(image: Image.Image, came: int | None, finish: images.Jpeg | None) -> np.ndarray:
    if came:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=came, subsampling="4:2:0")
        image = images.open_image(buffer.getvalue())
    return images.to_pixels(image, SIZE, 3, "center", finish)


def aucs(
    photographs: list[tuple[str, Image.Image]],
    fault: Callable,
    periods: tuple[float, ...],
    plain: Callable = plain,
) -> dict[str, float]:
    """Tell each person's odd photographs, which have the fault, from the even ones."""
    sides = {}
    for side, (first, how) in enumerate(((0, plain), (1, fault))):
        people, pictures = zip(*photographs[first::2], strict=True)
        count, pixels = len(people), np.stack([how(one) for one in pictures])
        rows = manifest.rows_of(
            pixels,
            ids=[f"{side}-{i}" for i in range(count)], splits=["train"] * count,
            generator="real:orl", family="real", spec="-", seeds=[None] * count, identities=people,
        )  # fmt: skip
        channels = pixels.shape[-1]
        sides[str(side)] = pd.DataFrame([traces.trace(row, channels, periods)[0] for row in rows])
    gates = list(leaks.leak_gates("0 and 1", sides, Audit(), seed=0))
    assert all(
        g.passed == (g.value <= g.limit) and g.limit == 0.75 for g in gates if g.severity == SOFT
    )
    return {gate.gate: gate.value for gate in gates if gate.severity == SOFT}


@pytest.mark.parametrize(
    ("fault", "gates"),
    [
        (as_jpeg, {"bands", "blockiness"}),
        (blurred, {"bands", "sharpness"}),
        (partial(by_filter, Image.Resampling.BILINEAR), {"bands"}),
        (partial(by_filter, Image.Resampling.BICUBIC), {"bands"}),
        (came_as_jpeg, {"grid"}),
    ],
    ids=["jpeg75", "blur", "bilinear", "bicubic", "came as jpeg75"],
)
def test_a_fault_planted_in_one_class_is_caught(photographs, fault, gates):
    found = aucs(photographs, fault, (8.0, 8 / REDUCTION))
    assert all(found[name] > 0.75 for name in gates), found


def test_untouched_photographs_pass(photographs):
    found = aucs(photographs, plain, (8.0, 8 / REDUCTION))
    assert max(found.values()) < 0.65, found


def test_blocks_are_missed_where_their_period_is_not_looked_for(photographs):
    """That is why the manifests record by how much a photograph was reduced."""
    assert aucs(photographs, came_as_jpeg, (8.0,))["grid"] < 0.65


def test_halved_chroma_of_one_class_is_caught_and_a_finish_of_both_leaves_less_of_it(photographs):
    """What gave celeba's photographs away: they came as JPEG 75, 4:2:0, and are hardly reduced."""
    found, periods = {}, (8.0, 8 / REDUCTION)
    for finish in (None, images.Jpeg(90)):
        fault, plain = (partial(coloured, came=came, finish=finish) for came in (75, None))
        found[finish] = aucs(in_colour(photographs), fault, periods, plain)
    assert found[None]["bands"] > 0.95
    assert found[images.Jpeg(90)]["bands"] < found[None]["bands"] - 0.1, found
