"""DeepFD: D1 and D2, their losses, training, localisation and command line.

>>> import deepfd
>>> model = deepfd.load()  # the model at hand, or one that is shipped  # doctest: +SKIP
>>> model.predict("photo.jpg")                                          # doctest: +SKIP
Prediction(probability=0.03, threshold=0.61, verdict='no sign', ...)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfd.predict import Predictor


def load(model: str | Path | None = None, *, grey: bool = False) -> Predictor:
    """Load a fitted detector; torch is imported now and not before.

    Args:
        model: a folder (`models/<method>/<held_out>/<seed>`) or the name of a shipped model. None
            is `models/deepfd/none/0` if it lies in the current folder, else a shipped one.
        grey: where a shipped model is taken by default, that for grey pictures.

    Returns:
        Its `predict` takes paths, Pillow images, arrays and tensors, one or many, and says
        probability, threshold, verdict and where (`deepfd.predict.Prediction`).

    Raises:
        pipeline.errors.UserError: there is no such model, or a file is damaged or of another
            format.
    """
    from deepfd import shipped

    return shipped.load(model, grey)


def from_pretrained(model: str | Path, **options: Any) -> Predictor:
    """Load a model from the Hugging Face Hub (`user/name`), or from a folder as pushed there.

    Args:
        model: the repository's id, or a folder.
        options: of `huggingface_hub.ModelHubMixin.from_pretrained`: `revision`, `token`, ...
    """
    from deepfd.predict import Predictor

    return Predictor.from_pretrained(model, **options)
