"""docs/page-<profile>.png: how the page of a run begins, for who has not made one yet.

What comes after the matrix is cut off before the page is drawn: no picture of a face is in it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from pipeline.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Of the window, in CSS pixels: as far as the matrix of some seven methods.
WIDTH, HEIGHT = 1040, 1085
# What follows the matrix begins here.
REST = '<h2 id="better">'
SECONDS = 120


def beginning(html: str) -> str:
    """Cut a page off after its matrix.

    Raises:
        UserError: it is no page of this project, or the beginning has a picture.
    """
    head, mark, _ = html.partition(REST)
    if not mark or "<img" in head:
        raise UserError("the page has another layout than its template; run dvc repro report")
    return f"{head}</body></html>"


def png(page: Path) -> bytes:
    """Draw the beginning of a page by a headless browser.

    Raises:
        UserError: no page, no browser, or one that fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(f"no browser on PATH; expected one of {', '.join(BROWSERS)}: install one")
    if not page.is_file():
        raise UserError(f"{page} not found; run dvc repro")
    with tempfile.TemporaryDirectory() as folder:
        cut, picture = Path(folder) / "page.html", Path(folder) / "page.png"
        cut.write_text(beginning(page.read_text(encoding="utf-8")), encoding="utf-8")
        done = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}"),
                *(f"--screenshot={picture}", cut.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if not picture.is_file():
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise UserError(f"{browser} drew nothing: {said[-1]}")
        return picture.read_bytes()
