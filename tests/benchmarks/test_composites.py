import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from benchmarks.composites import (
    BLENDS,
    CONTROL,
    FAKE_IN,
    REAL_IN,
    REGIONS,
    SEAMS,
    composites,
    donors_of,
    feathered,
    poisson,
    region,
)
from pipeline.folds import Images

FRAMING = (0.1, 0.2, 0.9, 1.0)


def pictures(count, name, size=32, channels=1, seed=0, people=None):
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (count, size, size, channels)).astype(np.uint8)
    ids = np.array([f"{name}-{i}" for i in range(count)])
    persons = np.array([f"p{i % people}" if people else "" for i in range(count)])
    labels = np.full(count, int(name != "real"), np.int8)
    return Images(pixels, labels, np.full(count, name), ids, persons)


def smooth(size=48, slope=1.0, offset=60.0, seed=0):
    y, x = np.indices((size, size)) / size
    draw = np.random.default_rng(seed)
    values = offset + slope * 50 * x + 10 * np.sin(5 * y) + draw.normal(0, 4, (size, size))
    assert 0 < values.min() < values.max() < 255
    return np.rint(values).astype(np.uint8)[..., None]


@pytest.mark.parametrize("shape", REGIONS)
def test_regions_lie_where_they_are_named_and_are_of_a_sensible_size(shape):
    masks = [region(shape, 64, FRAMING, np.random.default_rng(i)) for i in range(40)]
    areas = np.array([mask.mean() for mask in masks])
    assert ((areas > 0.03) & (areas <= 0.5)).all()
    rows = np.array([np.average(np.arange(64), weights=mask.sum(1)) / 64 for mask in masks])
    if shape == "eyes":
        assert ((rows > 0.25) & (rows < 0.5)).all()
    if shape == "mouth":
        assert (rows > 0.7).all()
    if shape == "half":
        assert (areas == 0.5).all() and len({mask.tobytes() for mask in masks}) == 4
    if shape == "ellipse":
        assert len({mask.tobytes() for mask in masks}) == 40
        border = np.ones((64, 64), bool)
        border[1:-1, 1:-1] = False
        assert not any((mask & border).sum() > 8 for mask in masks)


@pytest.mark.parametrize("blend", BLENDS.values())
@pytest.mark.parametrize("shape", REGIONS)
def test_outside_the_seam_the_host_stays_and_inside_the_donor_is_seen(blend, shape):
    host, donor = smooth(), smooth(slope=-1, offset=140, seed=3)
    mask = region(shape, 48, FRAMING, np.random.default_rng(0))
    out = blend(host, donor, mask).astype(float)
    far = ~binary_dilation(mask, iterations=6)
    np.testing.assert_allclose(out[far], host[far], atol=1)
    inside = binary_erosion(mask, iterations=4, border_value=1)
    # What is finer than a seam is the donor's (Poisson cloning keeps the host's level and slope).
    fine, wanted, other = (
        (v - gaussian_filter(v.astype(float), (2, 2, 0)))[inside, 0] for v in (out, donor, host)
    )
    assert len(fine) > 20
    assert np.corrcoef(fine, wanted)[0, 1] > 0.9 > 0.5 > np.corrcoef(fine, other)[0, 1]


def test_poisson_of_a_picture_into_itself_changes_nothing():
    host = smooth()
    for shape in REGIONS:
        mask = region(shape, 48, FRAMING, np.random.default_rng(1))
        np.testing.assert_array_equal(poisson(host, host, mask), host)


def test_poisson_takes_the_hosts_level_and_feathered_the_donors():
    host, donor = np.full((48, 48, 1), 60, np.uint8), np.full((48, 48, 1), 200, np.uint8)
    mask = region("mouth", 48, FRAMING, np.random.default_rng(0))
    np.testing.assert_array_equal(poisson(host, donor, mask), host)
    assert feathered(host, donor, mask)[40, 24, 0] > 180


def test_poisson_solves_the_equations_it_claims():
    host, donor = smooth(20), smooth(20, slope=-1, offset=140, seed=2)
    mask = np.zeros((20, 20), bool)
    mask[6:13, 5:14] = True
    out = poisson(host, donor, mask).astype(float)[..., 0]
    g = donor.astype(float)[..., 0]

    def laplacian(v):
        return 4 * v[1:-1, 1:-1] - v[:-2, 1:-1] - v[2:, 1:-1] - v[1:-1, :-2] - v[1:-1, 2:]

    # Rounding to whole grey levels moves each of five values by at most half.
    difference = (laplacian(out) - laplacian(g))[mask[1:-1, 1:-1]]
    assert np.abs(difference).max() <= 4


def test_the_same_ids_give_the_same_composites_whatever_stands_beside_them():
    hosts, donors = pictures(4, "real", people=2), pictures(6, "dcgan", seed=1)
    first = list(composites(FAKE_IN, hosts, donors, FRAMING, 7))
    again = list(composites(FAKE_IN, hosts.subset(np.array([2, 3])), donors, FRAMING, 7))
    assert len(first) == 4 * len(REGIONS) * len(SEAMS)
    wanted = [one for one in first if one.pair in ("real-2", "real-3")]
    for one, other in zip(wanted, again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.region, other.region)
    other_seed = list(composites(FAKE_IN, hosts, donors, FRAMING, 8))
    assert any((a.pixels != b.pixels).any() for a, b in zip(first, other_seed, strict=True))


def test_what_is_fake_follows_from_host_and_donor():
    real, fakes = pictures(3, "real", people=3), pictures(3, "dcgan", seed=1)
    for one in composites(FAKE_IN, real, fakes, FRAMING, 0):
        np.testing.assert_array_equal(one.fake, one.region)
    for one in composites(REAL_IN, fakes, real, FRAMING, 0):
        np.testing.assert_array_equal(one.fake, ~one.region)
    assert not any(one.fake.any() for one in composites(CONTROL, real, real, FRAMING, 0))


def test_the_control_takes_another_person():
    real = pictures(20, "real", people=4)
    donors = donors_of(real, real, 0, CONTROL)
    assert (real.identities[donors] != real.identities).all()
    alone = pictures(5, "real", people=1)
    assert (donors_of(alone, alone, 0, CONTROL) == -1).all()
    assert list(composites(CONTROL, alone, alone, FRAMING, 0)) == []
    unknown = pictures(5, "real")
    donors = donors_of(unknown, unknown, 0, CONTROL)
    assert (donors != np.arange(5)).all()


def test_colour_is_kept():
    real, fakes = pictures(2, "real", channels=3, people=2), pictures(2, "x", channels=3, seed=1)
    assert next(composites(FAKE_IN, real, fakes, FRAMING, 0)).pixels.shape == (32, 32, 3)
