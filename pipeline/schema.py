"""The base of every block of params.yaml, and the kinds of values that several blocks share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt


class Model(BaseModel):
    """A frozen block of params in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {list(seeds)}; expected each once")
    return seeds


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(_each_once)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
