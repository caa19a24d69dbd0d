from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from planting import FAKES, PERSONS, PHOTOGRAPHS, pictures, rows, write

from pipeline import manifest
from pipeline.params import Params, parse


@pytest.fixture(scope="module")
def params() -> Params:
    values = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())
    values["generators"] = {
        name: {"adapter": "dcgan", "family": family, "weights": "none", "images": FAKES}
        for name, family in (("a", "one"), ("b", "one"), ("c", "two"))
    }
    values["methods"] = {"spectrum": {"method": "spectrum"}}
    values["audit"], values["matrix"]["compare"] = {}, []
    return parse(values)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for seed, source in enumerate(("real:orl", "a", "b", "c")):
        n = PERSONS * PHOTOGRAPHS if manifest.is_real(source) else FAKES
        write(tmp_path, source, rows(source, pictures(n, seed)))
    return tmp_path
