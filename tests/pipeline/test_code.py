"""What an edit starts: on this project's own dvc.yaml and code, in a repository of its own.

Outputs are written by nobody and committed to DVC as if they had been made; then one thing is
changed, the stage `code` is run, and DVC says which stages it would run first.
"""

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline import code
from pipeline.closure import PACKAGES, Tree
from pipeline.params import Params, parse

ROOT = Path(__file__).parents[2]


class Repository:
    """A copy of the project with two generators, two methods and two folders of photographs."""

    def __init__(self, folder):
        self.folder = folder
        skip = shutil.ignore_patterns("__pycache__", "weights", "runs", "*.parquet", "report")
        for name in PACKAGES:
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        for place in ("photographs/a", "others"):
            (folder / place).mkdir(parents=True)
            Image.new("L", (64, 64)).save(folder / place / "one.png")
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["photographs"] = {
            "ours": {"source": "folder", "path": "photographs"},
            "others": {"source": "folder", "path": "others", "use": "test"},
        }
        weights = "generators/weights/{}.safetensors"
        values["generators"] = {
            name: {"adapter": name, "family": name, "images": 4, "weights": weights.format(name)}
            for name in ("dcgan", "pggan")
        }
        (folder / "generators/weights").mkdir()
        for name in values["generators"]:
            (folder / weights.format(name)).write_text("weights")
            (folder / weights.format(name)).with_suffix(".json").write_text("{}")
        values["methods"] = {
            "spectrum": {"method": "spectrum"},
            "npr": {"method": "npr", "steps": 1, "batch": 4, "lr": 0.001},
        }
        values["matrix"]["compare"] = []
        (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        self.run("git", "init", "-q")
        self.dvc("repro", "-q", "code")
        for path in self.outs():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path.relative_to(folder)))
        self.dvc("commit", "-q", "-f", *self.names())

    def run(self, *command, check=True):
        env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
        }
        return subprocess.run(
            command, cwd=self.folder, env=env, check=check, capture_output=True, text=True
        )

    def dvc(self, *arguments, check=True):
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check).stdout

    def names(self):
        found = self.dvc("stage", "list", "--name-only").split()
        return [name for name in found if name != "code"]

    def outs(self):
        """Paths of what every stage but `code` makes."""
        values = yaml.safe_load((self.folder / "params.yaml").read_text())
        dag = yaml.safe_load((self.folder / "dvc.yaml").read_text())
        for name, entry in dag["stages"].items():
            if name == "code":
                continue
            for _, known in code._instances(entry, values):
                body = entry.get("do", entry)
                for out in (*body.get("outs", ()), *body.get("metrics", ())):
                    path = next(iter(out)) if isinstance(out, dict) else out
                    yield self.folder / code._fill(path, known)

    def started(self):
        """Stages that DVC would run for what has changed, without those that come after them."""
        done = self.run(sys.executable, "-m", "pipeline.stamp", check=False)
        assert done.returncode == 0, done.stderr
        shown = self.dvc("repro", "--dry")
        return {*re.findall(r"Running stage '([^']+)'", shown)} - {"code"}

    @contextlib.contextmanager
    def edited(self, path, old, new):
        path = self.folder / path
        before = path.read_text()
        assert old in before, path
        path.write_text(before.replace(old, new, 1))
        try:
            yield
        finally:
            path.write_text(before)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return Repository(tmp_path_factory.mktemp("repo"))


def stages(names, stage):
    return {name for name in names if name.partition("@")[0] == stage}


def fits(names, method=""):
    return {name for name in stages(names, "fit") if f"@{method}" in name}


def test_without_an_edit_nothing_starts(repo):
    assert repo.started() == set()


