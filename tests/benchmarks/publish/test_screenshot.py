"""The picture of the page shows numbers and no face."""

from __future__ import annotations

import io
import shutil

import pytest
from PIL import Image

from benchmarks.page.report import TEMPLATE
from benchmarks.publish import screenshot
from pipeline.errors import UserError


def test_the_template_has_no_picture_before_the_cut():
    cut = screenshot.beginning(TEMPLATE.read_text())
    assert 'id="matrix"' in cut and 'id="mistakes"' not in cut and "<img" not in cut


@pytest.mark.parametrize("html", ["<h1>other</h1>", f"<img src=x>{screenshot.REST}"])
def test_a_page_of_another_layout_is_refused(html):
    with pytest.raises(UserError, match="another layout"):
        screenshot.beginning(html)


def test_a_missing_page_or_browser_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="no browser on PATH; expected one of chromium"):
        screenshot.png(tmp_path / "index.html")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/true")
    with pytest.raises(UserError, match=r"index\.html not found; run dvc repro"):
        screenshot.png(tmp_path / "index.html")


def test_what_is_drawn_is_what_stands_before_the_cut(tmp_path):
    if not any(map(shutil.which, screenshot.BROWSERS)):
        pytest.skip("needs a browser: chromium is not on PATH (apt install chromium)")
    page = tmp_path / "index.html"
    red = '<div style="position:fixed;inset:0;background:#f00"></div>'
    page.write_text(f"<body style='background:#fff'><h2 id='m'>m</h2>{screenshot.REST}x</h2>{red}")
    picture = Image.open(io.BytesIO(screenshot.png(page))).convert("RGB")
    assert picture.size == (screenshot.WIDTH, screenshot.HEIGHT)
    colours = {colour for _, colour in picture.getcolors(maxcolors=1 << 24)}
    assert (255, 255, 255) in colours and (255, 0, 0) not in colours
