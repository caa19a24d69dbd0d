"""The page in a real headless browser: served as `make demo` serves it, looked at, clicked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from deepfd.demo import __main__ as serving
from deepfd.demo import examples
from pipeline import folds, images, manifest

pytest.importorskip("streamlit", reason="the extra `demo` is not installed")
ROOT = Path(__file__).parents[3]
SECONDS = 240
# Streamlit's own marks, by which its tests find the parts as well.
IMAGES = (
    "document.querySelectorAll('[data-testid=stImage] img, [data-testid=stImageContainer] img')"
)


@contextmanager
def served(folder, *arguments):
    """The page's address, served from `folder` until the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "deepfd.demo", "--port", str(port), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        while True:
            assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
            try:
                direct.open(f"{url}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(SECONDS)


def wait(browser, expression):
    deadline = time.monotonic() + SECONDS
    while not browser.ask(expression):
        assert time.monotonic() < deadline, (expression, browser.ask("document.body.innerText"))
        time.sleep(0.2)


def wait_for(browser, words):
    wait(browser, f"document.body.innerText.includes({json.dumps(words)})")


def drop(browser, path):
    """Give a file to the page as a hand would."""
    wait(browser, "document.querySelector('input[type=file]') !== null")
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    found = browser.call("DOM.querySelector", nodeId=root, selector="input[type=file]")
    browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=found["nodeId"])


@pytest.fixture
def folder(small_profile, make_model, tmp_path):
    """A finished run in small: params.yaml, manifests of three generators, a model, its reads."""
    checked, _ = small_profile(count=20)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["faces"] |= {"size": 32, "channels": 1}
    entry = {"adapter": "dcgan", "family": "x", "weights": "-", "images": 20}
    values["generators"] = dict.fromkeys(checked.generators, entry)
    values["matrix"] |= {"compare": []}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    train = folds.load(checked, tmp_path / "data/manifests").fold("none").train
    names = np.unique(train.generators).tolist()
    counts = {name: {"train": int((train.generators == name).sum())} for name in names}
    made = make_model("models/deepfd/none/0", threshold=0.0)
    reads = {"fit": {"digest": folds.ids_digest(train.ids), "n": len(train), "counts": counts}}
    (made / "reads.json").write_text(json.dumps(reads))
    return tmp_path


def test_a_picture_gets_verdict_map_and_neighbours_and_a_broken_one_a_reason(
    folder, browser, make_photo, tmp_path
):
    broken = make_photo("broken.png")
    broken.write_bytes(broken.read_bytes()[:100])
    with served(folder) as url:
        browser.open(url)
        # An example of each generator; one is clicked.
        wait_for(browser, "Or an example")
        buttons = "[...document.querySelectorAll('button')]"
        wait(browser, f"{buttons}.some(one => one.innerText.trim() === 'b')")
        browser.ask(f"{buttons}.find(one => one.innerText.trim() === 'b').click()")
        wait_for(browser, "b: looks fake")
        wait_for(browser, "By the distance")
        # Three examples, what was judged, the map, eight neighbours.
        wait(browser, f"{IMAGES}.length === 13")
        wait(browser, f"[...{IMAGES}].every(one => one.complete && one.naturalWidth > 0)")
        text = browser.ask("document.body.innerText")
        assert "P(fake)" in text and "Called fake from" in text and "fpr" in text
        # A picture of one's own takes its place, in colour and larger than the model's.
        drop(browser, make_photo("mine.png", size=(80, 90)))
        wait_for(browser, "mine.png: looks fake")
        wait_for(browser, "in colour: judged in grey")
        # A broken file says what is wrong with it, and the page lives on.
        browser.open(url)
        drop(browser, broken)
        wait_for(browser, "broken.png: not a readable picture")
        assert str(tmp_path) not in browser.ask("document.body.innerText").split("broken.png:")[1]
        asked = [one for one in browser.requests() if not one.startswith(("data:", "blob:"))]
        assert asked and all(one.startswith((url, "about:")) for one in asked)
        assert not [one for one in browser.complaints() if "exceptionDetails" in one]


# Of two shipped models the picture's kind chooses, unless one is named.
@pytest.mark.parametrize(("arguments", "channels"), [((), 1), (("--model", "orl"), 3)])
def test_in_an_empty_folder_the_shipped_model_judges_without_neighbours(
    browser, make_photo, tmp_path, arguments, channels
):
    (tmp_path / "empty").mkdir()
    with served(tmp_path / "empty", *arguments) as url:
        browser.open(url)
        wait_for(browser, "there are no examples")
        drop(browser, make_photo("mine.png", size=(64, 64), channels=channels))
        wait_for(browser, "By the model shipped:orl")
        wait_for(browser, "No neighbours: the pictures that shipped:orl was trained on do not lie")


def test_a_model_that_is_not_there_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        serving.main(["--model", str(tmp_path / "none")])
    assert capsys.readouterr().err.startswith("error: ")


def test_examples_are_test_pictures_of_each_generator(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = examples.at_hand()
    assert list(found) == ["a", "b", "c"]
    for name, content in found.items():
        rows = manifest.read(Path("data/manifests") / name)
        row = rows[[cell["bytes"] == content for cell in rows["image"]]].iloc[0]
        assert row["split"] == "test"


def test_before_the_first_run_examples_are_sampled_from_the_weights_at_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = examples.at_hand(tmp_path / "none")
    assert "dcgan" in found
    for content in found.values():
        assert images.decode_png(content).shape == (64, 64, 1)
        assert np.ptp(images.decode_png(content)) > 50
    monkeypatch.chdir(tmp_path)
    assert examples.at_hand() == {}


def test_the_page_is_served_to_this_machine_alone_and_reports_to_nobody():
    assert serving.SETTINGS["server.address"] == "127.0.0.1"
    assert serving.SETTINGS["browser.gatherUsageStats"] == "false"