# What runs photographs, fakes and fits: hours, where others take seconds.
DEAR = re.compile(r"faces|sample|fit")
PLACE = "benchmarks.methods.spectrum"
LINE = f'    "spectrum": ("{PLACE}:Spectrum", "{PLACE}:Options"),\n'
ADAPTER = (
    '    "dcgan": ("generators.adapters.gan:Gan", "generators.adapters.options:GanGenerator"),\n'
)
QUIET = [
    ("generators/base.py", '"""Draw standard normal noise', '"""Draw normal noise'),
    ("deepfd/train.py", "from __future__", "# A comment.\nfrom __future__"),
    ("pipeline/images.py", "FILTER = Image", "FILTER  =  Image"),
    ("benchmarks/methods/__init__.py", LINE, LINE + LINE.replace("spectrum", "new")),
    ("generators/__init__.py", ADAPTER, ADAPTER + ADAPTER.replace("dcgan", "new", 1)),
    ("generators/networks/pggan.py", "x.float().var(0", "x.double().var(0"),  # in training alone
    ("benchmarks/methods/dct.py", "import numpy", "UNUSED = 1\nimport numpy"),
    ("params.yaml", "seed: ", "# A comment.\nseed: "),
]


def test_edits_that_move_no_number_start_nothing(repo):
    """A method more among them: its file, and its line."""
    spectrum = repo.folder / "benchmarks/methods/spectrum.py"
    new = spectrum.with_name("new.py")
    new.write_text(spectrum.read_text().replace('Literal["spectrum"]', 'Literal["new"]'))
    with contextlib.ExitStack() as edits:
        edits.callback(new.unlink)
        for edit in QUIET:
            edits.enter_context(repo.edited(*edit))
        assert repo.started() == set()


def test_a_generator_starts_its_own_samples_alone(repo):
    with repo.edited("generators/networks/pggan.py", "x.float().square()", "x.double().square()"):
        assert repo.started() == {"sample@pggan"}
    with repo.edited("generators/weights/pggan.json", "{}", '{"width": 2}'):
        assert repo.started() == {"sample@pggan"}
    with repo.edited("generators/base.py", "manual_seed(seed)", "manual_seed(seed + 1)"):
        assert repo.started() == {"sample@dcgan", "sample@pggan"}


def test_the_rule_of_what_a_fit_may_see_starts_every_fit(repo):
    with repo.edited(
        "pipeline/params.py", "train_generators if name != generator)", "train_generators)"
    ):
        started = repo.started()
    assert fits(started) == fits(repo.names()) and fits(started)
    assert not {name for name in started - fits(started) if DEAR.match(name)}


def test_a_changed_default_starts_the_fits_that_have_the_option(repo):
    old = "width: PositiveInt = 64"
    with repo.edited("deepfd/options.py", old, old.replace("64", "32")):
        started = repo.started()
    assert fits(started) == fits(repo.names(), "npr") and fits(started)
    assert not {name for name in started - fits(started) if DEAR.match(name)}
    # And of a generator, its samples.
    old = "first_seed: NonNegativeInt = 0"
    with repo.edited("generators/adapters/options.py", old, old.replace("0", "9")):
        started = repo.started()
    assert stages(started, "sample") == stages(repo.names(), "sample")
    assert not stages(started, "faces")


def test_the_code_of_a_method_starts_its_fits_alone(repo):
    with repo.edited("benchmarks/methods/spectrum.py", "FLOOR = 1e-6", "FLOOR = 1e-5"):
        started = repo.started()
    assert fits(started) == fits(repo.names(), "spectrum") and fits(started)
    assert not {name for name in started - fits(started) if DEAR.match(name)}


def test_photographs_that_come_go_or_change_start_their_stage_alone(repo):
    assert repo.started() == set()
    new = repo.folder / "photographs/a/two.png"
    shutil.copy(repo.folder / "others/one.png", new)
    assert repo.started() == {"faces@ours"}
    new.unlink()
    assert repo.started() == set()
    other = repo.folder / "others/one.png"
    before, facts = other.read_bytes(), other.stat()
    Image.new("L", (64, 64), 9).save(other)
    assert repo.started() == {"faces@others"}
    other.write_bytes(before)
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert repo.started() == set()


