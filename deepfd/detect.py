"""The command `deepfd`. `deepfd detect PATH...` says how probably the face in a picture is a fake.

It reads pictures and a fitted detector; writes one line per picture, and on request JSON, a Parquet
table and heat maps. Exit codes: 0 nothing looks fake, 1 something does, 2 something could not be
read (all the rest is judged) or the command itself is wrong. (`deepfd benchmark`:
`benchmarks.external`.)
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cores
from pipeline.errors import UserError

if TYPE_CHECKING:
    from deepfd.predict import Item, Prediction, Predictor

NONE_FAKE, SOME_FAKE, SOME_UNREAD = 0, 1, 2
# Each has a face finder of its own, which takes a third of a second to make.
MOST_THREADS = 8
# A bar from this many pictures on.
MANY = 50
CAVEAT = (
    "A hint, not proof: this detector knows the photographs and generators it was trained on; it "
    "can miss fakes of others and take photographs of other origin for fakes."
)


class Detectors:
    """The models of a run: one, or several shipped ones of which each picture gets its kind."""

    def __init__(self, model: str | None) -> None:
        from deepfd import shipped
        from deepfd.predict import Predictor

        self.loaded: dict[str, Predictor] = {
            name: Predictor.load(folder, name) for name, folder in shipped.find(model).items()
        }
        self.channels = {name: one.detector.channels for name, one in self.loaded.items()}

    def prepare(self, path: Path, find_faces: bool) -> tuple[Predictor, Item]:
        """Open a picture and make it ready for the model of its kind.

        Raises:
            UserError: it cannot be read; the message begins with its path.
        """
        from deepfd import pictures, shipped

        opened = pictures.read(path)
        try:
            name = shipped.choose(self.channels, len(self.channels) > 1 and opened.is_grey)
            return self.loaded[name], self.loaded[name].prepare(opened, find_faces)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def _ahead(work: Callable[[Path], Any], paths: Iterable[Path], batch: int) -> Iterator[Any]:
    """Yield (path, result or the UserError) in order; decoding runs ahead, by at most a batch."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(MOST_THREADS, cores.available())) as pool:
        waiting: deque[Any] = deque()

        def first() -> Any:
            path, future = waiting.popleft()
            try:
                return path, future.result()
            except UserError as error:
                return path, error

        try:
            for path in paths:
                waiting.append((path, pool.submit(work, path)))
                if len(waiting) >= batch:
                    yield first()
            while waiting:
                yield first()
        finally:
            for _, future in waiting:
                future.cancel()


def judged(
    detectors: Detectors, paths: Iterable[Path], batch: int, find_faces: bool, maps: bool
) -> Iterator[tuple[Path, dict[str, Any], Prediction | None]]:
    """Judge pictures in batches, in order; memory is that of a batch.

    Yields:
        The path, its record (JSON values; `error` alone where it could not be read), and the
        prediction.
    """
    from deepfd import pictures
    from deepfd.records import named, record

    def weighed() -> Iterator[tuple[Any, int]]:
        for path, got in _ahead(lambda one: detectors.prepare(one, find_faces), paths, batch):
            yield (path, got), 1 if isinstance(got, UserError) else len(got[1].views)

    for group in pictures.batched(weighed(), batch):
        answers: dict[Path, Prediction] = {}
        for predictor in detectors.loaded.values():
            mine = [
                (path, got[1])
                for path, got in group
                if not isinstance(got, UserError) and got[0] is predictor
            ]
            found = predictor.judge([item for _, item in mine], maps)
            answers |= {path: one for (path, _), one in zip(mine, found, strict=True)}
        for path, got in group:
            if isinstance(got, UserError):
                yield path, {"picture": named(path), "error": named(got)}, None
            else:
                yield path, record(path, *got, answers[path]), answers[path]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="deepfd", description="Is a picture of a face a fake made by a generator?"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    detect = commands.add_parser(
        "detect",
        help="say how probably pictures of faces are fake",
        epilog="Exit code: 0 nothing looks fake, 1 something does, 2 something could not be read "
        "(the rest is judged) or the command is wrong.",
    )
    detect.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, folder or glob; - is a list on stdin"
    )
    detect.add_argument(
        "--model", help="a model's folder, or the name of one that is shipped; default: "
        "models/deepfd/none/0 if it is there, else the shipped one of the picture's kind"
    )  # fmt: skip
    detect.add_argument("--json", action="store_true", help="one JSON object a line, all known")
    detect.add_argument("--parquet", type=Path, metavar="OUT", help="write a table of all too")
    detect.add_argument("--maps", type=Path, metavar="DIR", help="write heat maps there, as PNG")
    detect.add_argument(
        "--batch",
        type=_positive,
        help="faces scored together, which memory grows with",
    )
    detect.add_argument(
        "--no-faces", dest="faces", action="store_false",
        help="do not look for faces in larger pictures: judge the training crop (centre)"
    )  # fmt: skip
    benchmark = commands.add_parser(
        "benchmark",
        help="score a detector of yours on the test images of this benchmark",
        description="Score predict(path) -> P(fake) of a Python file on the test images, as it is: "
        "it is not trained. In the folder of the benchmark, after its data are made.",
    )
    benchmark.add_argument("--model", type=Path, required=True, metavar="FILE.py")
    benchmark.add_argument("--name", help="of its rows (default: the file's)")
    benchmark.add_argument("--out", type=Path, help="default: benchmarks/external.parquet")
    return parser.parse_args(arguments)


