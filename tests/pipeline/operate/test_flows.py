"""The flow against a real server (SQLite, a free port), on a small real DVC project."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pandas as pd
import psutil
import pytest

from pipeline.operate import dag, growth

# A busy machine takes its time to start servers.
pytestmark = pytest.mark.timeout(1800)

STAGES = [
    *("sample@one", "sample@two", "folds", "fit@spectrum-one", "fit@spectrum-two"),
    *("matrix", "history", "report"),
]


def dvc(project, *arguments):
    code, lines = dag.execute([sys.executable, "-m", "dvc", *arguments], str, project)
    assert code == 0, lines
    return "\n".join(lines)


def wait_until(condition, seconds=900):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return value


def is_alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class Serving:
    """`python -m pipeline.operate.serve` in a project, and its API."""

    def __init__(self, project, home):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.project, self.log = project, home / "serve.log"
        self.url = f"http://127.0.0.1:{port}/api"
        self.env = {
            **os.environ,
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        self.servers = []

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.operate.serve"],
            cwd=self.project, env=self.env, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_until(lambda: "another terminal" in self.log.read_text() or self.process.poll())
        assert self.process.poll() is None, self.log.read_text()
        self.servers = self._family(of_server=True)
        wait_until(lambda: self.api("deployments/filter", {}))

    def _family(self, of_server):
        me = psutil.Process(self.process.pid)
        # (A zombie has no command line: it is none of those that are looked for.)
        alive = [one for one in me.children() if one.status() != psutil.STATUS_ZOMBIE]
        servers = [child for child in alive if "server" in child.cmdline()]
        theirs = {p.pid for server in servers for p in (server, *server.children(recursive=True))}
        return [p for p in me.children(recursive=True) if (p.pid in theirs) == of_server]

    def kill(self):
        """Kill -9 the process in the middle; server, run and stage end of themselves."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        assert any("repro" in process.cmdline() for process in family)
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not any(map(is_alive, family)))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def api(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as reply:
            return json.loads(reply.read() or "null")

    def run(self, *arguments):
        return subprocess.run(
            [
                *(sys.executable, "-m", "prefect", "deployment", "run"),
                *("generate-and-train/local", *arguments),
            ],
            cwd=self.project, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def runs(self):
        found = self.api("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        return {run["name"]: run for run in found}

    def flows(self):
        """Runs of the deployment, in order."""
        return [run for run in self.runs().values() if run["deployment_id"]]


@pytest.fixture(scope="module")
def serving(new_project, tmp_path_factory):
    """Have a served project with a remote; `two` makes 20 images in 1.5 s."""
    serving = Serving(new_project(slow=15), tmp_path_factory.mktemp("prefect"))
    dvc(serving.project, "remote", "add", "-d", "store", str(tmp_path_factory.mktemp("remote")))
    try:
        serving.start()
        yield serving
        if serving.process.poll() is None:
            serving.stop()
    finally:
        for process in serving.servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_two_rounds_of_a_deployment_leave_nothing_for_dvc_and_all_of_them_in_prefect(serving):
    done = serving.run(
        "-p", "rounds=2", "-p", "images_per_round=20", "-p", "commit=true", "--watch"
    )
    log = serving.log.read_text()
    assert done.returncode == 0, done.stdout + log
    (flow,) = serving.flows()
    assert flow["state"]["type"] == "COMPLETED"

    # By hand there is nothing left to do, and git has it all.
    assert "Data and pipelines are up to date." in dvc(serving.project, "repro")
    text = (serving.project / "params.yaml").read_text()
    assert text.startswith("# kept\n")
    assert re.findall(r"\bround: (\d+)|\bimages: (\d+)", text) == [
        ("2", ""),
        ("", "80"),
        ("", "80"),
    ]
    git = subprocess.run(
        ["git", "log", "--format=%s"], cwd=serving.project, capture_output=True, text=True
    )
    assert git.stdout.splitlines()[:2] == [f"Round {n} of generate-and-train" for n in (2, 1)]
    assert not dvc(serving.project, "diff", "HEAD").strip()
    table = pd.read_parquet(serving.project / "benchmarks/history.parquet")
    assert table["round"].tolist() == [1, 1, 2, 2]
    assert table["images"].tolist() == [120, 120, 160, 160]

    # What the operator sees.
    tasks = serving.api("task_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
    names = [task["name"] for task in tasks if not task["name"].startswith("round-")]
    assert sorted(names) == sorted([*STAGES, "publish", "commit", "push"] * 2)
    assert "in sync" in dvc(serving.project, "status", "--cloud")
    artifacts = serving.api("artifacts/filter", {"artifacts": {"type": {"not_any_": ["result"]}}})
    by_key = {}
    for artifact in artifacts:
        by_key.setdefault(artifact["key"], []).append(artifact)
    assert len(by_key["matrix"]) == len(by_key["report"]) == len(by_key["heat-map"]) == 2
    rows = [row for each in by_key["matrix"] for row in json.loads(each["data"])]
    assert {row["method"] for row in rows} == {"spectrum"}
    assert by_key["heat-map"][0]["data"].startswith("data:image/png;base64,")
    link = re.search(r"\((http[^)]+)\)", by_key["report"][0]["data"])[1]
    with urlopen(link, timeout=30) as reply:
        assert b"report" in reply.read()
    assert all(each["data"] == 100 for each in by_key["progress-sample-two"])
    logs = serving.api("logs/filter", {"limit": 200, "sort": "TIMESTAMP_ASC"})
    assert any(line["message"].startswith("> python stages.py sample two") for line in logs)


def test_parameters_out_of_range_are_refused_before_a_run_starts(serving):
    (deployment,) = serving.api("deployments/filter", {})
    before = len(serving.flows())
    for wrong in ({"rounds": 0}, {"generators": ["No Name"]}, {"engine": "fog"}):
        with pytest.raises(HTTPError):
            serving.api(f"deployments/{deployment['id']}/create_flow_run", {"parameters": wrong})
    assert serving.run("-p", "rownds=1").returncode  # the API alone would let it through
    assert len(serving.flows()) == before


def test_a_killed_round_is_seen_as_crashed_and_ends_as_if_undisturbed(serving, new_project):
    parts = serving.project / "data/manifests/two"
    there = len(list(parts.iterdir()))
    started = serving.run("-p", "images_per_round=60")
    assert started.returncode == 0, started.stdout + started.stderr
    wait_until(lambda: len(list(parts.iterdir())) > there)
    serving.kill()
    assert len(list(parts.iterdir())) < there + 3, "killed too late to test anything"

    serving.start()
    crashed = wait_until(
        lambda: [name for name, r in serving.runs().items() if r["state"]["type"] == "CRASHED"]
    )
    assert crashed == [serving.flows()[-1]["name"], "round-3"]
    tasks = serving.api("task_runs/filter", {})
    assert not [task["name"] for task in tasks if task["state"]["type"] in ("RUNNING", "PENDING")]
    done = serving.run("-p", "images_per_round=60", "--watch")
    assert done.returncode == 0, serving.log.read_text()

    # The open round was finished, not grown again: every image and every row is there once.
    undisturbed = new_project()
    text = (serving.project / "params.yaml").read_text()
    assert re.findall(r"\bround: (\d+)|\bimages: (\d+)", text)[0] == ("3", "")
    (undisturbed / "params.yaml").write_text(text.replace("first_seed: 15", "first_seed: 0"))
    dvc(undisturbed, "repro", "folds")
    digests = [
        (folder / "data/folds.json").read_text() for folder in (serving.project, undisturbed)
    ]
    assert digests[0] == digests[1]
    table = pd.read_parquet(serving.project / "benchmarks/history.parquet")
    assert table["round"].tolist() == [1, 1, 2, 2, 3, 3]
    assert "Data and pipelines are up to date." in dvc(serving.project, "repro")


@pytest.fixture
def flow(serving, monkeypatch):
    """Run the flow in this process, in a project, against the same server; returns the state."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    from pipeline.operate.flows import generate_and_train

    def run(project, **parameters):
        monkeypatch.chdir(project)
        return generate_and_train(**parameters, return_state=True)

    settings = {PREFECT_API_URL: serving.url, PREFECT_HOME: serving.env["PREFECT_HOME"]}
    with temporary_settings(settings):
        yield run


def test_a_failed_stage_fails_the_round_and_leaves_the_rest_alone(flow, project):
    dvc(project, "repro")
    results = (project / "benchmarks/results.parquet").read_bytes()
    (project / "weights/two").write_text("damaged")
    state = flow(project, images_per_round=20)
    assert state.is_failed()
    assert state.message == "round 1: sample@two: weights/two is damaged; restore it"
    assert len(list((project / "data/manifests/one").iterdir())) == 3  # independent: finished
    assert (project / "benchmarks/results.parquet").read_bytes() == results

    # A failed gate names the state.
    (project / "weights/two").write_text("leaky")
    state = flow(project, images_per_round=20)
    assert (state.name, state.type.value) == ("Gate failed: overlap", "FAILED")

    # A lost network is tried again; the round is the same one, and grows no further.
    (project / "weights/two").write_text("offline")
    state = flow(project, images_per_round=20, retry_delay=0.1)
    assert state.is_completed(), state.message
    assert re.findall(r"\bimages: (\d+)", (project / "params.yaml").read_text()) == ["60", "60"]
    assert flow(project, images_per_round=0).name == "Nothing new"


ALWAYS = """
  code:
    cmd: python -c "from pathlib import Path; Path('code.out').write_text('same')"
    always_changed: true
    outs: [code.out]
"""


def test_a_stage_that_runs_each_time_is_nothing_new(flow, project):
    with (project / "dvc.yaml").open("a") as file:
        file.write(ALWAYS)
    first = flow(project, images_per_round=0)
    assert (first.name, first.message.split("stages: ")[1]) == ("Completed", f"{len(STAGES)} ran")
    second = flow(project, images_per_round=0)
    assert second.name == "Nothing new"
    assert second.message.endswith(f"{len(STAGES)} had nothing new")


def test_a_second_run_on_a_checkout_is_refused(flow, project):
    before = (project / "params.yaml").read_bytes()
    with growth.checkout("other", "brave-cat", project / growth.LOCK):
        state = flow(project)
    assert state.is_failed()
    assert state.name == "Refused"
    assert "brave-cat works on this checkout" in state.message
    assert (project / "params.yaml").read_bytes() == before


def test_names_that_params_has_not_are_refused(flow, project):
    assert "generators: three unknown; params.yaml has one, two" in (
        flow(project, generators=["three"]).message
    )


@pytest.mark.long
def test_rounds_end_when_the_worst_recall_stops_improving(flow, project):
    for name in ("one", "two"):
        (project / "weights" / name).write_text("flat")
    state = flow(project, rounds=5, images_per_round=20, until=1)
    assert (state.name, state.type.value) == ("No improvement", "COMPLETED")
    assert pd.read_parquet(project / "benchmarks/history.parquet")["round"].tolist() == [1, 1, 2, 2]


@pytest.mark.long
def test_stopping_ends_a_run_in_hand_and_tells_the_server_before_that_stops(serving):
    parts = serving.project / "data/manifests/two"
    there = len(list(parts.iterdir())) if parts.exists() else 0
    assert serving.run("-p", "images_per_round=200").returncode == 0
    wait_until(lambda: parts.exists() and len(list(parts.iterdir())) > there)
    family = psutil.Process(serving.process.pid).children(recursive=True)
    assert serving.stop() == 0
    wait_until(lambda: not any(map(is_alive, family)), 30)
    assert "connection attempts failed" not in serving.log.read_text()
    serving.start()
    assert serving.flows()[-1]["state"]["type"] == "CRASHED"


@pytest.mark.long
def test_the_same_digests_on_two_workers_of_a_dask_cluster(flow, project, new_project):
    pytest.importorskip("prefect_dask")
    state = flow(project, images_per_round=20, engine="dask")
    assert state.is_completed(), state.message
    by_hand = new_project()
    (by_hand / "params.yaml").write_bytes((project / "params.yaml").read_bytes())
    dvc(by_hand, "repro")
    locks = [(folder / "dvc.lock").read_text() for folder in (project, by_hand)]
    results = [re.findall(r"path: (\S+)\n(?: .*\n)*? +md5: (\S+)", lock) for lock in locks]
    assert sorted(results[0]) == sorted(results[1])


@pytest.mark.long
def test_prefect_adds_less_than_10_s_and_1_s_per_stage(serving, new_project):
    by_hand = new_project(slow=15)
    dvc(by_hand, "repro")
    growth.grow(20, ["one", "two"], by_hand / "params.yaml")
    start = time.monotonic()
    dvc(by_hand, "repro")
    alone = time.monotonic() - start

    start = time.monotonic()
    done = serving.run("-p", "images_per_round=20", "-p", "concurrency=1", "--watch")
    flow = time.monotonic() - start
    assert done.returncode == 0, done.stdout
    print(
        f"\ndvc repro alone {alone:.1f} s, the same by the flow {flow:.1f} s, {len(STAGES)} stages"
    )
    assert flow - alone < 10 + 1 * len(STAGES)


@pytest.mark.long
def test_twenty_rounds_grow_neither_in_memory_nor_in_time(serving):
    asked = ("rounds=20", "images_per_round=20", 'generators=["one"]')
    done = serving.run(*(word for each in asked for word in ("-p", each)))
    assert done.returncode == 0, done.stdout
    mine = psutil.Process(serving.process.pid)
    sizes = {"server": [], "serve": [], "flow": []}
    before = len(serving.runs())
    while serving.flows()[-1]["state"]["type"] not in ("COMPLETED", "FAILED", "CRASHED"):
        if len(serving.runs()) > before:  # once a round
            before = len(serving.runs())
            sizes["server"].append(max(p.memory_info().rss for p in serving.servers))
            sizes["serve"].append(mine.memory_info().rss)
            # Stages come and go: the run itself is the child that started them.
            flows = [p for p in mine.children() if p not in serving.servers]
            sizes["flow"].append(max((p.memory_info().rss for p in flows), default=0))
        time.sleep(1)
    assert serving.flows()[-1]["state"]["type"] == "COMPLETED"
    of_stage = {
        "task_runs": {"name": {"any_": ["sample@two"]}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    noop = [
        task["total_run_time"]
        for task in serving.api("task_runs/filter", of_stage)
        if task["state"]["name"] == "Nothing new"
    ]
    assert len(noop) >= 19  # the first round may have had it to make
    figures = {f"{name}, MB": [size / 1e6 for size in each] for name, each in sizes.items()}
    for name, values in {**figures, "no-op stage, s": noop}.items():
        early, late = (sum(part) / 5 for part in (values[2:7], values[-5:]))
        print(f"\n{name}: rounds 3 to 7 {early:.2f}, the last 5 {late:.2f}", end="")
        assert late < 1.25 * early, name
