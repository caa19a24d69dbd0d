"""Flow `generate-and-train`: rounds of growth over the DVC graph, run and watched by Prefect.

    python -m pipeline.operate.serve                                     (make serve)
    prefect deployment run generate-and-train/local -p rounds=3 --watch

A round asks every generator for more images (in params.yaml), runs the stages of the DVC graph as
tasks of the same names, and publishes. DVC decides what is up to date, so a round that was stopped
at any point is taken up where it was, and `dvc repro` by hand finds nothing left to do. No stage
imports this module: `dvc repro` alone never needs Prefect.
"""

import base64
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.futures import wait
from prefect.runtime import flow_run
from prefect.states import Completed, Crashed, Failed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff
from pydantic import Field

from benchmarks import readings
from pipeline import params
from pipeline.errors import UserError
from pipeline.operate import dag, growth, history

NOTHING_NEW, FROM_CACHE, NETWORK_LOST = "Nothing new", "From cache", "Network lost"
REPORT = Path("benchmarks/report")
# Where the report is served; set by pipeline.operate.serve.
REPORT_URL = "DEEPFD_REPORT_URL"
# A stage says its percentages many times a second; the log and the artifact follow at this pace.
LOG_SECONDS, PROGRESS_SECONDS, BUSY_SECONDS = 15.0, 2.0, 5.0
PERCENT = re.compile(r"(\d{1,3})%\|")
# The stage that belongs to one method.
METHOD_STAGE = re.compile(r"fit@(\w+)")

# What pipeline.audit says first when it stops a run: "2 gates failed: overlap of real: ...".
GATE_FAILED = re.compile(r"\d+ gates? failed: (.{1,60}?) of ")

Names = list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]]
Engine = Annotated[str, Field(pattern=r"^(threads|dask|(tcp|tls|ucx|ws|wss)://\S+)$")]


def _network_lost(_task: object, _run: object, state: State) -> bool:
    return state.name == NETWORK_LOST


def _follow(name: str) -> Callable[[str], None]:
    """Return what takes a stage's lines: into the log, live, percentages into an artifact."""
    logger = get_run_logger()
    artifact: UUID | None = None
    last, logged, updated = -1.0, 0.0, 0.0

    def on_line(line: str) -> None:
        nonlocal artifact, last, logged, updated
        if not (found := PERCENT.search(line)):
            logger.info(line)
            return
        percent, now = min(float(found[1]), 100.0), time.monotonic()
        if now - logged >= LOG_SECONDS or (percent == 100 and last < 100):
            logger.info(line)
            logged = now
        if percent == last or (now - updated < PROGRESS_SECONDS and percent < 100):
            return
        last, updated = percent, now
        if artifact is None:
            key = "progress-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
            artifact = create_progress_artifact(percent, key=key, description=name)
        else:
            update_progress_artifact(artifact, percent)

    return on_line


def _state(name: str, outcome: dag.Outcome) -> State:
    """Name what happened to a stage."""
    match outcome.status:
        case "ran":
            return Completed(message=f"{name} ran")
        case "restored":
            return Completed(name=FROM_CACHE, message=f"{name}: DVC had this result already")
        case "unchanged":
            return Completed(name=NOTHING_NEW, message=f"{name} is up to date")
        case "retry":
            return Failed(name=NETWORK_LOST, message=outcome.message)
    gate = GATE_FAILED.match(outcome.message)
    return Failed(name=gate and f"Gate failed: {gate[1]}", message=outcome.message)


@task(
    name="stage",
    cache_policy=NO_CACHE,  # caching is DVC's
    retries=6,
    retry_condition_fn=_network_lost,
)
def stage(name: str, root: str) -> State:
    """Bring one stage of the DVC graph up to date.

    Args:
        name: the stage as DVC addresses it.
        root: folder of the project; a worker elsewhere sees it through a shared file system.
    """
    on_line = _follow(name)
    while (outcome := dag.run(name, on_line, Path(root))).status == "busy":
        # `dvc repro` by hand, or a stage that outlived its killed run: nothing of it gets lost.
        get_run_logger().warning("Waiting: %s", outcome.message)
        time.sleep(BUSY_SECONDS)
    return _state(name, outcome)


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)
def publish(number: int) -> State:
    """Show the round: the matrix as a table, the report as a link, the heat map as an image."""
    results = pd.read_parquet(readings.RESULTS)
    cells = readings.left_out(results)
    table = cells.pivot_table(index="method", columns="held_out", values="recall", sort=False)
    create_table_artifact(
        table.round(3).reset_index().to_dict("records"),
        key="matrix",
        description=f"Round {number}: recall of fakes of the generator that was held out",
    )
    base = os.environ.get(REPORT_URL) or REPORT.resolve().as_uri()
    create_link_artifact(f"{base}/index.html", link_text=f"Report of round {number}", key="report")
    picture = base64.b64encode((REPORT / "matrix.png").read_bytes()).decode()
    create_image_artifact(
        f"data:image/png;base64,{picture}", key="heat-map", description=f"Round {number}"
    )
    return Completed(message=f"round {number}: {len(table)} methods, {table.shape[1]} held out")


