"""Tiny real generators: weights files, pipeline folders and the params that name them."""

import itertools
import json
import os
import subprocess
import sys
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from generators.base import file_sha256
from pipeline import manifest, params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def assert_same_parts():
    """Assert that two manifests have the same parts, rows and pictures.

    Pictures may be a grey level apart where they were sampled twice: kernels may add up in another
    order in another process (it was seen once in thousands of times, on a busy machine).
    """

    def check(one: Path, other: Path) -> None:
        assert [path.name for path in manifest.paths(one)] == [
            path.name for path in manifest.paths(other)
        ]
        for first, second in zip(manifest.paths(one), manifest.paths(other), strict=True):
            tables = [manifest.read_part(path).to_pandas() for path in (first, second)]
            a, b = (manifest.pixels(table).astype(int) for table in tables)
            assert np.abs(a - b).max() <= 1 and (a != b).mean() < 0.001
            alike = (a == b).all(axis=(1, 2, 3))
            left, right = (
                table.assign(image=[cell["path"] for cell in table["image"]]) for table in tables
            )
            assert left[alike].equals(right[alike])
            assert left.drop(columns="sha256").equals(right.drop(columns="sha256"))

    return check


@pytest.fixture
def gan_weights(tmp_path):
    """Write a small untrained GAN and its card; returns the weights' path."""

    def write(name="dcgan", channels=1, width=2, seed=0, file="gan"):
        torch.manual_seed(seed)
        network = import_module(f"generators.networks.{name}").Generator(
            channels=channels, width=width
        )
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
        path = tmp_path / f"{file}.safetensors"
        save_file(network.state_dict(), path)
        card = {
            "name": name,
            "adapter": name,
            "channels": channels,
            "resolution": 64,
            "config": {"channels": channels, "width": width},
            "sha256": file_sha256(path),
        }
        path.with_suffix(".json").write_text(json.dumps(card))
        return path

    return write


@pytest.fixture
def pipeline_folder(tmp_path):
    """Save a small untrained diffusion pipeline as diffusers does; returns its folder."""

    def write(kind="DDPMPipeline", scheduler="DDPMScheduler", channels=1, size=16, name="pipe"):
        import diffusers

        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        )
        pipe = getattr(diffusers, kind)(unet=unet, scheduler=getattr(diffusers, scheduler)())
        pipe.save_pretrained(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def zoo_checkpoint(monkeypatch):
    """Write a checkpoint as pytorch_GAN_zoo does; returns its state of the generator.

    That is a record of settings (a class of that repository, which this one has not) beside the
    states of generator, critic and the generator's moving average. `wrapped`: names as the later
    commits have them, `formatLayer.module.weight` for `formatLayer.weight`.
    """

    def write(path, depths=(8, 4, 4), latent=8, channels=3, wrapped=True, legacy=False, **settings):
        draw = torch.Generator().manual_seed(0)
        shapes = {"formatLayer": (16 * depths[0], latent)}
        shapes["groupScale0.0"] = (depths[0], depths[0], 3, 3)
        for place, (before, after) in enumerate(itertools.pairwise(depths)):
            shapes[f"scaleLayers.{place}.0"] = (after, before, 3, 3)
            shapes[f"scaleLayers.{place}.1"] = (after, after, 3, 3)
        for place, depth in enumerate(depths):
            shapes[f"toRGBLayers.{place}"] = (channels, depth, 1, 1)
        state = OrderedDict()
        for name, shape in shapes.items():
            name += ".module" if wrapped else ""
            state[f"{name}.weight"] = torch.randn(shape, generator=draw)
            state[f"{name}.bias"] = torch.randn(shape[0], generator=draw)
        record = {
            "latentVectorDim": latent, "noiseVectorDim": latent, "categoryVectorDim": 0,
            "depthScale0": depths[0], "depthOtherScales": list(depths[1:]), "dimOutput": channels,
            "leakyReluLeak": 0.2, "perChannelNormalization": True, "equalizedlR": True,
            "alpha": 0, "lossCriterion": "WGANGP", "attribKeysOrder": None, "learningRate": 0.001,
        }  # fmt: skip
        last = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        with monkeypatch.context() as within:
            kind = type("BaseConfig", (), {"__module__": "models.utils.config"})
            for name in ("models", "models.utils", "models.utils.config"):
                within.setitem(sys.modules, name, ModuleType(name))
            sys.modules[kind.__module__].BaseConfig = kind
            config = kind()
            vars(config).update(record | settings)
            content = {"config": config, "netG": last, "netD": {}, "avgG": state}
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        return state

    return write


@pytest.fixture
def make_params():
    """Build validated params of a tiny profile from its generators' entries."""

    def make(generators, size=64, channels=1, rows_per_part=8):
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["faces"] |= {"size": size, "channels": channels}
        values["sample"] = {"rows_per_part": rows_per_part}
        first = next(iter(generators.values()))
        # A profile has at least two generators.
        values["generators"] = {**generators, "other": first}
        return values, params.parse(values)

    return make


@pytest.fixture
def run_stage():
    """Run a stage in a folder that holds params.yaml."""

    def run(folder, values, module, *arguments):
        (folder / "params.yaml").write_text(yaml.safe_dump(values))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        argv = [sys.executable, "-m", module, *arguments]
        return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)

    return run