def benchmark(options: argparse.Namespace) -> int:
    """Run `deepfd benchmark`; returns the exit code.

    Raises:
        UserError: see `benchmarks.external.run`.
    """
    from benchmarks import external
    from pipeline.params import load

    out = options.out or external.OUT
    print(external.run(load(), options.model, options.name, out))
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; expected 1 or more")
    return value


def run(options: argparse.Namespace) -> int:
    """Run `deepfd detect`; returns the exit code.

    Raises:
        UserError: no model, or an output that cannot be written.
    """
    from deepfd import pictures
    from deepfd.predict import BATCH
    from deepfd.records import Table, line, named, printable, write_map

    batch = options.batch or BATCH
    # Such pictures are refused with a line of our own.
    warnings.simplefilter("ignore", pictures.Image.DecompressionBombWarning)
    if isinstance(sys.stdin, io.TextIOWrapper):  # names of files are bytes, not always UTF-8
        sys.stdin.reconfigure(errors="surrogateescape")
    paths, others = pictures.listed(options.paths, sys.stdin)
    if not paths:
        raise UserError("no picture named; expected some (the list on stdin is empty)")
    if options.maps:
        try:
            options.maps.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{options.maps} cannot be written: {error.strerror or error}"
            ) from None
    detectors = Detectors(options.model)
    from tqdm import tqdm

    fakes = unread = 0
    digits = len(str(len(paths)))
    with ExitStack() as stack:
        table = None
        if options.parquet:
            table = stack.enter_context(Table(options.parquet, batch))
        hidden = len(paths) < MANY or not sys.stderr.isatty()
        bar = stack.enter_context(tqdm(total=len(paths), unit=" pictures", disable=hidden))
        # Without a bar on the screen there is nothing to keep lines apart from.
        say = print if hidden else bar.write
        rows = judged(detectors, paths, batch, options.faces, bool(options.maps))
        for number, (path, row, found) in enumerate(rows, start=1):
            if found is None:
                unread += 1
                say(f"error: {printable(row['error'])}", file=sys.stderr)
            else:
                fakes += found.fake
                if options.maps:
                    # By number: two folders can hold pictures of one name.
                    target = options.maps / f"{number:0{digits}}-{path.stem}.png"
                    write_map(path, found, target)
                    row["map"] = named(target)
                for note in row["notes"]:
                    say(f"note: {printable(str(path))}: {note}", file=sys.stderr)
            if table is not None:
                table.add(row)
            if options.json:
                say(json.dumps(row), file=sys.stdout)
            elif found is not None:
                say(line(row), file=sys.stdout)
            bar.update()
    if not options.json:
        print(summary(detectors, len(paths), fakes, unread, others))
    return SOME_UNREAD if unread else SOME_FAKE if fakes else NONE_FAKE


def summary(detectors: Detectors, total: int, fakes: int, unread: int, others: int) -> str:
    """Say what was found in all, by which model."""
    names = ", ".join(
        f"{name}{'' if one.threshold.calibration else ' (P(fake) not calibrated)'}"
        for name, one in detectors.loaded.items()
    )
    said = f"{total - unread} judged, {fakes} look fake, {unread} could not be read"
    if others:
        said += f", {others} files with other names left out"
    return f"{said}; model: {names}. {CAVEAT}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always ends by SystemExit with one of the exit codes."""
    options = _parse(arguments)
    try:
        code = benchmark(options) if options.command == "benchmark" else run(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = SOME_UNREAD
    except BrokenPipeError:  # the reader of our lines has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = SOME_UNREAD
    raise SystemExit(code)


if __name__ == "__main__":
    main()
