from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.folds import Images

ROOT = Path(__file__).parents[1]


def planted_fold(count=120, size=32, channels=1, seed=0, strength=25, shuffled=False):
    """Noise pictures; the fakes (of generators a and b) carry a checkerboard."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(60, 190, (count, 1, 1, channels))
    pixels = pixels + draw.normal(0, 12, (count, size, size, channels))
    labels = np.arange(count) % 2
    board = np.indices((size, size)).sum(0) % 2 * 2 - 1
    pixels += strength * labels[:, None, None, None] * board[None, ..., None]
    if shuffled:
        labels = draw.permutation(labels)
    fakes = np.where(np.arange(count) % 4 < 2, "a", "b")
    return Images(
        np.clip(pixels, 0, 255).astype(np.uint8),
        labels.astype(np.int8),
        np.where(labels == 1, fakes, "real:orl"),
        np.array([f"{seed}-{i}" for i in range(count)]),
    )


@pytest.fixture(scope="session")
def planted():
    return planted_fold


@pytest.fixture
def small_profile(tmp_path):
    """Write manifests of three small generators; returns their params and folder.

    Fakes carry a checkerboard, photographs do not; `shuffled`: half of either do, so that there is
    something to learn and nothing to know. Keyword arguments replace blocks of params.yaml.
    """
    from pipeline import manifest, params
    from pipeline.folds import sources, test_only

    names = ("a", "b", "c")
    folder = tmp_path / "data/manifests"

    def write(count=40, size=32, channels=1, shuffled=False, **blocks):
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["faces"] |= {"size": size, "channels": channels}
        entry = {"adapter": "dcgan", "weights": "-", "images": count}
        values["generators"] = {n: entry | {"family": "x" if n == "c" else "y"} for n in names}
        values["methods"] = {"spectrum": {"method": "spectrum"}, "dct": {"method": "dct"}}
        values["matrix"] |= {"bootstrap": 50, "compare": []}
        checked = params.parse(values | blocks)
        for number, (name, source) in enumerate(sources(checked).items()):
            board = 0 if manifest.is_real(name) else 25
            splits = ("test",) if test_only(checked, name) else ("train", "train", "valid", "test")
            pixels = planted_fold(2 * count, size, channels, number, board).pixels
            pixels = pixels[::2] if board == 0 else pixels[1::2]
            if shuffled:
                draw = np.random.default_rng(number)
                pixels = draw.permutation(planted_fold(count, size, channels, number).pixels)
            rows = manifest.rows_of(
                pixels,
                ids=[f"{source}-{i:08d}" for i in range(count)],
                splits=[splits[i % len(splits)] for i in range(count)],
                generator=name,
                family=checked.generators[name].family if board else "real",
                spec="planted",
                seeds=list(range(count)) if board else [None] * count,
                identities=[None if board else str(i) for i in range(count)],
            )
            manifest.write_part(manifest.part_path(folder / source, 0), rows)
        return checked, folder

    return write
