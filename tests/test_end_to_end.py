"""The whole pipeline by real `dvc repro` in a fresh git repository, on tiny generators."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from generators.base import file_sha256
from generators.networks import dcgan
from pipeline import images, sources

ROOT = Path(__file__).parents[1]
CODE = ("benchmarks", "deepfd", "generators", "pipeline")
FILES = ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore")


def write_weights(path, seed):
    """Write a DCGAN that nobody trained."""
    torch.manual_seed(seed)
    network = dcgan.Generator(channels=1, width=2)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    card = {
        "name": path.stem, "adapter": "dcgan", "channels": 1, "resolution": 64,
        "config": {"channels": 1, "width": 2}, "sha256": file_sha256(path),
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(card))


class Repository:
    """A fresh repository that holds the project's code and tiny params."""

    def __init__(self, folder):
        self.folder = folder
        skip = shutil.ignore_patterns(
            "__pycache__", "weights", "runs", "*.parquet", "report", "plots"
        )
        for name in CODE:
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["faces"] |= {"size": 32}
        values["photographs"]["orl"]["limit"] = 60
        values["sample"] = {"rows_per_part": 20}
        values["generators"] = {}
        values["methods"] = {
            "spectrum": {"method": "spectrum"},
            "deepfd": {
                "method": "deepfd", "widths": [4], "crop": 16, "steps": 2, "batch": 8, "lr": 0.001,
            },
        }  # fmt: skip
        values["fit"]["seeds"] = [0, 1]
        values["matrix"] |= {"bootstrap": 20, "compare": [["deepfd", "spectrum"]]}
        # Nobody trained these generators: their faces are much alike.
        values["audit"]["warn"] = ["collapse", "near_duplicate"]
        self.values = values
        self.add("one", 1)
        self.add("two", 2)
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "tiny"]):
            who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
            subprocess.run(["git", *who, *command], cwd=folder, check=True)

    def add(self, name, seed, family=None):
        """Add one entry to `generators:` and nothing else."""
        write_weights(self.folder / f"generators/weights/{name}.safetensors", seed)
        entry = {"adapter": "dcgan", "family": family or name, "images": 40, "batch": 20}
        weights = f"generators/weights/{name}.safetensors"
        self.values["generators"][name] = entry | {"weights": weights}
        self.write()

    def remove(self, name):
        del self.values["generators"][name]
        self.write()

    def write(self):
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.values, sort_keys=False))

    def start(self, *arguments, **options):
        """Start DVC; returns the process."""
        python = Path(sys.executable)
        env = os.environ | {
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [python, "-m", "dvc", *arguments], cwd=self.folder, env=env, text=True, **options
        )

    def dvc(self, *arguments):
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said, complained = process.communicate()
        assert process.returncode == 0, said[-3000:] + complained[-3000:]
        return said

    def kill(self, after):
        """Kill `dvc repro` and all that it runs, as a power cut would, after so many seconds.

        Returns:
            Whether it was still running.
        """
        process = self.start(
            "repro", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        return False

    def results(self):
        return pd.read_parquet(self.folder / "benchmarks/results.parquet")

    def digest(self, pattern):
        """Digest of names and bytes of all files that match."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob(pattern)):
            digest.update(path.relative_to(self.folder).as_posix().encode() + path.read_bytes())
        return digest.hexdigest()

    def made(self):
        """Digest of every file that the pipeline has made.

        But for how long the fits took, and for the note of stage `code` on where it was run.
        """
        status = ["git", "ls-files", "--others", "--", "data", "models", "scores", "benchmarks"]
        listed = subprocess.run(status, cwd=self.folder, capture_output=True, text=True, check=True)
        found = {}
        for name in sorted(listed.stdout.split("\n")[:-1]):
            content = (self.folder / name).read_bytes()
            if name == "benchmarks/report/index.html":
                content = re.sub(rb"\d+\.\d (s|min)\b", b"", content)
            if not name.endswith(("timing.json", "code.stamp.json", ".pyc")):
                found[name] = hashlib.sha256(content).hexdigest()
        return found


def stages_run(output):
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


@pytest.mark.timeout(1200)
def test_dvc_repro_builds_the_matrix_and_a_generator_comes_and_goes(tmp_path):
    repo = Repository(tmp_path)
    ran = stages_run(repo.dvc("repro"))
    assert {"faces@orl", "sample@one", "sample@two", "folds", "matrix", "report"} <= ran
    assert {"fit@spectrum", "fit@deepfd"} <= ran
    first = repo.results()
    # Of spectrum one seed and the sum, of deepfd two and the sum; two generators, none, two
    # families; tested on two generators and the photographs.
    assert len(first) == (2 + 3) * 5 * 3
    diagonal = first[(first.held_out == first.generator) & (first.perturbation == "none")]
    matrix = diagonal.pivot_table(index="method", columns="held_out", values="recall")
    assert matrix.shape == (2, 2) and matrix.notna().all(axis=None)
    page = (tmp_path / "benchmarks/report/index.html").read_text()
    assert all(f'alt="Faces made by {name}"' in page for name in ("one", "two"))
    assert str(tmp_path) not in page

    # Nothing has changed: nothing runs but the look at the code.
    start = time.perf_counter()
    assert stages_run(repo.dvc("repro")) == {"code"}
    print(f"no-op: {time.perf_counter() - start:.1f} s")

    # The code of the report has changed: nothing is fitted.
    script = tmp_path / "benchmarks/page/report.py"
    text = script.read_text()
    script.write_text(text.replace("def main() -> None:\n", "def main(_: int = 0) -> None:\n"))
    assert script.read_text() != text
    assert stages_run(repo.dvc("repro")) == {"code", "report"}

    # Results and report are gone: both come back, bit for bit, and nothing is fitted.
    made = [tmp_path / f"benchmarks/{name}" for name in ("results.parquet", "report/index.html")]
    before = [path.read_bytes() for path in made]
    (tmp_path / "benchmarks/results.parquet").unlink()
    shutil.rmtree(tmp_path / "benchmarks/report")
    ran = stages_run(repo.dvc("repro", "report"))
    assert not any(stage.startswith(("fit", "sample", "faces")) for stage in ran)
    assert [path.read_bytes() for path in made] == before

    # One entry more: one sample stage more, finished ones are left alone. (A method goes meanwhile:
    # its fits have shown what they had to.)
    del repo.values["methods"]["deepfd"]
    samples = repo.digest("data/manifests/one/*"), repo.digest("data/manifests/two/*")
    repo.add("three", 3, family="one")
    ran = stages_run(repo.dvc("repro"))
    assert {stage for stage in ran if stage.startswith("sample")} == {"sample@three"}
    assert "fit@spectrum" in ran and not {"faces@orl", "fit@deepfd"} & ran
    assert (repo.digest("data/manifests/one/*"), repo.digest("data/manifests/two/*")) == samples
    assert set(repo.results()["method"]) == {"spectrum"}
    assert set(repo.results()["generator"]) == {"real:orl", "one", "two", "three"}
    families = {"family:one", "family:two"}
    assert set(repo.results()["held_out"]) == {"one", "two", "three", "none"} | families
    # A family of two is a fold of its own, whose training is without both.
    folds = repo.results().set_index("held_out")["fold"].to_dict()
    assert (folds["family:one"], folds["family:two"]) == ("family:one", "two")
    scores = pd.read_parquet(tmp_path / "scores/spectrum/family-one.parquet")
    splits = json.loads((tmp_path / "data/folds.json").read_text())
    n_train = sum(splits[name]["splits"]["train"] for name in ("real:orl", "two"))
    assert set(scores["held_out"]) == {"family:one"} and set(scores["n_train"]) == {n_train}

    # And gone from every result, which is then the same as before, bit for bit.
    repo.remove("three")
    ran = stages_run(repo.dvc("repro"))
    assert not any(stage.startswith("sample") or "three" in stage for stage in ran)
    before = first[first["method"] == "spectrum"].reset_index(drop=True)
    pd.testing.assert_frame_equal(repo.results(), before, check_exact=True)
    # No family of two is left, and nothing of what was fitted for it.
    for made in ("scores", "models"):
        names = {path.stem for path in (tmp_path / made / "spectrum").iterdir()}
        assert names == {"one", "two", "none"}
    assert "three" not in (tmp_path / "benchmarks/report/index.html").read_text()
    assert "three" not in (tmp_path / "benchmarks/metrics.json").read_text()

    # What `dvc metrics` and `dvc plots` show.
    metrics = json.loads(repo.dvc("metrics", "show", "--json"))
    assert "recall_mean" in json.dumps(metrics)
    plots = json.loads(repo.dvc("plots", "show", "--json"))
    assert not plots.get("errors") and "spectrum on one" in json.dumps(plots)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_collection_comes_and_goes_and_no_finished_sample_is_touched(tmp_path):
    repo = Repository(tmp_path)
    del repo.values["methods"]["deepfd"]
    repo.values["matrix"]["compare"] = []
    # Photographs of other people than the ones that are there already.
    abroad = tmp_path / "abroad"
    abroad.mkdir()
    for index, photograph in enumerate(list(sources.orl().photographs)[100:160]):
        images.open_image(photograph.read()).save(abroad / f"{index:02d}.png")
    repo.write()
    repo.dvc("repro", "matrix")
    first, samples = repo.results(), repo.digest("data/manifests/*/*")

    # One entry more: one stage more.
    repo.values["photographs"]["abroad"] = {"source": "folder", "path": "abroad"}
    repo.write()
    ran = stages_run(repo.dvc("repro", "matrix"))
    made = {stage for stage in ran if stage.startswith(("faces", "sample"))}
    assert made == {"faces@abroad"} and "fit@spectrum" in ran
    new = repo.digest("data/manifests/real_abroad/*")
    shutil.move(tmp_path / "data/manifests/real_abroad", tmp_path / "aside")
    assert repo.digest("data/manifests/*/*") == samples
    shutil.move(tmp_path / "aside", tmp_path / "data/manifests/real_abroad")
    # Each of two is left out once, and tested on in every fold.
    found = repo.results()
    assert {"real:orl", "real:abroad"} <= set(found["held_out"]) & set(found["generator"])
    cell = found[(found["held_out"] == "real:abroad") & (found["generator"] == "real:abroad")]
    assert not cell["seen"].any() and cell["fpr"].notna().all()

    # For testing only: it is split anew, trained on by none and left out by none.
    repo.values["photographs"]["abroad"]["use"] = "test"
    repo.write()
    ran = stages_run(repo.dvc("repro", "matrix"))
    made = {stage for stage in ran if stage.startswith(("faces", "sample"))}
    assert made == {"faces@abroad"}
    assert repo.digest("data/manifests/real_abroad/*") != new
    found = repo.results()
    assert set(found["held_out"]) == set(first["held_out"])
    rows = found[found["generator"] == "real:abroad"]
    assert len(rows) and not rows["seen"].any() and (rows["n_real"] == 60).all()
    assert set(found["n_train"]) == set(first["n_train"])

    # Gone from every result, which is then the same as before, bit for bit; nothing is made again.
    del repo.values["photographs"]["abroad"]
    repo.write()
    ran = stages_run(repo.dvc("repro", "matrix"))
    assert not any(stage.startswith(("faces", "sample")) for stage in ran)
    pd.testing.assert_frame_equal(repo.results(), first, check_exact=True)
    for path in (*tmp_path.glob("benchmarks/*.parquet"), *tmp_path.glob("scores/**/*.parquet")):
        assert "abroad" not in pd.read_parquet(path).to_csv(), path
    names = {path.stem for path in (tmp_path / "models/spectrum").iterdir()}
    assert names == {"one", "two", "none"}


# Kills of a run from scratch, one in each tenth of the time that it takes.
KILLS = 10


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, capsys):
    def fresh(name):
        (tmp_path / name).mkdir()
        return Repository(tmp_path / name)

    start = time.monotonic()
    undisturbed = fresh("undisturbed")
    undisturbed.dvc("repro")
    seconds, expected = time.monotonic() - start, undisturbed.made()
    for kind in ("results", "comparisons", "audit", "reads"):
        assert f"benchmarks/{kind}.parquet" in expected
    for part in ("manifests/one/", "manifests/real_orl/", "scores/deepfd/", "models/deepfd/"):
        assert any(part in name for name in expected)
    draw = random.Random(0)
    for kill in range(KILLS):
        share, cut, attempt = (kill + draw.random()) / KILLS, False, 0
        while not cut:  # it came too late where the machine is less busy by now: once more, sooner
            attempt += 1
            assert attempt <= 3, f"{attempt - 1} runs ended before the kill"
            repo, start = fresh(f"killed-{kill}-{attempt}"), time.monotonic()
            after = share * seconds
            cut = repo.kill(after)
            seconds = seconds if cut else time.monotonic() - start
        there = len(repo.made())
        repo.dvc("repro")
        with capsys.disabled():
            print(f"\n{after:6.1f} of {seconds:.0f} s: {there} of {len(expected)} files", end="")
        assert repo.made() == expected
        assert stages_run(repo.dvc("repro")) == {"code"}
        shutil.rmtree(repo.folder)
