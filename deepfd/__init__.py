"""DeepFD: D1 and D2, their losses, training, localisation and command line.

>>> import deepfd
>>> model = deepfd.load("models/deepfd/none/0")  # doctest: +SKIP
>>> model("photo.jpg")  # P(fake)              # doctest: +SKIP
array([0.03])
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepfd.detector import Detector


def load(path: str | Path) -> Detector:
    """Read a fitted detector (`models/<method>/<held_out>/<seed>`).

    It is called with Pillow images, paths, arrays or tensors and returns P(fake); see
    `deepfd.localise` for where in the picture. torch is imported on the first call only.

    Raises:
        pipeline.errors.UserError: a file is missing, damaged or of another format.
    """
    from deepfd.detector import Detector

    return Detector.load(Path(path))
