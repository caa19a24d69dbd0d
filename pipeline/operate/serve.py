"""`make serve`: a Prefect server, and a process that runs what is asked of it, in one command.

    python -m pipeline.operate.serve [--cron "0 3 * * *"] [--param rounds=3 ...]

The server's address is PREFECT_API_URL, by default what pyproject.toml says, so that `prefect` in
the folder of the project finds it too. A server that answers there already is used; otherwise one
is started here and stopped with this process. It keeps its data in ~/.prefect (SQLite), or where
PREFECT_SERVER_DATABASE_CONNECTION_URL says (PostgreSQL).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

# Before Prefect reads its settings: nothing is reported to its makers, and the server is told every
# half minute that a run is alive.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
# SQLite has one writer at a time: on a busy machine it waits rather than losing what it was told.
os.environ.setdefault("PREFECT_SERVER_DATABASE_TIMEOUT", "60")
os.environ.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT", "60")

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.settings import PREFECT_API_URL
from prefect.types.entrypoint import EntrypointType

from pipeline.errors import UserError, one_line
from pipeline.operate import growth, leash
from pipeline.operate.flows import REPORT, REPORT_URL, generate_and_train, mark_crashed

DEFAULT_URL = "http://127.0.0.1:4200/api"
START_SECONDS, STOP_SECONDS = 600, 30
# A run that has sent no heartbeat for so long is dead.
SILENCE = timedelta(seconds=150)


def answers(url: str) -> bool:
    """Whether a Prefect server answers at an API's URL."""
    try:
        with urlopen(f"{url}/health", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


@contextlib.contextmanager
def server(url: str) -> Iterator[None]:
    """Have a Prefect server at `url`: the one that is there, or one started for the `with` block.

    Raises:
        UserError: no server answers and none can be started there.
    """
    if answers(url):
        print(f"Using the Prefect server at {url}", flush=True)
        yield
        return
    where = urlsplit(url)
    if where.hostname not in ("127.0.0.1", "localhost", "0.0.0.0", "::1"):
        raise UserError(f"no Prefect server answers at {url} (PREFECT_API_URL); start it there")
    process = subprocess.Popen(
        leash.command(
            [
                *(sys.executable, "-m", "prefect", "server", "start", "--host"),
                *(where.hostname, "--port", str(where.port or 4200)),
            ],
            STOP_SECONDS,
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the runner first: it reports to a living server
    )
    stopping = threading.Event()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(
                    f"the Prefect server did not start at {url}; is the port taken by something "
                    "else? Choose another, here and where runs are asked for: export "
                    f"PREFECT_API_URL=http://127.0.0.1:{(where.port or 4200) + 100}/api"
                )
            time.sleep(0.5)
        threading.Thread(target=_end_with, args=(process, stopping), daemon=True).start()
        yield
    finally:
        stopping.set()
        process.stdin.close()
        process.wait()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Keep requests out of the log."""


@contextlib.contextmanager
def report_server(port: int) -> Iterator[None]:
    """Serve the report on this machine, so that the link of a round can be clicked.

    Raises:
        UserError: the port is taken.
    """
    if REPORT_URL in os.environ:  # an operator publishes it elsewhere
        yield
        return
    handler = functools.partial(_Quiet, directory=str(REPORT))
    try:
        http = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise UserError(
            f"the report cannot be served at port {port} ({error.strerror}); is another `make "
            f"serve` running? Stop it, or set {REPORT_URL} to where the report is published"
        ) from None
    with http:
        os.environ[REPORT_URL] = f"http://127.0.0.1:{port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield
        http.shutdown()


def watch_heartbeats() -> None:
    """Have the server mark runs whose heartbeat stopped as crashed, even if nothing runs here."""
    wanted = Automation(
        name="generate-and-train: no heartbeat",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            # A heartbeat or any end: the ends have names of their own ("Nothing new", "Refused").
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: killed")],
    )
    try:
        wanted.id = Automation.read(name=wanted.name).id
    except ValueError:  # a new server
        wanted.create()
    else:
        wanted.update()


def stop_runs() -> None:
    """End the runs in hand, which tell the server so; the next run goes on where they were."""
    runs = multiprocessing.active_children()
    for run in runs:
        run.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for run in runs:
        run.join(max(0.0, deadline - time.monotonic()))
        run.kill()


def _end_with(process: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    """End this process when the server ends by itself: what started it may start both again."""
    process.wait()
    if not stopping.is_set():
        print("error: the Prefect server ended by itself; start again", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=VALUE, as in rounds=3")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@one_line
def main(argv: list[str] | None = None) -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.operate.serve")
    parser.add_argument("--cron", help='when to run by itself, as "0 3 * * *"')
    parser.add_argument(
        "--param", action="append", default=[], type=_parameter, metavar="NAME=VALUE",
        help="default of a parameter of the flow, as rounds=3",
    )  # fmt: skip
    args = parser.parse_args(argv)
    url = PREFECT_API_URL.value() or DEFAULT_URL
    os.environ["PREFECT_API_URL"] = url  # for the processes of the runs
    with server(url), report_server((urlsplit(url).port or 4200) + 1):
        # A run that was killed here left its name in the lock.
        with contextlib.suppress(growth.Busy), growth.checkout("", "serve") as killed:
            if killed:
                mark_crashed(killed)
        watch_heartbeats()
        print(
            f"Prefect: {url.removesuffix('/api')}\n"
            f"From another terminal, in this folder (elsewhere: export PREFECT_API_URL={url}):\n"
            "  prefect deployment run generate-and-train/local -p rounds=3 --watch",
            flush=True,
        )
        try:
            generate_and_train.serve(
                "local",
                cron=args.cron,
                parameters=dict(args.param),
                print_starting_message=False,
                # As a module: a file loaded by its path leaves annotations pydantic cannot read.
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
        finally:
            stop_runs()


if __name__ == "__main__":
    main()
