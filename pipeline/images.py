"""The one way to pixels: photographs and fakes alike are cropped, resized, rounded and coded here.

Two classes that differ in their resize filter, rounding or codec can be told apart by that alone
(the paper's own data could be), so no other module of the project resizes or encodes an image.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import kornia_rs.io
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError

FILTER = Image.Resampling.LANCZOS
PNG_LEVEL = 6
# A PNG begins with these bytes and the chunk IHDR: width, height, bits, colour type (0 is grey, 2
# RGB).
PNG, IHDR, MODES = b"\x89PNG\r\n\x1a\n", struct.Struct(">16x2IBB"), {(8, 0): "mono", (8, 2): "rgb"}
# Pillow warns above this number of pixels, and above twice as many refuses before it decodes.
Image.MAX_IMAGE_PIXELS = 50_000_000

Crop = str | Sequence[float]


@dataclass(frozen=True)
class Jpeg:
    """A finish: the last step to pixels is one JPEG, of photographs and fakes alike.

    Photographs that came as JPEGs keep traces of that, and of their halved chroma, which no fake
    has; one more JPEG of both evens codec and band.

    Attributes:
        jpeg: quality, 1 to 100, of the tables that Pillow and libjpeg scale.
        subsampling: of chroma, 420 (halved both ways) or 444 (none); grey pictures have none.
        grid: by how many pixels (right, down), 0 to 15, its blocks of 8x8 (16x16 of halved chroma)
            are moved. A picture cut out of a JPEG along its blocks meets the same blocks again at
            (0, 0), and others anywhere else.
    """

    jpeg: int
    subsampling: int = 420
    grid: tuple[int, int] = (0, 0)


def open_image(data: bytes) -> Image.Image:
    """Decode an encoded picture wholly, upright (EXIF applied).

    Raises:
        UserError: the bytes are no complete picture of a format Pillow reads.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:  # its message is an address in memory, another one every run
        raise UserError("not a readable picture: no format that Pillow knows") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        raise UserError(f"not a readable picture: {error}") from error


def to_mode(image: Image.Image, channels: int) -> Image.Image:
    """Convert any Pillow mode to 8-bit grey (`channels` 1) or RGB (3); alpha is laid on white.

    16 bits are scaled by 255 / 65535 whatever the picture's own maximum, so that a dark picture
    stays dark.

    Raises:
        UserError: a mode without an agreed range (floats; integers beyond 16 bits).
    """
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit PNG, PGM (as I), TIFF
        values = np.asarray(image, dtype=np.float64)
        if values.min(initial=0.0) < 0 or values.max(initial=0.0) > 65535:
            raise UserError("32-bit integer picture; expected 8 or 16 bits a channel: convert it")
        image = Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
    if image.mode == "F":
        raise UserError("floating-point picture; expected 8 or 16 bits a channel: convert it")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB").convert("L" if channels == 1 else "RGB")


def crop_box(width: int, height: int, crop: Crop) -> tuple[int, int, int, int]:
    """Return (left, upper, right, lower) in whole pixels.

    `crop` is "center" (the largest centred square), "full" (the whole picture, squeezed to a
    square), or four fractions of width and height (left, upper, right, lower).
    """
    if crop == "full":
        return 0, 0, width, height
    if crop == "center":
        side = min(width, height)
        left, upper = (width - side) // 2, (height - side) // 2
        return left, upper, left + side, upper + side
    left, upper, right, lower = crop
    return round(left * width), round(upper * height), round(right * width), round(lower * height)


def finished(pixels: np.ndarray, finish: Jpeg | None) -> np.ndarray:
    """Finish uint8 (H, W, C) as the profile says; None leaves it as it is."""
    if finish is None:
        return pixels
    buffer = io.BytesIO()
    subsampling = {420: "4:2:0", 444: "4:4:4"}[finish.subsampling]
    right, down = finish.grid
    # Coded as the lower right part of a larger picture, whose blocks begin outside of this one.
    if right or down:
        pixels = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), mode="edge")
    to_pil(pixels).save(buffer, format="JPEG", quality=finish.jpeg, subsampling=subsampling)
    coded = np.asarray(Image.open(buffer), dtype=np.uint8).reshape(pixels.shape)
    return coded[down:, right:]


def to_pixels(
    image: Image.Image,
    size: int,
    channels: int,
    crop: Crop = "center",
    finish: Jpeg | None = None,
) -> np.ndarray:
    """Crop, resize and finish to uint8 (size, size, channels), values 0..255."""
    # Cropped before the filter, which would otherwise mix in what lies outside the crop: a fake has
    # nothing there, so that its border alone would tell it from a photograph.
    image = to_mode(image.crop(crop_box(*image.size, crop)), channels)
    if image.size != (size, size):
        image = image.resize((size, size), FILTER)
    return finished(np.asarray(image, dtype=np.uint8).reshape(size, size, channels), finish)


def from_unit(images: np.ndarray) -> np.ndarray:
    """Round float (N, C, H, W) in [-1, 1] to uint8 (N, H, W, C): rint((x + 1) * 127.5), clipped.

    Raises:
        UserError: a value is NaN or infinite.
    """
    if not np.isfinite(images).all():
        raise UserError("a generator gave NaN or infinite pixels; expected values in [-1, 1]")
    return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 (N, H, W, C) into float32 (N, C, H, W) in [-1, 1]; inverse of `from_unit`."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1.0


def generated_to_pixels(
    images: np.ndarray,
    size: int,
    channels: int,
    crop: Crop = "center",
    finish: Jpeg | None = None,
) -> np.ndarray:
    """Bring float (N, C, H, W) in [-1, 1] of any size to uint8 (N, size, size, channels)."""
    native = from_unit(images)
    if native.shape[1:] == (size, size, channels) and crop in ("center", "full"):
        return np.stack([finished(one, finish) for one in native])
    return np.stack([to_pixels(to_pil(one), size, channels, crop, finish) for one in native])


def to_pil(pixels: np.ndarray) -> Image.Image:
    """Turn uint8 (H, W, 1 or 3) into a Pillow image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W, C) losslessly, the same settings for every image of the project."""
    buffer = io.BytesIO()
    to_pil(pixels).save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Decode `encode_png`'s bytes to uint8 (H, W, C), in a third of the time that Pillow takes.

    What is none of its PNGs is left to Pillow: the gates look at such pictures, too.
    """
    if data.startswith(PNG):
        width, height, *kind = IHDR.unpack_from(data)
        if mode := MODES.get(tuple(kind)):
            return kornia_rs.io.decode_image_png_u8(data, (height, width), mode)
    pixels = np.asarray(Image.open(io.BytesIO(data)), dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def pixel_sha256(pixels: np.ndarray) -> str:
    """Digest of shape and values, independent of any codec."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def perceptual_hash(picture: Image.Image) -> np.ndarray:
    """Return the 256 bits of a picture's pHash: bool (256,), alike for near-duplicates."""
    import imagehash  # brings scipy: only where it is needed

    return imagehash.phash(picture.convert("L"), hash_size=16).hash.ravel()
