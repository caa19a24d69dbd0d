"""`deepfd detect photo.jpg`: says how probably a picture of a face is a fake.

Reads a fitted detector's folder (by default `models/deepfd/none/0`) and its `threshold.json`,
prints one line per picture, and writes the heat map on request.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, one_line

if TYPE_CHECKING:
    from deepfd.detector import Detector

MODEL = Path("models/deepfd/none/0")
THRESHOLD = "threshold.json"
EVEN_ODDS = 0.5
CAVEAT = (
    "A hint, not proof: this detector knows the photographs and generators it was trained on; it "
    "can miss fakes of others and take photographs of other origin for fakes."
)


def read_threshold(folder: Path) -> tuple[float, str]:
    """Return the score from which a picture is called fake, and the rule in words.

    Without `threshold.json` in the model's folder that is 0.5.

    Raises:
        UserError: the file is there but cannot be read.
    """
    path = folder / THRESHOLD
    if not path.exists():
        return EVEN_ODDS, "even odds; this model has no threshold of its own"
    try:
        found = json.loads(path.read_text())
        rule, target = str(found["rule"]), float(found["target"])
        return float(found["threshold"]), (
            f"rule {rule}: at most {target:.1%} of the validation photographs are called fake"
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a threshold ({type(error).__name__}: {error}); expected rule, target "
            "and threshold: run the fit stage again"
        ) from None


def detect(detector: Detector, path: Path, threshold: float) -> dict[str, Any]:
    """Score one picture.

    Returns:
        `picture`, `p_fake` in [0, 1], `threshold` and `fake` (p_fake >= threshold).

    Raises:
        UserError: the file is missing or no picture.
    """
    p_fake = float(detector(path)[0])
    return {
        "picture": str(path),
        "p_fake": p_fake,
        "threshold": threshold,
        "fake": p_fake >= threshold,
    }


def _map_path(out: Path, number: int, picture: Path, several: bool) -> Path:
    """Path of a heat map: `out` for one picture; for several with number and name in it."""
    return out.with_name(f"{out.stem}-{number}-{picture.stem}.png") if several else out


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deepfd", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("detect", help="say how probably pictures of faces are fake")
    command.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    command.add_argument("--model", type=Path, default=MODEL, help="folder (default: %(default)s)")
    command.add_argument("--map", type=Path, metavar="PNG", help="write the heat map here")
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser.parse_args(arguments)


@one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 all pictures were scored, 1 one could not be (the others are) or the model cannot
    be read, 2 wrong usage. A fake is no error.
    """
    options = _parse(arguments)
    threshold, rule = read_threshold(options.model)
    import deepfd

    detector = deepfd.load(options.model)
    several = len(options.pictures) > 1
    failed = False
    for number, path in enumerate(options.pictures, start=1):
        try:
            found = detect(detector, path, threshold)
            if options.map:
                from deepfd.localise import write_overlay

                target = _map_path(options.map, number, path, several)
                write_overlay(detector, path, target)
                found["map"] = str(target)
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            failed = True
            continue
        if options.json:
            print(json.dumps(found))
            continue
        verdict = "looks fake" if found["fake"] else "no sign of a fake found"
        line = (
            f"{path}: {verdict} (P(fake) {found['p_fake']:.3f}, called fake from {threshold:.3f})"
        )
        print(f"{line}, map in {found['map']}" if "map" in found else line)
    if not options.json:
        print(f"Threshold: {rule}. {CAVEAT}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
