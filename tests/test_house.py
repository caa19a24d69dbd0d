"""What holds of the tree as a whole."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_LINES = 400


def tracked(pattern):
    done = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in done.stdout.splitlines()]


def test_no_file_of_code_is_longer_than_can_be_read_in_a_sitting():
    code = [path for path in tracked("*.py") if "tests" not in path.relative_to(ROOT).parts]
    long = {path.name: n for path in code if (n := len(path.read_text().splitlines())) > MOST_LINES}
    assert not long


def test_the_cells_of_what_was_never_seen_are_asked_for_in_one_place():
    filters = re.compile(r"held_out\W{1,4}\]?\s*==\s*\w*\[?\W{0,2}generator\b")
    places = {
        path.relative_to(ROOT).as_posix()
        for path in tracked("*.py")
        if "tests" not in path.relative_to(ROOT).parts and filters.search(path.read_text())
    }
    assert places == {"benchmarks/readings.py"}


def test_the_readme_is_short():
    text = re.sub(r"<!-- results:(.+?):start -->.*?<!-- results:\1:end -->", "",
                  (ROOT / "README.md").read_text(), flags=re.DOTALL)  # fmt: skip
    assert len(text.split()) <= 900


def test_no_page_or_module_names_a_path_of_some_machine():
    wrong = re.compile(r"/(?:work|root|Users)/\w|/home/(?!me/)\w")
    named = [
        path.name
        for pattern in ("*.py", "*.md", "*.yaml", "*.json", "*.toml")
        for path in tracked(pattern)
        if wrong.search(path.read_text()) and path != Path(__file__)
    ]
    assert not named
