import time

import pytest
import torch

from pipeline import precision
from pipeline.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv(precision.VARIABLE, raising=False)


@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_auto_takes_what_measures_faster(faster, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    done = []

    def step(which):
        done.append(which)
        time.sleep(0.001 if which == faster else 0.01)

    assert precision.choose("auto", CPU, step) == faster
    assert done.count("fp32") == done.count("bf16") == precision.ROUNDS


def test_without_instructions_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    assert precision.choose("auto", CPU, pytest.fail) == "fp32"


def test_what_is_asked_for_is_not_measured():
    assert precision.choose("bf16", CPU, pytest.fail) == "bf16"


def test_the_variable_overrules_what_is_asked_for(monkeypatch):
    monkeypatch.setenv(precision.VARIABLE, "bf16")
    assert precision.choose("fp32", CPU, pytest.fail) == "bf16"


def test_another_value_of_the_variable_is_refused(monkeypatch):
    monkeypatch.setenv(precision.VARIABLE, "fp16")
    with pytest.raises(UserError, match="DEEPFD_PRECISION is 'fp16'; expected fp32 or bf16"):
        precision.choose("auto", CPU, pytest.fail)


def test_full_undoes_autocast():
    layer, x = torch.nn.Linear(4, 4), torch.ones(1, 4)
    with precision.autocast(CPU, "bf16"):
        assert layer(x).dtype == torch.bfloat16
        with precision.full(x):
            assert layer(x).dtype == torch.float32
    with precision.autocast(CPU, "fp32"):
        assert layer(x).dtype == torch.float32


def test_the_measurement_for_generators_gives_a_format():
    assert precision.measured(CPU) in ("fp32", "bf16")