@task(name="commit", task_run_name="commit", cache_policy=NO_CACHE)
def commit_round(number: int, paths: list[str]) -> State:
    """Commit what git keeps of a round: params.yaml, dvc.lock, history and the small outputs."""
    made = growth.commit(paths, f"Round {number} of generate-and-train")
    if made is None:
        return Completed(name=NOTHING_NEW, message="nothing to commit")
    return Completed(message=f"commit {made}")


@task(
    name="push",
    task_run_name="push",
    cache_policy=NO_CACHE,
    retries=6,
    retry_condition_fn=_network_lost,
)
def push_round() -> State:
    """Send what DVC keeps to the default remote. What is there already is not sent again."""
    code, tail = dag.execute(dag.command("push"), get_run_logger().info)
    if code == 0:
        return Completed(message=tail[-1] if tail else "pushed")
    return Failed(name=NETWORK_LOST, message=dag.outcome(code, tail).message)


@flow(name="round", flow_run_name="round-{number}", validate_parameters=False)
def one_round(
    number: int, dropped: list[str], with_commit: bool, with_push: bool, delay: float
) -> State:
    """Run the stages of the graph as tasks, then publish.

    Args:
        number: the round, as params.yaml counts.
        dropped: methods whose stages, and all that need these, are left out.
        with_commit: whether to commit to git.
        with_push: whether to push to the DVC remote.
        delay: seconds before a lost network is tried again; doubled each time.
    """
    graph = dag.read()
    chosen = dag.without(
        graph,
        [s.name for s in graph if (m := METHOD_STAGE.match(s.name)) and m[1] in dropped],
    )
    root, backoff = str(Path.cwd()), exponential_backoff(delay)
    futures = {}
    for each in chosen:
        named = stage.with_options(
            name=each.name, task_run_name=each.name, retry_delay_seconds=backoff
        )
        needs = [futures[name] for name in each.needs]
        futures[each.name] = named.submit(each.name, root, wait_for=needs)
    wait(list(futures.values()))
    states = {name: future.state for name, future in futures.items()}

    # A failed stage fails the round; those that it kept from running say so themselves.
    if bad := {n: s for n, s in states.items() if s.is_failed() or s.is_crashed()}:
        message = "; ".join(f"{name}: {state.message}" for name, state in bad.items())
        return Failed(name=next(iter(bad.values())).name, message=message)
    if unfinished := [name for name, state in states.items() if not state.is_completed()]:
        return Failed(message=f"not run: {', '.join(unfinished)}")
    # Stages that run each time (they look whether anything has changed) say nothing about a round.
    always = {each.name for each in chosen if each.always}
    counts = Counter(state.name for name, state in states.items() if name not in always)
    words = {"Completed": "ran", NOTHING_NEW: "had nothing new", FROM_CACHE: "were in the cache"}
    summary = "stages: " + ", ".join(f"{n} {words[name]}" for name, n in counts.items())
    if len(chosen) < len(graph):
        left = ", ".join(s.name for s in graph if s.name not in states)
        return Completed(name="Partial", message=f"{summary}; left out: {left}")

    publish(number)
    if with_commit:
        kept = [path for each in graph for path in each.in_git]
        commit_round(number, ["params.yaml", "dvc.lock", "profiles", *kept])
    if with_push and dag.remote():
        pushed = push_round.with_options(retry_delay_seconds=backoff)(return_state=True)
        if not pushed.is_completed():
            return Failed(name=pushed.name, message=f"push: {pushed.message}")
    name = NOTHING_NEW if set(counts) == {NOTHING_NEW} else None
    return Completed(name=name, message=summary)


def task_runner(engine: str, concurrency: int) -> TaskRunner:
    """Return what runs the stages: threads of this process, or workers of a Dask cluster.

    Args:
        engine: `threads`, `dask` (a cluster of this machine), or the address of a scheduler.
        concurrency: stages at a time; a cluster with an address has its own number of workers.

    Raises:
        UserError: the extra is not installed.
    """
    if engine == "threads":
        return ThreadPoolTaskRunner(max_workers=concurrency)
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError:
        raise UserError(f"engine {engine} needs Dask: pip install -e '.[dask]'") from None
    if engine == "dask":
        cluster = {"n_workers": concurrency, "threads_per_worker": 1, "dashboard_address": None}
        return DaskTaskRunner(cluster_kwargs=cluster)
    return DaskTaskRunner(address=engine)


