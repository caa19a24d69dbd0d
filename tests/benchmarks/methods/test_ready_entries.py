"""The entries that docs/methods.md offers can be pasted into params.yaml."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from benchmarks.methods import METHODS
from pipeline.operate.compose import FOLDER, compose
from pipeline.params import parse

ROOT = Path(__file__).parents[3]


def test_every_block_of_the_methods_page_is_a_valid_block_of_params():
    # The colour profile at its fullest: what the page adds to it is all that there is.
    values = yaml.safe_load(compose("celeba", ROOT / FOLDER))
    values["methods"] = values["method_sets"]["full"]
    text = (ROOT / "docs/methods.md").read_text()
    blocks = [yaml.safe_load(b) for b in re.findall(r"(?m)(?:^    .*\n)+", text)]
    assert {key for block in blocks for key in block} == {"methods", "perturbations"}
    for block in blocks:
        for key, value in block.items():
            values[key] = values[key] | value if isinstance(value, dict) else value
    checked = parse(values)
    assert {"colour", "colour_rgb", "npr", "deepfd_margin", "deepfd_srm"} <= {*checked.methods}
    assert {entry.method for entry in checked.methods.values()} == set(METHODS)
    assert len(checked.perturbations) == 9
