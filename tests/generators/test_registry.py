"""The registry of generators."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

import generators
from pipeline.errors import UserError
from pipeline.options import target

ROOT = Path(__file__).parents[2]


def test_importing_the_registry_imports_neither_torch_nor_diffusers():
    code = "import sys, generators; assert not {'torch', 'diffusers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_unknown_adapter_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'stylegan9' is unknown.*dcgan.*diffusers"):
        generators.load(SimpleNamespace(adapter="stylegan9"))


@pytest.mark.parametrize("adapter", generators.GENERATORS)
def test_every_line_of_the_registry_names_a_class_and_its_options(adapter):
    kind, options = map(target, generators.GENERATORS[adapter])
    assert isinstance(kind, type)
    assert adapter in get_args(options.model_fields["adapter"].annotation)
    if adapter in generators.NETWORKS:
        assert isinstance(target(f"generators.networks.{adapter}:Generator"), type)
