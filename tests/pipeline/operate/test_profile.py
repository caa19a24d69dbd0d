"""Profiles: one command switches, keeps what the operator changed, and runs nothing again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import params
from pipeline.errors import UserError
from pipeline.operate import compose, growth, profile

ROOT = Path(__file__).parents[3]
# Profiles that somebody is working with are not those that are shipped.
WORKED_IN = {path.name for path in (ROOT / compose.FOLDER).iterdir() if path.is_dir()}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# A small graph with all the kinds of outputs: cached, kept between runs, and left to git.
GRAPH = """
stages:
  faces:
    cmd: >-
      mkdir -p made/${profile} kept && echo ${profile} >> runs.log && echo ${faces.size} > faces.txt
      && echo ${profile} > kept/${profile} && echo ${profile} > made/${profile}/a
      && echo ${profile} > small.json
    params: [profile, faces]
    outs:
      - faces.txt
      - made/${profile}
      - kept: {persist: true}
      - small.json: {cache: false}
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Copy the project's profiles, orl active as it is shipped, with photographs for celeba."""
    shutil.copytree(ROOT / compose.FOLDER, tmp_path / "profiles", ignore=lambda *_: WORKED_IN)
    (tmp_path / "params.yaml").write_text(compose.compose("orl", tmp_path / "profiles"))
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/1.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.relative_to(folder) != growth.LOCK:
            found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


@pytest.mark.parametrize(
    ("name", "faces", "expected"),
    [
        ("celebb", None, "profile 'celebb' is unknown; expected one of orl, celeba, celeba_hq"),
        ("celeba", None, r"\.\./img_align_celeba, which is no folder; .*PROFILE=celeba FACES="),
        ("celeba", "absent", "FACES absent not found; expected a folder"),
        ("celeba", "params.yaml", r"FACES params\.yaml is no folder"),
        ("celeba", "owner/name@main", "FACES owner/name@main not found; .*40 hex digits"),
        ("orl", "faces", "profile orl reads the AT&T photographs"),
        (None, "faces", "profile orl reads the AT&T photographs"),
    ],
)
def test_refusals_are_one_line_and_change_nothing(checkout, name, faces, expected):
    before = digest(checkout)
    with pytest.raises(UserError, match=expected) as error:
        profile.switch(name, faces)
    assert "\n" not in str(error.value)
    assert digest(checkout) == before


def test_two_files_of_one_profile_that_differ_are_refused(checkout):
    Path("profiles/orl").mkdir()
    Path("profiles/orl/params.yaml").write_text(compose.compose("celeba"))
    with pytest.raises(UserError, match="both profile orl and differ; delete the one"):
        profile.switch("celeba", "faces")


def test_a_run_of_the_flow_keeps_its_profile(checkout):
    with growth.checkout("id", "brave-cat"), pytest.raises(UserError, match="brave-cat"):
        profile.switch("celeba", "faces")
    assert params.load().profile == "orl"


def test_faces_are_a_folder_parquet_files_or_a_pinned_dataset(checkout):
    assert profile.locate_faces("faces") == {"source": "folder", "path": "faces", "revision": None}
    Path("Anno").mkdir()
    Path("Anno/identity_CelebA.txt").touch()
    assert profile.locate_faces("faces")["identities"] == "Anno/identity_CelebA.txt"
    Path("tables").mkdir()
    Path("tables/a.parquet").touch()
    for path in ("tables", "tables/a.parquet"):
        found = profile.locate_faces(path)
        assert (found["source"], found["path"], found["revision"]) == ("hub", path, None)
    found = profile.locate_faces(f"owner/name/data@{COMMIT}")
    assert (found["source"], found["path"], found["revision"]) == ("hub", "owner/name/data", COMMIT)


def test_faces_change_their_own_keys_of_the_file_only(checkout):
    before = compose.compose("celeba")
    after = profile.with_faces(before, "faces")
    assert params.parse(yaml.safe_load(after)).photographs["celeba"].path == "faces"
    changed = [
        pair
        for pair in zip(before.splitlines(), after.splitlines(), strict=True)
        if len({*pair}) > 1
    ]
    assert changed == [("    path: ../img_align_celeba", "    path: faces")]
    again = profile.with_faces(after, f"owner/name@{COMMIT}")
    faces = params.parse(yaml.safe_load(again)).photographs["celeba"]
    assert (faces.source, faces.path, faces.revision) == ("hub", "owner/name", COMMIT)
    # And back to a folder.
    back = params.parse(yaml.safe_load(profile.with_faces(again, "faces")))
    assert back.photographs["celeba"].revision is None


