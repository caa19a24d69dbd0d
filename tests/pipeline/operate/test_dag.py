import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.operate import dag

ROOT = Path(__file__).parents[3]


def test_every_stage_comes_after_those_it_needs_and_names_what_git_keeps(project, monkeypatch):
    monkeypatch.chdir(project)  # DVC names stages relative to the current folder
    stages = {stage.name: stage for stage in dag.read()}
    assert list(stages) == [
        *("sample@one", "sample@two", "folds", "fit@spectrum-one", "fit@spectrum-two"),
        *("matrix", "history", "report"),
    ]
    assert stages["folds"].needs == ("sample@one", "sample@two")
    assert stages["report"].needs == ("history", "matrix")
    assert stages["history"].in_git == ("benchmarks/history.parquet",)
    assert stages["matrix"].in_git == ()


# Beside the pipeline: trainings, of which one makes what a stage of the root reads.
TRAININGS = """
stages:
  long:
    cmd: sleep 10000 && touch long.out
    outs: [long.out]
  needed:
    cmd: touch needed.out
    outs: [needed.out]
"""
ROOT_STAGES = """
  code:
    cmd: python -c "import os; os.makedirs('data', exist_ok=True); open('data/code', 'w')"
    always_changed: true
    outs: [data/code]
  reader:
    cmd: touch reader.out
    deps: [data/code, trainings/needed.out]
    outs: [reader.out]
"""


def test_what_is_read_is_what_dvc_repro_runs(project, monkeypatch):
    (project / "trainings").mkdir()
    (project / "trainings/dvc.yaml").write_text(TRAININGS)
    with (project / "dvc.yaml").open("a") as file:
        file.write(ROOT_STAGES)
    monkeypatch.chdir(project)
    stages = {stage.name: stage for stage in dag.read()}
    code, lines = dag.execute(dag.command("repro"), str)
    assert code == 0, lines
    ran = [found[1] for line in lines if (found := re.match("Running stage '(.*)'", line))]
    assert set(stages) == set(ran)
    assert "trainings/dvc.yaml:needed" in stages  # and not `long`: it would sleep for hours
    assert stages["reader"].needs == ("code", "trainings/dvc.yaml:needed")
    assert [name for name, stage in stages.items() if stage.always] == ["code"]


def test_of_this_repository_the_stages_of_its_root_are_read_and_no_training(monkeypatch):
    monkeypatch.chdir(ROOT)
    listed = subprocess.run(
        dag.command("stage", "list", "--all", "--name-only"),
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    trainings = {name for name in listed if name.startswith("generators/dvc.yaml:train-")}
    assert trainings
    names = [stage.name for stage in dag.read()]
    assert len(names) == len(set(names))
    assert set(names) == set(listed) - trainings


def test_without_a_stage_all_that_need_it_go_too():
    stages = [
        dag.Stage("a", ()),
        dag.Stage("b", ("a",)),
        dag.Stage("c", ()),
        dag.Stage("d", ("b",)),
    ]
    assert [stage.name for stage in dag.without(stages, ["b"])] == ["a", "c"]


def test_a_stage_runs_once_and_then_has_nothing_new(project):
    lines = []
    assert dag.run("sample@one", lines.append, project) == dag.Outcome("ran")
    assert any(line.startswith("one: 50%|") for line in lines)
    assert dag.run("sample@one", lines.append, project) == dag.Outcome("unchanged")


def test_stages_side_by_side_all_reach_the_lock_file(project):
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(
            pool.map(lambda n: dag.run(n, str, project).status, ["sample@one", "sample@two"])
        )
    assert outcomes == ["ran", "ran"]
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    assert set(lock["stages"]) == {"sample@one", "sample@two"}


def test_what_a_killed_process_had_started_ends_with_it(tmp_path):
    stage = "import os, time; print(os.getpid()); time.sleep(600)"
    code = (
        "import sys; from pipeline.operate import dag\n"
        f"dag.execute([sys.executable, '-c', {stage!r}], print)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True
    )
    stage = psutil.Process(int(starter.stdout.readline()))
    starter.kill()
    starter.wait()
    psutil.wait_procs([stage], timeout=60)
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE


def test_a_failed_stage_says_its_own_last_error_and_whether_to_try_again(project):
    (project / "weights/one").write_text("damaged")
    expected = dag.Outcome("failed", "weights/one is damaged; restore it")
    assert dag.run("sample@one", str, project) == expected
    (project / "weights/two").write_text("offline")
    assert dag.run("sample@two", str, project) == dag.Outcome("retry", "the hub did not answer")


@pytest.mark.parametrize(
    ("code", "tail", "status"),
    [
        (0, ["Running stage 'a':", "> true"], "ran"),
        (0, ["Stage 'a' didn't change, skipping"], "unchanged"),
        (0, ["Stage 'a' is cached - skipping run, checking out outputs"], "restored"),
        (255, ["ERROR: failed to reproduce 'a': failed to run: b, exited with 75"], "retry"),
        (255, ["ERROR: failed to reproduce 'a': failed to run: b, exited with 1"], "failed"),
        (255, ["ERROR: 'x' is busy, it is being blocked by:", "  (PID 1): dvc"], "busy"),
        (-9, [], "failed"),
    ],
)
def test_an_outcome_is_told_from_what_dvc_says(code, tail, status):
    assert dag.outcome(code, tail).status == status


def test_a_progress_bar_is_seen_while_it_moves():
    script = (
        "import sys, time\n"
        "for p in (10, 20): print(f'\\r{p}%|', end='', flush=True); time.sleep(1)\n"
    )
    start, seen = time.monotonic(), {}
    dag.execute(
        [sys.executable, "-c", script], lambda line: seen.setdefault(line, time.monotonic())
    )
    assert list(seen) == ["10%|", "20%|"]
    assert time.monotonic() - seen["10%|"] > 0.5, time.monotonic() - start


def test_stopping_ends_a_command_and_its_children():
    started, ended = threading.Event(), threading.Event()

    def wait_for_it():
        dag.execute(["sh", "-c", "sleep 60 & echo $!; wait"], pids.append_and(started))
        ended.set()

    class Pids(list):
        def append_and(self, event):
            return lambda line: (self.append(int(line)), event.set())

    pids = Pids()
    threading.Thread(target=wait_for_it, daemon=True).start()
    assert started.wait(20)
    dag.stop_all()
    assert ended.wait(20)
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pids[0])], capture_output=True, text=True, check=False
    ).stdout
    assert not state or state.startswith("Z")


def test_no_stage_imports_prefect():
    modules = re.findall(r"python -m ([\w.]+)", (ROOT / "dvc.yaml").read_text())
    assert "generators.sample" in modules
    check = f"import sys, {', '.join(sorted(set(modules)))}; sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
