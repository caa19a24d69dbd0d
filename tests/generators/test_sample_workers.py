"""Parts made by workers are the parts that one process makes."""

import pytest

from pipeline import manifest


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_workers_make_the_parts_of_one_process(
    backend, gan_weights, make_params, run_stage, assert_same_parts, tmp_path
):
    if backend == "dask":
        pytest.importorskip("distributed")
    entry = {"adapter": "dcgan", "family": "dcgan", "images": 20, "batch": 4}
    values, _ = make_params({"a": {**entry, "weights": str(gan_weights())}})
    for engine in ({}, {"workers": 2, "backend": backend}):
        folder = tmp_path / str(len(engine))
        folder.mkdir()
        values["sample"] |= engine
        done = run_stage(folder, values, "generators.sample", "a")
        assert done.returncode == 0, done.stderr
        assert "20 of them new" in done.stdout
    one, several = (tmp_path / name / "data/manifests/a" for name in ("0", "2"))
    assert len(list(several.iterdir())) == 3
    assert_same_parts(one, several)
    assert len(manifest.read(several)) == 20
