import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import UserError
from pipeline.operate import growth

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copy(tmp_path):
    """Copy the project's params.yaml."""
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    return path


def test_growth_changes_the_digits_and_nothing_else(copy):
    before, old = copy.read_text(), params.load(copy)
    first, *others = old.generators
    new = growth.grow(40, [first], copy)
    assert new.round == old.round + 1
    assert new.generators[first].images == old.generators[first].images + 40
    assert all(new.generators[name] == old.generators[name] for name in others)
    assert params.load(copy) == new
    changed = [
        (a, b)
        for a, b in zip(before.splitlines(), copy.read_text().splitlines(), strict=True)
        if a != b
    ]
    assert len(changed) == 2
    for a, b in changed:
        assert [c for c in a if not c.isdigit()] == [c for c in b if not c.isdigit()]


def test_growth_refuses_a_number_that_is_shared(copy):
    name, *_ = params.load(copy).generators
    head, found, tail = copy.read_text().partition("images: ")
    copy.write_text(f"{head}{found}&n {tail}")
    before = copy.read_text()
    with pytest.raises(UserError, match=rf"generators\.{name}\.images is not a plain number"):
        growth.grow(40, [name], copy)
    assert copy.read_text() == before


def test_one_run_per_checkout(tmp_path):
    lock = tmp_path / "lock"
    with growth.checkout("id-1", "brave-cat", lock) as killed:
        assert killed is None
        with pytest.raises(growth.Busy, match="brave-cat"), growth.checkout("id-2", "b", lock):
            pass
    with growth.checkout("id-3", "c", lock) as killed:
        assert killed is None


def test_a_killed_run_frees_the_checkout_and_leaves_its_name(tmp_path):
    script = (
        "import sys; from pathlib import Path; from pipeline.operate import growth\n"
        "with growth.checkout('id-1', 'a', Path(sys.argv[1])): print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(growth.Busy), growth.checkout("id-2", "b", tmp_path / "lock"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with growth.checkout("id-2", "b", tmp_path / "lock") as killed:
        assert killed == "id-1"


def test_a_commit_takes_its_own_files_and_leaves_what_else_is_staged(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "params.yaml").write_text("round: 1\n")
    (project / "mine.txt").write_text("staged by someone else")
    subprocess.run(["git", "add", "mine.txt"], check=True)
    # As in the repository: git refuses what its .gitignore names, a small output of DVC among it.
    shutil.copy(ROOT / ".gitignore", ".")
    Path("data").mkdir()
    Path("data/folds.json").write_text("{}")
    assert growth.commit(["params.yaml", "absent", "data/folds.json"], "Round 1")
    git = ["git", "show", "--name-only", "--format=%s"]
    shown = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split()
    assert shown == ["Round", "1", "params.yaml"]
    staged = subprocess.run(["git", "diff", "--cached", "--name-only"], capture_output=True)
    assert staged.stdout == b"mine.txt\n"
    assert growth.commit(["params.yaml", "data/folds.json"], "again") is None
