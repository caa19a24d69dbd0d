"""Which model is meant: a folder, one shipped with the package, or the one at hand.

Shipped models lie in `deepfd/models/<name>/`, one a profile, written by `python -m deepfd.hub`.
"""

from __future__ import annotations

import json
from pathlib import Path

from deepfd.detector import CARD
from deepfd.predict import Predictor
from pipeline.errors import UserError

LOCAL = Path("models/deepfd/none/0")
SHIPPED = Path(__file__).parent / "models"


def shipped() -> dict[str, Path]:
    """Models that came with the package: name -> folder."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CARD}"))}


def find(model: str | Path | None = None) -> dict[str, Path]:
    """Name the models that a request means: name -> folder.

    Args:
        model: a folder or the name of a shipped model. Where it is None: `models/deepfd/none/0` if
            it lies in the current folder, else all that are shipped, of which `choose` takes one
            for each picture.

    Raises:
        UserError: there is no such model, or none at all.
    """
    ready = shipped()
    if model is None:
        if (LOCAL / CARD).is_file():
            return {LOCAL.as_posix(): LOCAL}
        if not ready:
            raise UserError(
                f"no model: {LOCAL} is not in this folder and none is shipped with this install; "
                "fit one with make benchmark, or name one with --model"
            )
        return {f"shipped:{name}": folder for name, folder in ready.items()}
    if str(model) in ready and not Path(model).exists():
        return {f"shipped:{model}": ready[str(model)]}
    if not (Path(model) / CARD).is_file():
        names = f", or one of the shipped {', '.join(ready)}" if ready else ""
        raise UserError(
            f"{model} holds no {CARD}; expected the folder of a fitted detector "
            f"(models/<method>/<held_out>/<seed>, written by dvc repro){names}"
        )
    return {Path(model).as_posix(): Path(model)}


def choose(channels: dict[str, int], grey: bool) -> str:
    """Choose a model for a picture: a grey one for a grey picture, one in colour for the others.

    Args:
        channels: name of each model -> the channels it reads, 1 or 3.
        grey: whether the picture is grey.

    Returns:
        The first by order of its kind, or, where there is none, the first.
    """
    wanted = 1 if grey else 3
    return next((name for name, one in channels.items() if one == wanted), next(iter(channels)))


def load(model: str | Path | None = None, grey: bool = False) -> Predictor:
    """Load one model; see `find`.

    Args:
        model: a folder, a shipped name, or None.
        grey: of several shipped models take the grey one.
    """
    found = find(model)
    name = next(iter(found))
    if len(found) > 1:
        name = choose({name: _channels(folder) for name, folder in found.items()}, grey)
    return Predictor.load(found[name], name)


def _channels(folder: Path) -> int:
    """Read how many channels a model reads, without its weights.

    Raises:
        UserError: its card is damaged.
    """
    try:
        return int(json.loads((folder / CARD).read_text())["network"]["channels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CARD} does not say what its model reads ({type(error).__name__}: {error}); "
            "expected network.channels: install the package again"
        ) from None