def test_another_version_of_a_library_starts_what_computes_with_it(repo):
    # The first of this name on the path is the one that counts as installed.
    card = repo.folder / "torch-0.0.dist-info/METADATA"
    card.parent.mkdir()
    card.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.0\n")
    try:
        started = repo.started()
    finally:
        shutil.rmtree(card.parent)
    assert stages(started, "sample") == stages(repo.names(), "sample")
    assert fits(started) == {"fit@npr"}  # spectrum does without
    assert not started & {"faces@ours", "faces@others", "audit", "report"}


def test_a_gate_starts_no_fit_and_a_method_more_starts_its_own_alone(repo):
    with repo.edited("params.yaml", "collapse: 0.05", "collapse: 0.06"):
        assert repo.started() == {"audit", "report"}
    old = "\nmethods:\n"
    with repo.edited("params.yaml", old, f"{old}  dct:\n    method: dct\n"):
        started = repo.started()
    assert fits(started) == {"fit@dct"}
    assert not {name for name in started - fits(started) if DEAR.match(name)}


def test_modules_that_a_cheap_stage_reads_start_it(repo):
    with repo.edited("pipeline/seeds.py", ">> 1", ">> 2"):
        assert {"audit", "matrix"} <= repo.started()
    with repo.edited("pipeline/manifest.py", "def pixels(", "def pixels(_=0, /, *more)"
                     ": return 0\n\n\ndef pixels("):  # fmt: skip
        assert {"colour-study", "report"} <= repo.started()
    with repo.edited("benchmarks/page/report.html.j2", "<html", "<html "):
        assert repo.started() == {"report"}
    with repo.edited("params.yaml", "round: 0", "round: 1"):
        assert repo.started() == {"matrix", "history", "report"}


def test_a_misspelt_key_stops_dvc_repro_though_nothing_else_has_changed(repo):
    assert repo.started() == set()
    with repo.edited("params.yaml", "round: 0", "round: 0\nnonsense: 1"):
        done = repo.run(sys.executable, "-m", "dvc", "repro", check=False)
    assert done.returncode and "nonsense: unknown key" in done.stdout + done.stderr


def test_files_of_stages_that_are_gone_go_and_others_are_left_alone(repo):
    assert repo.started() == set()
    folder = repo.folder / "data/code"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "sample@gone.json").write_text("{}")
    assert repo.started() == set()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    described = json.loads((folder / "sample@pggan.json").read_text())
    assert described["libraries"]["torch"] and "tqdm" not in described["libraries"]


def test_the_stage_imports_neither_torch_nor_pandas():
    check = "import sys, pipeline.code; sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_a_listing_follows_links_once_and_knows_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.png").write_text("1")
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)
    found = code.listing(tmp_path)
    assert found["files"] == 1
    os.utime(tmp_path / "a/one.png", ns=(0, 0))
    assert code.listing(tmp_path)["digest"] != found["digest"]
    assert code.listing(tmp_path / "a/one.png")["files"] == 1
    assert code.listing(tmp_path / "absent") == {"files": 0}


# ---- the params that stages list

# Blocks that a stage's code can read and its result does not depend on.
EXCUSED = {
    "audit": {"fit", "methods"},  # read by `audit-reads`, the other half of the module
    "audit-reads": {"faces", "seed"},
    "colour-study": {"photographs"},  # asked for the folders of all, it takes the generators'
}
CALLS = {"load()", "load_params()", "params.load()"}


