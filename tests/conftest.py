"""What tests of several packages share: planted pictures, profiles, a real headless browser."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from websockets.sync.client import connect

from pipeline.folds import Images

ROOT = Path(__file__).parents[1]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip
SECONDS = 120


def planted_fold(count=120, size=32, channels=1, seed=0, strength=25, shuffled=False):
    """Noise pictures; the fakes (of generators a and b) carry a checkerboard."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(60, 190, (count, 1, 1, channels))
    pixels = pixels + draw.normal(0, 12, (count, size, size, channels))
    labels = np.arange(count) % 2
    board = np.indices((size, size)).sum(0) % 2 * 2 - 1
    pixels += strength * labels[:, None, None, None] * board[None, ..., None]
    if shuffled:
        labels = draw.permutation(labels)
    fakes = np.where(np.arange(count) % 4 < 2, "a", "b")
    return Images(
        np.clip(pixels, 0, 255).astype(np.uint8),
        labels.astype(np.int8),
        np.where(labels == 1, fakes, "real:orl"),
        np.array([f"{seed}-{i}" for i in range(count)]),
    )


@pytest.fixture(scope="session")
def planted():
    return planted_fold


@pytest.fixture
def small_profile(tmp_path):
    """Write manifests of three small generators; returns their params and folder.

    Fakes carry a checkerboard, photographs do not; `shuffled`: half of either do, so that there is
    something to learn and nothing to know. Keyword arguments replace blocks of params.yaml.
    """
    from pipeline import manifest, params
    from pipeline.folds import sources, test_only

    names = ("a", "b", "c")
    folder = tmp_path / "data/manifests"

    def write(count=40, size=32, channels=1, shuffled=False, **blocks):
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["faces"] |= {"size": size, "channels": channels}
        entry = {"adapter": "dcgan", "weights": "-", "images": count}
        values["generators"] = {n: entry | {"family": "x" if n == "c" else "y"} for n in names}
        values["methods"] = {"spectrum": {"method": "spectrum"}, "dct": {"method": "dct"}}
        values["matrix"] |= {"bootstrap": 50, "compare": []}
        checked = params.parse(values | blocks)
        for number, (name, source) in enumerate(sources(checked).items()):
            board = 0 if manifest.is_real(name) else 25
            splits = ("test",) if test_only(checked, name) else ("train", "train", "valid", "test")
            pixels = planted_fold(2 * count, size, channels, number, board).pixels
            pixels = pixels[::2] if board == 0 else pixels[1::2]
            if shuffled:
                draw = np.random.default_rng(number)
                pixels = draw.permutation(planted_fold(count, size, channels, number).pixels)
            rows = manifest.rows_of(
                pixels,
                ids=[f"{source}-{i:08d}" for i in range(count)],
                splits=[splits[i % len(splits)] for i in range(count)],
                generator=name,
                family=checked.generators[name].family if board else "real",
                spec="planted",
                seeds=list(range(count)) if board else [None] * count,
                identities=[None if board else str(i) for i in range(count)],
            )
            manifest.write_part(manifest.part_path(folder / source, 0), rows)
        return checked, folder

    return write


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

    def open(self, page, width=1280, height=900, scheme="light"):
        """Load a file or an address in a window of this size and colour scheme, wholly."""
        self.events.clear()
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Emulation.setDeviceMetricsOverride",
                  width=width, height=height, deviceScaleFactor=1, mobile=False)  # fmt: skip
        url = page if isinstance(page, str) else page.as_uri()
        self.call("Page.navigate", url=url)
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
        url = pages[0]["webSocketDebuggerUrl"]
        # No pings: between two questions nobody reads what the tab says, nor its answers to them.
        with connect(url, max_size=None, proxy=None, ping_interval=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as tab:
        yield tab
