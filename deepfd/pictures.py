"""Pictures from outside: which files are meant, what is in them, what of them is judged.

Nothing here needs torch. Every file ends as a picture with a record of what was done to it, or as
a UserError that says what is wrong with it.
"""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deepfd import faces
from pipeline import images
from pipeline.errors import UserError

STDIN = "-"
# A grey picture saved in colour: its channels differ by rounding and no more.
GREY_SPREAD = 4
# From this overlap with the face's own square on, the crop of the training pictures is taken.
SAME_CROP = 0.6
EXIF_ORIENTATION = 0x0112
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")

How = Literal["whole", "face", "crop"]


def listed(arguments: Iterable[str], stdin: Iterable[str]) -> tuple[list[Path], int]:
    """Turn the arguments of the command line into files, each once, in order.

    Args:
        arguments: files, folders (with all below them, by name), globs (`**` too) and `-`.
        stdin: what `-` stands for: one such argument a line.

    Returns:
        The files, and how many of the folders' files were left out because their names end like no
        picture's. What does not exist is among the files, so that reading it says so.
    """
    found: dict[Path, None] = {}
    others = 0
    for argument in arguments:
        if argument == STDIN:
            lines = [line.rstrip("\r\n") for line in stdin]
            paths, more = listed([line for line in lines if line and line != STDIN], ())
        else:
            paths, more = _files(argument)
        found |= dict.fromkeys(paths)
        others += more
    return list(found), others


def _files(argument: str) -> tuple[list[Path], int]:
    path = Path(argument)
    if path.is_dir():
        found, others, suffixes = [], 0, tuple(_suffixes())
        # Strings throughout: sorting and cutting a hundred thousand Path objects takes seconds.
        # What cannot be listed is kept, so that reading it says so.
        closed: list[Path] = []
        walk = os.walk(argument, onerror=lambda error: closed.append(Path(error.filename)))
        for folder, folders, names in walk:
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            visible = sorted(name for name in names if not name.startswith("."))
            chosen = [name for name in visible if name.lower().endswith(suffixes)]
            found += [Path(folder, name) for name in chosen]
            others += len(visible) - len(chosen)
        # A folder without a picture is itself the thing that cannot be read.
        return found + closed or [path], others
    if not path.exists() and glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 (absolute ones too)
        # A folder that a glob names is entered as if it were named itself.
        parts = [_files(one) if one != argument else ([Path(one)], 0) for one in matches]
        return [p for paths, _ in parts for p in paths] or [path], sum(n for _, n in parts)
    return [path], 0


@functools.cache
def _suffixes() -> dict[str, str]:
    """File suffix -> Pillow's format, of everything Pillow reads."""
    return {s: f for s, f in Image.registered_extensions().items() if f in Image.OPEN}


@dataclass
class Opened:
    """A decoded picture, upright, in the mode it came in.

    Attributes:
        image: the picture.
        format: as its content says (`JPEG`, ...), None where it came decoded.
        notes: what whoever reads the verdict should know of it.
    """

    image: Image.Image
    format: str | None = None
    notes: list[str] = field(default_factory=list)

    @functools.cached_property
    def is_grey(self) -> bool:
        """Whether no pixel has a colour (compared on a small copy)."""
        if self.image.mode in ("1", "L", "LA", *SIXTEEN_BITS):
            return True
        small = self.image.resize((64, 64), Image.Resampling.BOX, reducing_gap=2.0)
        values = np.asarray(small.convert("RGB"), dtype=np.int16)
        return int(np.ptp(values, axis=-1).max()) <= GREY_SPREAD


