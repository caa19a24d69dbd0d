"""What the tests of the report share: its parts, and a real headless browser."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from websockets.sync.client import connect

from benchmarks.comparisons import COMPARED
from benchmarks.metrics import METRICS
from benchmarks.readings import RESULTS_SCHEMA, left_out
from benchmarks.scores import ALL_SEEDS
from pipeline import manifest
from pipeline.folds import sources

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip
SECONDS = 120


class Tab:
    """One tab, driven over the DevTools protocol; `events` is what it said of itself."""

    def __init__(self, socket):
        self.socket, self.number, self.events = socket, 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=SECONDS))
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, path, width=1280, height=900, scheme="light"):
        """Load a file in a window of this size and colour scheme, wholly."""
        self.events.clear()
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Emulation.setDeviceMetricsOverride",
                  width=width, height=height, deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv(timeout=SECONDS)))

    def ask(self, expression):
        """Evaluate JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self):
        """Console messages, exceptions and log entries since the page was opened."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in kinds]

    def requests(self):
        """Addresses that were asked for since the page was opened."""
        sent = (e for e in self.events if e["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def screenshot(self, path, whole=True):
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def chromium(profile):
    """A tab of a browser that is started for it and ended with it."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("needs a browser: chromium is not on PATH (apt install chromium)")
    command = [binary, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + SECONDS
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert process.poll() is None and time.monotonic() < deadline, (
                "the browser did not start"
            )
            time.sleep(0.1)
        port = int(port_file.read_text().splitlines()[0])
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/json/list", timeout=SECONDS
        ) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        with connect(pages[0]["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def report_parts(small_profile):
    """What the report is made from, made up with round numbers; dct misses the cell `b`."""
    photographs = {
        "orl": {"source": "orl"}, "elsewhere": {"source": "folder", "path": "-", "use": "test"}
    }  # fmt: skip
    params, folder = small_profile(photographs=photographs, perturbations=["none", "blur"])
    rows = []
    for m, method in enumerate(params.methods):
        for h, held_out in enumerate((*params.held_outs(), "family:y", "family:x")):
            trained = params.training_generators(held_out)
            for g, generator in enumerate(("a", "b", "c", "real:elsewhere")):
                for perturbation in params.perturbations:
                    if (method, held_out, generator) == ("dct", "b", "b"):
                        continue
                    real = generator.startswith("real:")
                    value = 0.9 - 0.1 * m - 0.05 * h - (0.3 if held_out == generator else 0)
                    value -= 0.2 if perturbation == "blur" else 0
                    family = params.generators[generator].family if not real else "real"
                    row = dict.fromkeys(RESULTS_SCHEMA.names, "x") | {
                        "method": method, "held_out": held_out, "generator": generator,
                        "perturbation": perturbation, "seed": ALL_SEEDS, "seeds": 2,
                        "family": family, "round": 0, "seen": generator in trained,
                        "n_train": 80, "threshold": 0.6, "oracle_threshold": 0.5,
                        "threshold_rule": "fpr <= 0.05", "undefined": "",
                        "n_real": 40, "n_fake": 0 if real else 30 + g,
                    }  # fmt: skip
                    for name in METRICS:
                        middle = np.nan if real and name != "fpr" else value
                        middle = 0.2 * real + 0.04 if name == "fpr" else middle
                        ends = {f"{name}_low": middle - 0.03, f"{name}_high": middle + 0.03}
                        row |= {name: middle} | ends
                    rows.append(row)
    cells = pd.DataFrame(rows)
    clean = left_out(cells)
    rounds = pd.concat(clean.assign(round=n, images=120 * (n + 1)) for n in (0, 1))
    comparisons = pd.DataFrame(
        [
            {"a": "spectrum", "b": "dct", "held_out": held_out, "metric": metric, "value_a": 0.55,
             "value_b": 0.45, "difference": 0.1, "low": -0.02, "high": 0.22, "p": 0.1,
             "p_corrected": 0.1, "comparisons": 1}
            for held_out in ("mean", "a") for metric in COMPARED
        ]
    )  # fmt: skip
    # Scores of the images that lie in the manifests: a seed and a fold each, noise and a shift.
    scores, draw = [], np.random.default_rng(0)
    for method in params.methods:
        for held_out in params.generators:
            for source in ("real:orl", held_out, "real:elsewhere"):
                frame = manifest.read(folder / sources(params)[source], ["image_id", "split"])
                ids = frame[frame["split"] == "test"]["image_id"]
                logits = draw.normal(0, 2, len(ids)) + (source == held_out)
                scores.append(
                    pd.DataFrame(
                        {"image_id": ids, "label": int(source == held_out), "generator": source,
                         "method": method, "held_out": held_out, "seed": 0,
                         "score": 1 / (1 + np.exp(-logits)), "threshold": 0.5,
                         "seen": source == "real:orl"}
                    )
                )  # fmt: skip
    audit = pd.DataFrame(
        [
            ("sha256", "photographs", 0.0, 0.0, True, "hard", "no image twice"),
            ("border", "a", 0.9, 0.75, False, "soft", "AUC 0.900"),
            ("collapse", "b", 0.5, 0.05, False, "hard", "half of them alike"),
        ],
        columns=["gate", "subject", "value", "limit", "passed", "severity", "evidence"],
    )
    study = pd.DataFrame(
        [
            {"component": component, "generator": generator, "perturbation": view,
             "chi_square": 0.1 + 0.1 * g, "auc": 0.6 + 0.1 * c, "n_real": 40, "n_fake": 40,
             "n_real_test": 10, "n_fake_test": 10}
            for view in ("none", "jpeg75")
            for g, generator in enumerate(params.generators)
            for c, component in enumerate(("R", "Cb"))
        ]
    )  # fmt: skip
    timings = pd.DataFrame(
        [("spectrum", 2.0, "one CPU"), ("spectrum", 4.0, "one CPU"), ("dct", 60.0, "a GPU")],
        columns=["method", "seconds", "device"],
    )
    return {
        "params": params, "folder": folder, "cells": cells, "comparisons": comparisons,
        "scores": pd.concat(scores, ignore_index=True), "audit": audit, "study": study,
        "rounds": rounds, "timings": timings,
    }  # fmt: skip
