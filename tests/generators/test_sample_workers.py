"""Parts made by workers are the parts that one process makes, bit for bit."""

import pytest

from pipeline import manifest


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_workers_make_the_same_bytes_as_one_process(
    backend, gan_weights, make_params, run_stage, tmp_path
):
    if backend == "dask":
        pytest.importorskip("distributed")
    entry = {"adapter": "dcgan", "family": "dcgan", "images": 20, "batch": 4}
    values, _ = make_params({"a": {**entry, "weights": str(gan_weights())}})
    made = {}
    for engine in ({}, {"workers": 2, "backend": backend}):
        folder = tmp_path / str(len(engine))
        folder.mkdir()
        values["sample"] |= engine
        done = run_stage(folder, values, "generators.sample", "a")
        assert done.returncode == 0, done.stderr
        assert "20 of them new" in done.stdout
        parts = sorted((folder / "data/manifests/a").iterdir())
        made[folder.name] = {path.name: path.read_bytes() for path in parts}
    assert len(made["0"]) == 3
    assert made["0"] == made["2"]
    assert len(manifest.read(tmp_path / "2" / "data/manifests/a")) == 20
