"""Two processes train as one does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import distributed, nn

from benchmarks import fit, workers
from deepfd import losses, parallel
from pipeline import folds
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]
LAUNCH = "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
STEPS = {"width": 8, "contrastive_steps": 6, "classifier_steps": 14, "batch": 8, "lr": 0.001}
METHODS = {
    "deepfd": {"method": "deepfd", "widths": [8, 16], "steps": 20, "batch": 8, "lr": 0.001},
    "faithful": {"method": "faithful", "validate_every": 5, **STEPS},
}


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A real process group, of this process alone."""
    from accelerate import PartialState

    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    state = PartialState(cpu=True)
    monkeypatch.setattr(parallel, "_state", lambda: state)
    yield state
    PartialState._reset_state()
    distributed.destroy_process_group()


def test_batch_norm_over_processes_is_batch_norm(group):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.BatchNorm2d(4))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.BatchNorm2d(4))
    other.load_state_dict(plain.state_dict())
    parallel.prepare(other)
    assert type(other[1]) is not nn.BatchNorm2d
    x = torch.randn(6, 3, 8, 8) * 3 + 5
    for _ in range(3):
        outs = [network(x) for network in (plain, other)]
        assert torch.allclose(*outs, atol=1e-5)
        for out in outs:
            out[:, :2].pow(3).sum().backward()
        parallel.average_gradients(other)
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, rtol=1e-3, atol=1e-2), name
    states = plain.state_dict(), other.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.allclose(states[0][n], states[1][n], atol=1e-5) for n in states[0])
    assert torch.allclose(plain.eval()(x), other.eval()(x), atol=1e-5)


def test_gathered_features_carry_the_gradient_of_all_pairs(group):
    features = torch.rand(6, 4, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    (alone,) = torch.autograd.grad(losses.all_pairs_contrastive(features, labels, 0.5), features)
    gathered = parallel.gather(parallel.shard(features))
    assert torch.equal(gathered, features)
    losses.all_pairs_contrastive(gathered, labels, 0.5).backward()
    assert torch.allclose(features.grad, alone)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    state = type("State", (), {"num_processes": 3, "process_index": 1})
    monkeypatch.setattr(parallel, "_state", lambda: state)
    assert parallel.shard(torch.arange(6)).tolist() == [2, 3]
    with pytest.raises(UserError, match="a batch of 8 for 3 processes"):
        parallel.shard(torch.zeros(8, 1))


def test_one_process_is_left_as_it_was():
    network = nn.Sequential(nn.BatchNorm2d(2))
    parallel.prepare(network)
    x = torch.rand(4, 2, 3, 3)
    assert type(network[0]) is nn.BatchNorm2d
    assert parallel.is_main() and parallel.shard(x) is x and parallel.gather(x) is x


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_of_accelerate_fit_what_one_does(
    small_profile, tmp_path, monkeypatch, method
):
    params, _ = small_profile(methods=METHODS, fit={"seeds": [0, 1]})
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    folds.main()
    home = fit.MODELS / method / "c"

    def run(**variables):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.fit", method, "c"],
            env={
                **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        scores = pq.read_table(fit.scores_path(method, "c")).to_pandas()
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        weights = [load_file(home / str(seed) / "model.safetensors") for seed in (0, 1)]
        recipes = [(home / str(seed) / "recipe.json").read_text() for seed in (0, 1)]
        return scores, files, weights, recipes, done.stderr

    scores, files, weights, recipes, _ = run()
    fit.shutil.rmtree(home)
    scores2, files2, weights2, recipes2, said = run(**{workers.LAUNCH: LAUNCH})
    assert said.count("done in") == 2  # one process writes: the other says nothing
    assert files2 == files and recipes2 == recipes
    floats = ["score", "threshold"]
    assert np.allclose(scores[floats], scores2[floats], rtol=0, atol=1e-3)
    assert scores.drop(columns=floats).equals(scores2.drop(columns=floats))
    for one, two in zip(weights, weights2, strict=True):
        for name, value in one.items():
            # A bias right before batch norm does nothing: Adam moves it by rounding alone.
            if not name.endswith(("conv1.bias", "norm2.running_mean")):
                assert torch.allclose(value, two[name], rtol=1e-2, atol=5e-4), name
