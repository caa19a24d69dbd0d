"""A small project of its own: real git, real DVC, params.yaml by the real schema, quick stages."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

# Every stage in one file without heavy imports: what it makes depends on params and deps alone.
STAGES = """
import hashlib, json, sys, time
from pathlib import Path
import yaml

params = yaml.safe_load(Path("params.yaml").read_text())
stage, *args = sys.argv[1:]


def sha(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def sample(name):
    entry = params["generators"][name]
    weights = Path(entry["weights"]).read_text()
    if weights == "damaged":
        sys.exit(f"error: {entry['weights']} is damaged; restore it")
    if weights == "leaky":
        sys.exit("error: 1 gates failed: overlap of one: 3 images in two splits")
    if weights == "offline" and not Path("online").exists():
        Path("online").touch()
        print("error: the hub did not answer", file=sys.stderr)
        sys.exit(75)
    folder = Path("data/manifests") / name
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(0, entry["images"], 20):
        lines = [sha(name, i) for i in range(index, min(index + 20, entry["images"]))]
        part = folder / f"part-{index:05d}"
        if not part.exists() or part.read_text() != "\\n".join(lines):
            time.sleep(float(entry["first_seed"]) / 10)  # the slowness of this generator
            part.write_text("\\n".join(lines))
        print(f"\\r{name}: {100 * (index + len(lines)) // entry['images']}%|##", end="")
    print()


def folds():
    parts = sorted(Path("data/manifests").rglob("part-*"))
    Path("data/folds.json").write_text(sha([path.read_text() for path in parts]))


def fit(method, held):
    Path("scores").mkdir(exist_ok=True)
    Path(f"scores/{method}-{held}").write_text(sha(Path("data/folds.json").read_text(), method))


def matrix():
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = sum(entry["images"] for entry in params["generators"].values())
    rows = [
        {
            "round": params["round"], "method": method, "held_out": held, "generator": held,
            "perturbation": "none", "seed": 0, "n_train": images,
            "recall": 0.5 if Path("weights", held).read_text() == "flat" else 1 - 1 / images,
            "recall_low": 0.0, "recall_high": 1.0, "fpr": 0.0, "auc": 1.0, "code": "c",
            "data": Path(f"scores/{method}-{held}").read_text(),
        }
        for method in params["methods"] for held in params["generators"]
    ]
    pq.write_table(pa.Table.from_pylist(rows), "benchmarks/results.parquet")


def report():
    from PIL import Image

    Path("benchmarks/report").mkdir()
    Path("benchmarks/report/index.html").write_text("<h1>report</h1>")
    Image.new("L", (8, 8)).save("benchmarks/report/matrix.png")


globals()[stage](*args)
"""

DVC = """
stages:
  sample:
    foreach: ${generators}
    do:
      cmd: python stages.py sample ${key}
      params: ["generators.${key}"]
      deps: ["${item.weights}"]
      outs:
        - data/manifests/${key}: {persist: true}
  folds:
    cmd: python stages.py folds
    params: [generators]
    deps: [data/manifests]
    outs:
      - data/folds.json: {cache: false}
  fit:
    matrix:
      method: ${methods}
      held: ${generators}
    cmd: python stages.py fit ${item.method} ${item.held}
    deps: [data/folds.json]
    outs: ["scores/${item.method}-${item.held}"]
  matrix:
    cmd: python stages.py matrix
    params: [round, generators, methods]
    deps: [scores]
    outs: [benchmarks/results.parquet]
  history:
    cmd: python -m pipeline.operate.history
    params: [round, generators]
    deps: [benchmarks/results.parquet]
    outs:
      - benchmarks/history.parquet: {cache: false, persist: true}
  report:
    cmd: python stages.py report
    deps: [benchmarks/results.parquet, benchmarks/history.parquet]
    outs: [benchmarks/report]
"""


def make_project(folder, slow=0):
    """Two generators (the second as slow as told), one method."""
    whole = yaml.safe_load((ROOT / "params.yaml").read_text())
    entry = {"adapter": "dcgan", "family": "dcgan", "images": 40}
    whole["generators"] = {
        "one": {**entry, "weights": "weights/one", "first_seed": 0},
        "two": {**entry, "weights": "weights/two", "first_seed": slow},
    }
    whole["methods"] = {"spectrum": {"method": "spectrum"}}
    whole["round"] = 0
    for name in ("weights", "benchmarks"):
        (folder / name).mkdir(parents=True)
    (folder / "params.yaml").write_text("# kept\n" + yaml.safe_dump(whole, sort_keys=False))
    (folder / "dvc.yaml").write_text(DVC)
    (folder / "stages.py").write_text(STAGES)
    for name in whole["generators"]:
        (folder / "weights" / name).write_text("good")
    dvc = [sys.executable, "-m", "dvc"]
    for command in (
        ["git", "init", "-q"],
        ["git", "config", "user.email", "tester@example.com"],
        ["git", "config", "user.name", "tester"],
        [*dvc, "init", "-q"],
        ["cp", ROOT / ".dvcignore", "."],
        [*dvc, "config", "core.analytics", "false"],
        [*dvc, "config", "core.check_update", "false"],
        ["git", "add", "."],
        ["git", "commit", "-q", "-m", "start"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def new_project(tmp_path_factory):
    """Make a project: `new_project(slow=tenths of a second per 20 images of `two`)`."""
    return lambda slow=0: make_project(tmp_path_factory.mktemp("project") / "here", slow)


@pytest.fixture
def project(new_project):
    return new_project()