PORTRAITS = """  portraits: # of another origin
    source: folder
    path: ../portraits
"""


def test_of_several_collections_each_is_named(checkout):
    text = compose.compose("celeba")
    mark = "  # More of them"
    assert mark in text
    two = text.replace(mark, PORTRAITS + mark)
    after = profile.with_faces(two, "portraits=faces,celeba=faces")
    entries = params.parse(yaml.safe_load(after)).photographs
    assert [entry.path for entry in entries.values()] == ["faces", "faces"]
    assert "# of another origin" in after
    one = params.parse(yaml.safe_load(profile.with_faces(two, "portraits=faces"))).photographs
    assert [entry.path for entry in one.values()] == ["../img_align_celeba", "faces"]
    with pytest.raises(UserError, match="expected FACES=celeba=PATH,portraits=PATH"):
        profile.with_faces(two, "faces")
    # Commas and equals signs may stand in a path.
    assert profile.named_faces("b=x,y=1,a=z", ["a", "b"]) == {"b": "x,y=1", "a": "z"}
    assert profile.named_faces("a,b=1", ["a"]) == {"a": "a,b=1"}
    # A name without an entry is not taken for a part of a path without a word.
    with pytest.raises(UserError, match="mend the path; y, z: first an entry under `photographs:`"):
        profile.with_faces(text, "celeba=faces,y=faces,z=faces")


def test_an_entry_in_braces_is_refused(checkout):
    text = compose.compose("celeba")
    braces = "photographs:\n  celeba: {source: folder, path: x}\n"
    text = text[: text.index("photographs:")] + braces + text[text.index("sample:") :]
    with pytest.raises(UserError, match=r"photographs\.celeba stands in braces"):
        profile.with_faces(text, "faces")


def repro():
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_switching_back_and_forth_keeps_edits_and_runs_nothing_again(checkout):
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    Path("dvc.yaml").write_text(GRAPH)
    edited = Path("params.yaml").read_text().replace("size: 64", "size: 32") + "# mine\n"
    Path("params.yaml").write_text(edited)
    repro()
    profile.switch("celeba", "faces")
    # Nothing of the other profile is left in the workspace, and what it was lies in its folder.
    assert params.load().profile == "celeba" and params.load().photographs["celeba"].path == "faces"
    assert not any(Path(name).exists() for name in ("faces.txt", "made/orl", "kept", "small.json"))
    assert Path("profiles/orl/params.yaml").read_text() == edited
    assert not Path("profiles/celeba").exists()
    repro()
    profile.switch("orl")
    assert Path("params.yaml").read_text() == edited
    assert Path("faces.txt").read_text() == "32\n"
    assert [path.name for path in Path("kept").iterdir()] == ["orl"]
    assert Path("made/orl/a").exists() and not Path("made/celeba").exists()
    assert Path("small.json").read_text() == "orl\n"
    assert "didn't change, skipping" in repro()

    # A switch that was killed half-way is finished by the next.
    profile._park("orl")
    profile.switch("celeba")
    assert params.load().photographs["celeba"].path == "faces"
    assert "didn't change, skipping" in repro()
    assert Path("runs.log").read_text() == "orl\nceleba\n"
    assert [path.name for path in Path("profiles").iterdir() if path.is_dir()] == ["orl"]


def test_packages_with_weights_are_asked_for_by_their_pins(checkout):
    assert profile.missing_packages() == []
    card = Path("generators/cards/gan_face_generate.json")
    card.parent.mkdir(parents=True)
    text = (ROOT / card).read_text().replace("gan-face-generate", "no-such-package")
    card.write_text(text)
    Path("params.yaml").write_text(compose.compose("celeba"))
    assert profile.missing_packages() == ["no-such-package==1.1.1"]
