"""Profiles are differences from one base that says each default once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline import params
from pipeline.errors import UserError
from pipeline.operate.compose import FOLDER, SUFFIX, compose, shipped

ROOT = Path(__file__).parents[3]
PROFILES = ROOT / FOLDER
NAMES = ("celeba", "celeba_hq", "orl")
# A value of a profile, and a block that it has otherwise.
SET = re.compile(r"^\{% set (\w+) = .*%\}\n", re.M)
BLOCK = re.compile(r"^\{% block (\w+) %\}\n(.*?)^\{% endblock %\}\n", re.M | re.S)


@pytest.fixture
def folder(tmp_path):
    for path in PROFILES.glob(f"*{SUFFIX}"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_every_profile_that_is_shipped_is_complete_and_bears_its_name():
    assert tuple(shipped(PROFILES)) == NAMES
    found = {name: params.parse(yaml.safe_load(compose(name, PROFILES))) for name in NAMES}
    assert all(found[name].profile == name for name in NAMES)
    assert [found[name].faces.channels for name in NAMES] == [3, 3, 1]
    assert [found[name].faces.size for name in NAMES] == [64, 256, 64]
    assert set(found["orl"].generators) < set(found["celeba"].generators)
    assert {"colour", "colour_rgb"} <= set(found["celeba"].method_sets["full"])
    assert "colour" in found["celeba_hq"].methods and "colour" not in found["celeba"].methods
    assert "colour" not in found["orl"].method_sets["full"]


def test_params_yaml_is_the_default_profile_as_it_is_composed():
    """Of the repository as it is committed: an operator may write into params.yaml."""
    done = subprocess.run(
        ["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    text = (ROOT / params.PATH).read_text()
    settings = params.parse(yaml.safe_load(text))
    small = "README_SMALL" in os.environ  # tests/test_readme.py has committed a smaller one
    if small or text != done.stdout or settings.round or settings.profile != "orl":
        pytest.skip("params.yaml has been worked with since it was committed")
    assert text == compose("orl", PROFILES), (
        "change profiles/, then: python -m pipeline.operate.profile orl --show > params.yaml"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_says_nothing_that_the_base_says(name, folder):
    path = folder / f"{name}{SUFFIX}"
    text = path.read_text()
    whole = compose(name, folder)
    stated = [*SET.finditer(text), *BLOCK.finditer(text)]
    assert len(stated) > 4
    for one in stated:
        path.write_text(text.replace(one[0], ""))
        try:
            without = compose(name, folder)
        except UserError:  # the base has no default: every profile has its own
            assert all(re.search(rf"set {one[1]} =", text_of(other)) for other in NAMES)
        else:
            assert without != whole, f"{one[0].strip()} is what the base says"


def text_of(name):
    return (PROFILES / f"{name}{SUFFIX}").read_text()


def test_no_two_profiles_say_the_same():
    said = Counter(
        line.strip()
        for name in NAMES
        for line in {*text_of(name).splitlines()}
        if line.strip() and not re.match(r"\{% (extends|block|endblock)|\s*#", line)
    )
    assert [line for line, count in said.items() if count > 1] == []


def test_a_default_of_the_base_is_what_some_profile_has():
    base = text_of("base")
    for name in re.findall(r"(\w+) \| default", base):
        own = [profile for profile in NAMES if re.search(rf"set {name} =", text_of(profile))]
        assert 0 < len(own) < len(NAMES), name
    for name, _ in BLOCK.findall(base):
        assert any(f"block {name} %" in text_of(profile) for profile in NAMES), name


def test_comments_aliases_and_entries_in_braces_survive(folder):
    text = compose("celeba", folder)
    assert "\n  # rendered faces.\n  gan_face_generate: {adapter: package, " in text
    assert "\n    <<: *default\n" in text and "\nmethods: *default\n" in text
    assert not re.search(r"\{[{%#]|\n\n\n| \n", text)


def test_an_unknown_profile_and_a_value_that_is_missing_are_refused(folder):
    with pytest.raises(UserError, match="expected one of celeba, celeba_hq, orl"):
        compose("base", folder)
    path = folder / f"orl{SUFFIX}"
    text, count = re.subn(r"{% set steps = \d+ %}\n", "", path.read_text())
    assert count == 1
    path.write_text(text)
    with pytest.raises(UserError, match=r"orl\.yaml\.j2: 'steps' is undefined"):
        compose("orl", folder)
