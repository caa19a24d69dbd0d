"""What it takes to add a GAN or a method: both are done in a copy of the tree, and counted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.closure import PACKAGES

ROOT = Path(__file__).parents[1]
GAN = '''"""A GAN of one linear layer."""

import torch
from torch import nn

from generators.networks.dcgan import Critic, adam, critic_loss, generator_loss
from generators.training.adversarial import Recipe
from generators.training.averaged import EMA_IMAGES
from generators.training.differences import Paper


class Generator(nn.Module):
    """8 latents -> one linear layer -> 64x64."""

    latent = 8

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(self.latent, channels * 64 * 64)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, 8) to images (N, C, 64, 64) in [-1, 1]."""
        return torch.tanh(self.layer(z)).view(len(z), -1, 64, 64)


RECIPE = Recipe(Generator, Critic, critic_loss, generator_loss, adam)
PAPER = Paper("none", (), values={}, defaults={"ema_images": EMA_IMAGES})
'''
GAN_LINE = (
    '    "flat": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),\n'
)
GAN_ENTRY = (
    "  flat: {adapter: flat, family: flat, weights: w/flat.safetensors, images: 8, batch: 4}\n"
)
GAN_TRAINING = "  flat: {images: 8, batch: 4, width: 2, lr: 0.0002}\n"
METHOD = '''"""Spread of the grey levels and logistic regression."""

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from benchmarks.methods import linear


class Options(linear.Options):
    """What params.yaml can say of it."""

    method: Literal["spread"]
    c: PositiveFloat = 1.0


class Spread(linear.Linear):
    """Logistic regression on the standard deviation of each channel."""

    @staticmethod
    def features(pixels: np.ndarray) -> np.ndarray:
        """Turn uint8 (N, H, W, C) into float64 (N, C)."""
        return pixels.std(axis=(1, 2)).astype(float)
'''
METHOD_LINE = (
    '    "spread": ("benchmarks.methods.spread:Spread", "benchmarks.methods.spread:Options"),\n'
)
METHOD_ENTRY = "  spread: {method: spread}\n"
WRITTEN = {".j2", ".json", ".py", ".yaml"}


@pytest.fixture
def tree(tmp_path, small_profile):
    """A copy of the code, with photographs and fakes of three generators."""
    skip = shutil.ignore_patterns("__pycache__", "weights", "runs", "models", "*.parquet", "report")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    params, _ = small_profile(size=64, fit={"seeds": [0]})
    text = yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False)
    (tmp_path / "params.yaml").write_text(text)
    return tmp_path


def insert(path, before, line):
    """Put a line after one that stands there once."""
    text = path.read_text()
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, before + line))


def lines(tree):
    """The lines of every file that somebody wrote (no picture or table that a run has made)."""
    found = [path for name in PACKAGES for path in (tree / name).rglob("*.*")]
    return {
        path.relative_to(tree).as_posix(): path.read_text().splitlines()
        for path in (*found, tree / "params.yaml")
        if path.suffix in WRITTEN
    }


def touched(before, after):
    """New files, and how many lines each other file has more or otherwise."""
    assert before.keys() <= after.keys()
    new = after.keys() - before.keys()
    changed = {
        name: len(after[name]) - len(old) for name, old in before.items() if after[name] != old
    }
    for name, more in changed.items():  # nothing that stood there has changed
        assert more == len([line for line in after[name] if line not in before[name]])
    return new, changed


def run(tree, *command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tree, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(900)
def test_a_gan_is_one_file_one_line_and_one_entry(tree):
    before = lines(tree)
    (tree / "generators/networks/flat.py").write_text(GAN)
    insert(
        tree / "generators/__init__.py", "GENERATORS: dict[str, tuple[str, str]] = {\n", GAN_LINE
    )
    insert(tree / "params.yaml", "\ngenerators:\n", GAN_ENTRY)
    new, changed = touched(before, lines(tree))
    assert new == {"generators/networks/flat.py"}
    assert changed == {"generators/__init__.py": 1, "params.yaml": 1}

    # Trained here rather than elsewhere: a line of how.
    insert(tree / "generators/params.yaml", "\norl:\n", GAN_TRAINING)
    run(tree, "generators.train", "flat", "--out", "w")
    run(tree, "generators.sample", "flat")
    made = pd.read_parquet(tree / "data/manifests/flat")
    assert list(made["seed"]) == list(range(8)) and set(made["generator"]) == {"flat"}


@pytest.mark.timeout(900)
def test_a_method_is_one_file_and_one_line(tree):
    before = lines(tree)
    (tree / "benchmarks/methods/spread.py").write_text(METHOD)
    line = "METHODS: dict[str, tuple[str, str]] = {\n"
    insert(tree / "benchmarks/methods/__init__.py", line, METHOD_LINE)
    new, changed = touched(before, lines(tree))
    assert new == {"benchmarks/methods/spread.py"}
    assert changed == {"benchmarks/methods/__init__.py": 1}

    insert(tree / "params.yaml", "\nmethods:\n", METHOD_ENTRY)
    run(tree, "pipeline.folds")
    run(tree, "benchmarks.fit", "spread", "a")
    scores = pd.read_parquet(tree / "scores/spread/a.parquet")
    assert set(scores["method"]) == {"spread"} and scores["score"].between(0, 1).all()
    assert set(scores["held_out"]) == {"a"}
