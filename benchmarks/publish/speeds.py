"""What is kept of `make speed`, and its tables in docs/speed.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from benchmarks.publish.artefact import FOLDER
from pipeline.errors import UserError
from pipeline.manifest import write_atomic

# As a name of kept results, beside those of profiles.
NAME = "speed"
SPEED, GROWTH = "speed.parquet", "growth.parquet"
META = b"deepfd.about"


@dataclass(frozen=True)
class KeptSpeed:
    """The kept measurements.

    Attributes:
        rows: of `benchmarks.speed.turns.SCHEMA`.
        about: machine, commit and how long it took.
        growth: rows of `benchmarks.speed.growth.SCHEMA`; none where they are not kept.
        growth_about: likewise of the growth.
    """

    rows: pd.DataFrame
    about: dict[str, Any]
    growth: pd.DataFrame | None = None
    growth_about: dict[str, Any] | None = None


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    try:
        table = pq.read_table(path)
        return table.to_pandas(), json.loads(table.schema.metadata[META])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); measure again: make speed") from None


def read(folder: Path = FOLDER) -> KeptSpeed | None:
    """Read what is kept, None where there is nothing.

    Raises:
        UserError: a file is damaged.
    """
    if not (folder / SPEED).is_file():
        return None
    growth = _read(folder / GROWTH) if (folder / GROWTH).is_file() else (None, None)
    return KeptSpeed(*_read(folder / SPEED), *growth)


def put(path: Path, folder: Path = FOLDER) -> Path:
    """Keep a measurement under its own name."""
    write_atomic(folder / path.name, path.read_bytes())
    return folder / path.name


def figure(value: float) -> str:
    """Write a number with three significant digits.

    >>> figure(12345.6), figure(3.14159), figure(0.0123)
    ('12,300', '3.14', '0.0123')
    """
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")


def _spread(row: pd.Series, what: str) -> str:
    low, middle, high = (figure(row[f"{what}_{s}"]) for s in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low}–{high})"


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(one)} |" for one in (head, ["---"] * len(head), *lines))


def races(kept: KeptSpeed) -> str:
    """One row per comparison, unit and way."""
    lines = []
    for _, row in kept.rows.iterrows():
        is_ours = row["way"] == "ours"
        ratio = "" if is_ours else _spread(row, "ratio")
        target = "" if pd.isna(row["target"]) else f"{row['target']:g}"
        name = f"{row['comparison']} ({row['note']})" if row["note"] else row["comparison"]
        lines.append(
            [name if is_ours else "", row["way"], f"{_spread(row, 'rate')} {row['unit']}",
             _spread(row, "seconds"), ratio, target]
        )  # fmt: skip
    head = ["what", "way", "in a second", "seconds of a turn", "ours is so many times as fast"]
    return _table([*head, "aim"], lines)


def short(kept: KeptSpeed) -> str:
    """Name what falls short of its aim."""
    missed = kept.rows[kept.rows["ratio_median"] < kept.rows["target"]]
    if missed.empty:
        return "Every aim is reached."
    each = (
        f"{row['comparison']} against {row['way']} (in {row['unit']}): {_spread(row, 'ratio')} "
        f"where {row['target']:g} was aimed at"
        for _, row in missed.iterrows()
    )
    return "Short of its aim: " + "; ".join(each) + "."


def where(kept: KeptSpeed) -> str:
    """Say where and how it was measured."""
    about = kept.about
    minutes = about["seconds"] / 60
    return (
        f"Measured on {about['cores']} cores of {about['cpu']}, GPU {about['gpu']}, commit "
        f"`{about['commit'][:12]}`, in {minutes:.0f} minutes; median (least–most) over turns."
    )


def growth(kept: KeptSpeed) -> str:
    """One row per step and quantity: how much each more of it costs."""
    if kept.growth is None:
        return "Not measured yet."
    lines = [
        [row["step"], row["quantity"], f"{row['least']:g}–{row['most']:g}",
         figure(row["seconds_slope"]) if row["seconds_slope"] > 0 else "0",
         f"{row['seconds_intercept']:.2f}", f"{row['megabytes_slope']:.4g}",
         f"{row['megabytes_intercept']:.0f}", f"{row['fit']:.2f}"]
        for _, row in kept.growth.iterrows()
    ]  # fmt: skip
    head = ["step", "grows with", "measured", "s for each more", "s at 0", "MB for each more"]
    return _table([*head, "MB at 0", "R² of the time"], lines)
