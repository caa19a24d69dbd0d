"""The entries that docs/methods.md offers can be pasted into params.yaml."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from benchmarks.methods import METHODS
from pipeline.params import parse

ROOT = Path(__file__).parents[3]


def test_every_block_of_the_methods_page_is_a_valid_block_of_params():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    text = (ROOT / "docs/methods.md").read_text()
    blocks = [yaml.safe_load(b) for b in re.findall(r"(?m)(?:^    .*\n)+", text)]
    assert {key for block in blocks for key in block} == {"methods", "perturbations"}
    for block in blocks:
        for key, value in block.items():
            values[key] = values[key] | value if isinstance(value, dict) else value
    checked = parse(values)
    assert {"colour", "colour_rgb", "npr", "deepfd_margin"} <= {*checked.methods}
    # With the default's, every method that there is.
    assert {entry.method for entry in checked.methods.values()} == set(METHODS)
    assert len(checked.perturbations) == 9
