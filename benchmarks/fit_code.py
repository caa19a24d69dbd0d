"""Digest the code that every fit runs: `python -m benchmarks.fit_code`, stage `fit-code`.

The fits depend on data/fit-code.json instead of a dozen files each: DVC looks at every dependency
of every stage, and there are some forty fits.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeline.errors import one_line
from pipeline.manifest import write_atomic

OUT = Path("data/fit-code.json")
# The deps of the stage in dvc.yaml; folders with every module in them.
CODE = (
    "benchmarks/components.py",
    "benchmarks/fit.py",
    "benchmarks/methods",
    "benchmarks/perturb.py",
    "benchmarks/scores.py",
    "benchmarks/thresholds.py",
    "deepfd",
    "pipeline/folds.py",
    "pipeline/images.py",
    "pipeline/manifest.py",
    "pipeline/precision.py",
    "pipeline/seeds.py",
)


def digests(root: Path = Path()) -> dict[str, str]:
    """Return the sha256 of each Python file of `CODE` under `root`, by its path."""
    files = []
    for path in CODE:
        place = root / path
        files += sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


@one_line
def main() -> None:
    """Write data/fit-code.json."""
    write_atomic(OUT, (json.dumps(digests(), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