def blocks_read(tree, closure):
    """Blocks of params.yaml that the code of a closure takes of a `Params`."""
    found = set()
    for key in closure.shapes:
        name = key.partition(":")[2]
        if key.endswith(("import", "]")) or not name or key == "pipeline.params:Params":
            continue
        module = tree.module(tuple(key.partition(":")[0].split(".")))
        outer, _, method = name.partition(".")
        nodes = module.definitions.get(outer, module.main)
        if method:
            nodes = [one for one in nodes[0].body if getattr(one, "name", "") == method]
        of = {"self"} if key.startswith("pipeline.params:Params.") else set()
        for one in (one for node in nodes for one in ast.walk(node)):
            if isinstance(one, ast.arg) and one.annotation:
                of |= {one.arg} if ast.unparse(one.annotation).endswith("Params") else set()
            elif isinstance(one, ast.Assign) and ast.unparse(one.value) in CALLS:
                of |= {ast.unparse(target) for target in one.targets}
        for one in (one for node in nodes for one in ast.walk(node)):
            if isinstance(one, ast.Attribute) and ast.unparse(one.value) in of | CALLS:
                found |= {one.attr} if one.attr != "model_dump" else {*Params.model_fields}
    return found & Params.model_fields.keys() - {"method_sets"}


def test_stages_list_the_params_that_they_read(repo):
    values = yaml.safe_load((repo.folder / "params.yaml").read_text())
    checked, tree = parse(values), Tree(ROOT)
    for stage in code.stages(yaml.safe_load((ROOT / "dvc.yaml").read_text()), values):
        reached = tree.closure([stage.module], code.picks_of(stage, checked))
        listed = {key.partition(".")[0] for key in stage.keys["params.yaml"]}
        excused = EXCUSED.get(stage.name.partition("@")[0], set())
        assert blocks_read(tree, reached) - listed <= excused, stage.name


def test_a_training_depends_on_the_network_that_its_line_names(monkeypatch):
    monkeypatch.chdir(ROOT)
    params, tree = parse(yaml.safe_load((ROOT / "params.yaml").read_text())), Tree(ROOT)
    reached = {
        stage.name: tree.closure([stage.module], code.picks_of(stage, params)).describe()["code"]
        for stage in code.every_stage()
        if stage.name in ("train-celeba@dcgan", "train-celeba@dcgan_soft")
    }
    assert reached["train-celeba@dcgan"] == reached["train-celeba@dcgan_soft"]
    assert any("networks.dcgan" in name for name in reached["train-celeba@dcgan_soft"])
    assert not any("networks.pggan" in name for name in reached["train-celeba@dcgan_soft"])


def test_every_stage_depends_on_its_file():
    for path in code.DAGS:
        dag = yaml.safe_load((ROOT / path).read_text())
        for name, entry in dag["stages"].items():
            deps = [dep for dep in entry.get("do", entry).get("deps", ()) if "data/code/" in dep]
            assert name == code.STAGE or len(deps) == 1, name
            assert name == code.STAGE or re.match(rf"data/code/{name}(@.+)?\.json", deps[0])
            assert not any(dep.endswith(".py") for dep in entry.get("do", entry).get("deps", ()))


def test_make_clean_leaves_nothing_that_the_pipeline_made_but_what_is_committed(repo, tmp_path):
    for name in ("Makefile", ".gitignore", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=lambda *_: ["tmp", "cache"])
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    made = [tmp_path / path.relative_to(repo.folder) for path in repo.outs()]
    made += [tmp_path / name for name in ("data/code/a.json", "dvclive/a/x", ".dvc/cache/a/b")]
    made += [tmp_path / "dvc.lock"]
    kept = [tmp_path / name for name in (".venv/a", "generators/weights/a", "benchmarks/fit.py")]
    for path in (*made, *kept):
        file = path if path.suffix or path in kept else path / "part"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("made")
    # What is committed is git's: rows of earlier rounds cannot be made again.
    history = tmp_path / "benchmarks/history.parquet"
    subprocess.run(["git", "add", "-f", history], cwd=tmp_path, check=True)
    subprocess.run(["make", "-s", "clean"], cwd=tmp_path, check=True)
    status = ["git", "status", "--ignored", "--short", "--untracked-files=all"]
    listed = subprocess.run(status, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert [line for line in listed.splitlines() if line.startswith("!!")] == ["!! .venv/a"]
    assert all(path.exists() for path in kept)
    assert [path for path in made if path.exists()] == [history]
