"""The registry of generators."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

import generators
from pipeline import params
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]


def test_importing_the_registry_imports_neither_torch_nor_diffusers():
    code = "import sys, generators; assert not {'torch', 'diffusers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_unknown_adapter_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'stylegan9' is unknown.*dcgan.*diffusers"):
        generators.load(SimpleNamespace(adapter="stylegan9"))


def test_registry_and_params_know_the_same_adapters():
    union = get_args(get_args(params.Generator)[0])
    known = [name for kind in union for name in get_args(kind.model_fields["adapter"].annotation)]
    assert sorted(known) == sorted(generators.GENERATORS)


@pytest.mark.parametrize("adapter", generators.GENERATORS)
def test_every_line_of_the_registry_names_a_class(adapter):
    module, _, name = generators.GENERATORS[adapter].partition(":")
    assert isinstance(getattr(import_module(module), name), type)