def read(path: Path) -> Opened:
    """Decode a picture file; of several frames the first.

    Raises:
        UserError: missing, empty, no picture, broken, or of too many pixels.
    """
    try:
        if path.is_dir():
            next(path.iterdir(), None)  # says why, where it cannot be listed
            raise UserError(f"{path}: a folder without a picture in it")
        if not path.is_file():
            what = "not a regular file" if path.exists() else "not found"
            raise UserError(f"{path}: {what}; expected a picture")
        if not path.stat().st_size:
            raise UserError(f"{path}: empty, 0 bytes; expected a picture")
        with Image.open(path) as image:
            # Pillow only warns from here on, and refuses from twice as many pixels on.
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            notes = _notes(image, path)
            image.load()
            if image.getexif().get(EXIF_ORIENTATION, 1) != 1:  # in a PNG, known once it is loaded
                notes.append("turned upright as its EXIF data says")
                return Opened(ImageOps.exif_transpose(image), image.format, notes)
            return Opened(image, image.format, notes)
    except UnidentifiedImageError:  # its message is the path once more
        raise UserError(f"{path}: not a readable picture: no format that Pillow knows") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{path}: more than {Image.MAX_IMAGE_PIXELS // 10**6} million pixels, which is not "
            "decoded (a small file can unpack to any size); make it smaller first"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: not a readable picture: {reason}") from None
    except UserError:
        raise
    except Exception as error:  # Pillow raises SyntaxError, ValueError, struct.error, ...
        raise UserError(f"{path}: not a readable picture: {error}") from None


def _notes(image: Image.Image, path: Path) -> list[str]:
    notes = []
    named = _suffixes().get(path.suffix.lower())
    # MPO, the several pictures of a phone's JPEG, is named .jpg by everyone.
    if named and named != image.format and not {named, image.format} <= {"JPEG", "MPO"}:
        notes.append(f"the name says {named}, the content is {image.format}")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"{frames} frames: the first is judged")
    if image.mode == "CMYK":
        notes.append("CMYK: converted to RGB without its colour profile")
    if image.mode in SIXTEEN_BITS:
        notes.append("16 bits a channel: scaled to 8")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        notes.append("transparent parts are laid on white")
    return notes


@dataclass(frozen=True)
class View:
    """A part of a picture that is judged: `box` (left, upper, right, lower) and how it was chosen.

    `how` is `whole` (the picture has the detector's size), `face` (a face was found there) or
    `crop` (the crop of the training pictures).
    """

    box: faces.Box
    how: How


def views(
    opened: Opened,
    size: int,
    crop: images.Crop,
    framing: faces.Framing | None,
    find_faces: bool = True,
) -> list[View]:
    """Choose what of a picture is judged; notes on it are added to `opened.notes`.

    Args:
        opened: the picture.
        size: side of what the detector reads, in pixels.
        crop: how the training pictures were cropped.
        framing: where the face lies in them (`faces.framing_of`), None if unknown.
        find_faces: look for faces in a picture that is larger than `size`.

    Returns:
        One view per face found, the largest first; else one.
    """
    width, height = opened.image.size
    if (width, height) == (size, size):
        return [View((0, 0, width, height), "whole")]
    default = images.crop_box(width, height, crop)
    name = {"center": "its centre", "full": "the whole of it"}.get(crop, "the training crop of it")
    if max(width, height) > size and find_faces:
        if framing is None:
            opened.notes.append(f"larger than {size} px: {name} is judged, since the model does "
                                "not say how its training faces were framed")  # fmt: skip
        elif not faces.available():
            opened.notes.append(f"larger than {size} px: {name} is judged; faces are looked for "
                                'with pip install "deepfd-benchmark[face]"')  # fmt: skip
        else:
            found = [faces.square(box, framing, width, height) for box in faces.find(opened.image)]
            if not found:
                opened.notes.append(f"no face found: {name} is judged")
            elif len(found) > 1 or faces.overlap(found[0], default) < SAME_CROP:
                for box in found:
                    if box[2] - box[0] < size:
                        opened.notes.append(f"a face cut out at {box[2] - box[0]} px, enlarged to "
                                            f"{size}: little to judge by")  # fmt: skip
                return [View(box, "face") for box in found]
    elif max(width, height) > size:
        opened.notes.append(f"larger than {size} px: {name} is judged")
    if min(default[2] - default[0], default[3] - default[1]) < size:
        opened.notes.append(f"smaller than {size} px: enlarged, little to judge by")
    return [View(default, "crop")]


def pixels(
    opened: Opened,
    chosen: Sequence[View],
    size: int,
    channels: int,
    finish: images.Jpeg | None = None,
) -> np.ndarray:
    """Bring the views of a picture to uint8 (N, size, size, channels), by the one way to pixels.

    Raises:
        UserError: a pixel format without an agreed range.
    """
    width, height = opened.image.size
    # As fractions, which `to_pixels` turns back into these very pixels: cut out once, not twice.
    crops = [
        (one.box[0] / width, one.box[1] / height, one.box[2] / width, one.box[3] / height)
        for one in chosen
    ]
    return np.stack(
        [images.to_pixels(opened.image, size, channels, crop, finish) for crop in crops]
    )


def batched(items: Iterable[tuple[object, int]], batch: int) -> Iterator[list[object]]:
    """Group items with a weight each, to `batch` or more in sum (the last to what is left)."""
    group: list[object] = []
    total = 0
    for item, weight in items:
        group.append(item)
        total += weight
        if total >= batch:
            yield group
            group, total = [], 0
    if group:
        yield group
