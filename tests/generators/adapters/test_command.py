"""An external program as a generator: real programs, run by the interpreter of the tests."""

import os
import sys
import time
from pathlib import Path

import pytest

import generators
from generators.adapters.command import ranges
from generators.adapters.options import CommandGenerator
from pipeline.errors import UserError

WRITE = """
from PIL import Image
for seed in range({first}, {last} + 1):
    Image.new("RGB", (8, 8), (seed, seed, seed)).save(f"{out}/seed{{seed:04d}}.png")
"""


def options(tmp_path, *argv, **changes):
    (tmp_path / "weights").write_text("weights")
    values = {"adapter": "command", "family": "f", "images": 4, "timeout": 60,
              "weights": str(tmp_path / "weights"), "argv": argv}  # fmt: skip
    return CommandGenerator(**(values | changes))


def python(tmp_path, code, **changes):
    return generators.load(options(tmp_path, sys.executable, "-c", code, **changes))


def test_a_seed_range_is_one_call_for_each_run_of_seeds(tmp_path):
    assert list(ranges([7])) == [(7, 7)]
    assert list(ranges([3, 4, 5, 9, 8])) == [(3, 5), (9, 9), (8, 8)]
    made = python(tmp_path, WRITE)
    values = (made.sample([30, 31, 90])[:, 0, 0, 0] + 1) * 127.5
    assert values.round().tolist() == [30, 31, 90]


def test_a_program_that_writes_too_few_pictures_is_refused(tmp_path):
    made = python(tmp_path, WRITE.replace("{last} + 1", "{last}"))
    with pytest.raises(UserError, match=r"wrote 2 of 3 pictures, seed0003\.png is missing"):
        made.sample([1, 2, 3])


def test_an_exit_code_is_reported_with_the_programs_last_words(tmp_path):
    made = python(tmp_path, "import sys; print('no GPU', file=sys.stderr); sys.exit(3)")
    with pytest.raises(UserError, match="exit code 3 and said: no GPU"):
        made.sample([1])


def test_a_time_out_ends_the_program_and_its_children(tmp_path):
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )
    made = python(tmp_path, code, timeout=5)
    with pytest.raises(UserError, match="took more than 5 s"):
        made.sample([1])
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        # Dead, but nobody has collected it yet.
        if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        time.sleep(0.05)
    pytest.fail("the child outlived the time-out")


def test_no_shell_reads_the_arguments(tmp_path):
    code = "import sys; sys.exit(0 if sys.argv[1] == '$(touch x); *' else 5)"
    made = generators.load(options(tmp_path, sys.executable, "-c", code, "$(touch x); *"))
    with pytest.raises(UserError, match="wrote 0 of 1 pictures"):  # so it ended with code 0
        made.sample([1])


def test_the_program_loads_files_as_it_likes(tmp_path):
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    made = python(
        tmp_path, "import os, sys; sys.exit('TORCH_FORCE_WEIGHTS_ONLY_LOAD' in os.environ)"
    )
    with pytest.raises(UserError, match="wrote 0 of 1 pictures"):  # so it ended with code 0
        made.sample([1])


def test_an_absent_program_is_refused(tmp_path):
    made = generators.load(options(tmp_path, "no-such-program"))
    with pytest.raises(UserError, match="no-such-program cannot be run: No such file"):
        made.sample([1])


@pytest.mark.parametrize("argument", ["{seeds}", "{", "{0}", "{first.x}"])
def test_an_unknown_placeholder_is_refused(tmp_path, argument):
    with pytest.raises(UserError, match="unknown placeholder"):
        generators.load(options(tmp_path, "program", argument))


def test_the_spec_follows_what_the_program_reads(tmp_path):
    before = python(tmp_path, WRITE).spec()
    loaded = options(tmp_path, sys.executable, "-c", WRITE)
    (tmp_path / "weights").write_text("others")
    assert generators.load(loaded).spec()["weights"] != before["weights"]
