"""Where the faces of a picture are, and how a face is framed for a detector.

The finder is dlib's frontal one (histograms of oriented gradients; its weights are compiled into
the library), an optional extra: `pip install "deepfd-benchmark[face]"`. Beside the cascades that
OpenCV 4 shipped (5 has none), it found the same 80 of 80 faces put into other pictures, with no
false one, in a fifth of the time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pipeline import images

Box = tuple[int, int, int, int]
# left, upper, right, lower as fractions of a training picture.
Framing = Sequence[float]

# Finding works on a grey copy of at most this many pixels a side: faces from a tenth of that on.
LARGEST_SIDE = 800
# Before that on a coarse one, in a tenth of the time. A face on it that takes up so much of the
# picture is what the picture is of, and the search ends there.
COARSE_SIDE = 200
FILLS = 1 / 5
# dlib finds faces from 80 px on; copies up to this side are enlarged twofold for it.
SMALL_SIDE = 400
# A face cut by the border is found once there is something beyond it.
PADDING = 1 / 8
SAMPLE = 64


# One finder a thread: dlib lets go of Python's lock, and a finder has working memory of its own.
_OF_THREAD = threading.local()


def _finder() -> Any:
    """Return dlib's finder, None where dlib is not installed."""
    if not hasattr(_OF_THREAD, "finder"):
        try:
            import dlib
        except ImportError:
            return None
        _OF_THREAD.finder = dlib.get_frontal_face_detector()
    return _OF_THREAD.finder


def available() -> bool:
    """Whether the extra `face` is installed."""
    return _finder() is not None


def find(picture: Image.Image) -> list[Box]:
    """Return the frontal faces of a picture, the largest first; [] without the extra.

    A box goes from the eyebrows to the chin, in the picture's pixels, and may reach beyond it.
    Beside a face that takes up a fifth of the picture or more (`FILLS`), small ones are not looked
    for.
    """
    if not available():
        return []
    # Any picture is read: its grey version only says where to look.
    grey = images.to_mode(picture, 1)
    found = _found_at(grey, COARSE_SIDE, enlarge=False)
    if not found or _area(found[0]) < FILLS * grey.width * grey.height:
        found = _found_at(grey, LARGEST_SIDE, enlarge=max(grey.size) <= SMALL_SIDE)
    return found


def _found_at(grey: Image.Image, side: int, enlarge: bool) -> list[Box]:
    """Find faces on a copy of at most `side` pixels, enlarged twofold or not."""
    scale = min(1.0, side / max(grey.size))
    width, height = (max(1, round(side * scale)) for side in grey.size)
    if scale < 1:
        grey = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pad = round(PADDING * max(width, height))
    padded = np.ascontiguousarray(np.pad(np.asarray(grey), pad, mode="edge"))
    found = [
        tuple(
            round((edge - pad) / scale)
            for edge in (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
        )
        for box in _finder()(padded, int(enlarge))
    ]
    return sorted(found, key=lambda box: (-_area(box), box))


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def framing_of(pixels: np.ndarray) -> tuple[float, float, float, float] | None:
    """Say where in a detector's training pictures the face lies, the median of all found.

    Args:
        pixels: uint8 (N, size, size, C), photographs as the detector is trained on; `SAMPLE` of
            them are looked at, evenly spaced (about a second).

    Returns:
        Fractions (left, upper, right, lower) of the picture; None without the extra, or where no
        face is found. Kept with the model (`about["framing"]`), so that a face in a larger picture
        is cut out as the training faces were.
    """
    boxes = []
    for one in pixels[:: max(1, len(pixels) // SAMPLE)][:SAMPLE]:
        picture = images.to_pil(one)
        # Enlarged, since a face of a 64 px picture is smaller than the finder's smallest.
        enlarge = SMALL_SIDE // max(picture.size) + 1
        size = (picture.width * enlarge, picture.height * enlarge)
        found = find(picture.resize(size, images.FILTER))
        if len(found) == 1:
            boxes.append(np.divide(found[0], (*size, *size)))
    return tuple(np.median(boxes, axis=0).round(3).tolist()) if boxes else None


def square(face: Box, framing: Framing, width: int, height: int) -> Box:
    """Return the square round a face that frames it as `framing` says, within the picture.

    A square larger than the picture is made as large as fits; one that reaches beyond a border is
    moved inside.
    """
    left, upper, right, lower = framing
    side = ((face[2] - face[0]) / (right - left) + (face[3] - face[1]) / (lower - upper)) / 2
    x = (face[0] + face[2]) / 2 - side * (left + right) / 2
    y = (face[1] + face[3]) / 2 - side * (upper + lower) / 2
    fits = max(1, min(round(side), width, height))
    # Made smaller, it keeps its centre.
    x, y = x + (side - fits) / 2, y + (side - fits) / 2
    x, y = min(max(0, round(x)), width - fits), min(max(0, round(y)), height - fits)
    return x, y, x + fits, y + fits


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    return shared / (_area(one) + _area(other) - shared) if shared else 0.0