def _end_with_server() -> None:
    """End this process when that of `make serve` was killed: it took the server with it."""
    if parent := multiprocessing.parent_process():  # none for a worker's run, or one by hand

        def wait_for_end() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGKILL)  # the next one marks the run as crashed

        threading.Thread(target=wait_for_end, daemon=True).start()


def mark_crashed(run_id: str) -> None:
    """Tell the server that a run was killed, with the round it was in and that round's stages."""
    crashed = Crashed(message="the process was killed; the next run goes on where this one was")
    going = {"type": {"any_": ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]}}
    with get_client(sync_client=True) as client:
        for which in ("id", "parent_flow_run_id"):
            found = FlowRunFilter.model_validate({which: {"any_": [run_id]}, "state": going})
            for run in client.read_flow_runs(flow_run_filter=found):
                stages = client.read_task_runs(
                    flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
                    task_run_filter=TaskRunFilter.model_validate({"state": going}),
                )
                for task_run in stages:
                    client.set_task_run_state(task_run.id, crashed, force=True)
                client.set_flow_run_state(run.id, crashed, force=True)


@flow(name="generate-and-train")
def generate_and_train(
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 1,
    images_per_round: Annotated[int, Field(ge=0, le=10_000_000)] = 100,
    generators: Annotated[Names, Field(min_length=1)] | None = None,
    methods: Annotated[Names, Field(min_length=1)] | None = None,
    push: bool = True,
    commit: bool = False,
    until: Annotated[int, Field(ge=1)] | None = None,
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 2,
    engine: Engine = "threads",
    retry_delay: Annotated[float, Field(ge=0, le=3600)] = 20,
) -> State:
    """Grow the data round by round; train and measure every detector on it.

    Args:
        rounds: how many rounds to run; one that was cut short is finished first and counts.
        images_per_round: images that a round adds per generator; 0 only brings all up to date.
        generators: those that grow, by default all that are trained on; the others keep theirs.
        methods: detectors to fit; all by default. The matrix needs all, so with fewer the round
            stays open until a run with all of them.
        push: push to the DVC remote, where one is set.
        commit: commit dvc.lock, params.yaml and the history to git after each round.
        until: stop when the worst held-out recall did not improve over so many rounds.
        concurrency: how many stages run at a time.
        engine: threads, dask (workers on this machine) or the address of a Dask scheduler.
        retry_delay: seconds before a lost network is tried again; each next wait is twice as long.
    """
    _end_with_server()
    try:
        run = params.load()
        _check(run, rounds, generators, methods)
        runner = task_runner(engine, concurrency)
        with growth.checkout(flow_run.id or "", flow_run.name or "") as killed:
            if killed:
                mark_crashed(killed)
            dropped = [name for name in run.methods if methods and name not in methods]
            numbers = []
            while len(numbers) < rounds:
                number = _next_round(images_per_round, generators)
                state = one_round.with_options(task_runner=runner)(
                    number, dropped, commit, push, retry_delay, return_state=True
                )
                if not state.is_completed():
                    return Failed(name=state.name, message=f"round {number}: {state.message}")
                numbers.append(number)
                if until and history.stalled(history.read(), until):
                    message = f"worst held-out recall did not improve over {until} rounds"
                    return Completed(name="No improvement", message=message)
            # A state of its own ("Nothing new", "Partial") says most of a run of one round.
            name = state.name if rounds == 1 else None
            message = f"rounds {numbers[0]} to {numbers[-1]}; the last: {state.message}"
            return Completed(name=name, message=message)
    except growth.Busy as error:
        return Failed(name="Refused", message=str(error))
    except UserError as error:
        return Failed(message=str(error))
    finally:
        dag.stop_all()  # nothing runs here any more, unless the run was cancelled


def _check(
    run: params.Params, rounds: int, generators: Names | None, methods: Names | None
) -> None:
    """Refuse names that params.yaml has not, and rounds that could not end.

    Raises:
        UserError: which name, and the known ones.
    """
    for kind, names, known in (
        ("generators", generators, run.generators),
        ("methods", methods, run.methods),
    ):
        if unknown := [name for name in names or () if name not in known]:
            raise UserError(
                f"{kind}: {', '.join(unknown)} unknown; params.yaml has {', '.join(known)}"
            )
    if rounds > 1 and methods and set(methods) != set(run.methods):
        raise UserError(
            f"rounds is {rounds} and methods a part: a round ends with the matrix, which needs all "
            "methods; set rounds to 1, or take the others out of params.yaml"
        )


def _next_round(step: int, generators: Names | None) -> int:
    """Grow, unless a round is still open, and return the number of the round to run.

    A round is open from the edit of params.yaml until its rows are in the history.
    """
    run = params.load()
    is_open = run.round > 0 and run.round not in set(history.read()["round"])
    if is_open:
        get_run_logger().info("Round %d is not finished: going on with it", run.round)
    elif step:
        run = growth.grow(step, generators or run.train_generators)
    return run.round
