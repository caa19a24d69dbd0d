"""The one way to pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline import images
from pipeline.errors import UserError


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_to_unit_and_back_gives_every_grey_level_again() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    unit = images.to_unit(levels)
    assert unit.dtype == np.float32
    assert unit.shape == (1, 1, 16, 16)
    assert (unit.min(), unit.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(images.from_unit(unit), levels)


def test_from_unit_rounds_to_the_nearest_level_and_clips() -> None:
    level = 2 / 255
    values = np.array([-1.5, -1.0, -1 + 0.4 * level, -1 + 0.6 * level, 1.0, 9.0], dtype=np.float32)
    got = images.from_unit(values.reshape(1, 1, 1, -1)).ravel()
    np.testing.assert_array_equal(got, [0, 0, 0, 1, 255, 255])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_from_unit_refuses_what_is_no_number(value: float) -> None:
    batch = np.zeros((2, 1, 4, 4), dtype=np.float32)
    batch[1, 0, 2, 2] = value
    with pytest.raises(UserError, match="NaN or infinite"):
        images.from_unit(batch)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless_and_the_same_bytes_every_time(channels: int) -> None:
    pixels = noise(20, 20, channels)
    data = images.encode_png(pixels)
    assert data == images.encode_png(pixels.copy())
    np.testing.assert_array_equal(images.decode_png(data), pixels)


def test_the_digest_of_pixels_knows_values_and_shape_and_no_codec() -> None:
    pixels = noise(8, 8, 3)
    assert images.pixel_sha256(pixels) == images.pixel_sha256(np.asfortranarray(pixels))
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    assert images.pixel_sha256(pixels) != images.pixel_sha256(changed)
    assert images.pixel_sha256(pixels) != images.pixel_sha256(pixels.reshape(8, 24, 1))


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        ("center", (10, 0, 30, 20)),
        ("full", (0, 0, 40, 20)),
        ((0.25, 0.5, 0.75, 1.0), (10.0, 10.0, 30.0, 20.0)),
    ],
)
def test_crop_boxes_are_in_pixels(crop: images.Crop, box: tuple[float, ...]) -> None:
    assert images.crop_box(40, 20, crop) == box


def test_the_crop_cuts_what_lies_outside() -> None:
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, 10:30] = 200
    image = Image.fromarray(pixels)
    for crop in ("center", (0.25, 0, 0.75, 1)):  # the filter may reach over the edge a little
        assert images.to_pixels(image, 16, 3, crop).min() > 190
    assert (images.to_pixels(image, 16, 3, "full") == 0).any()


def test_pixels_of_the_asked_size_are_not_touched() -> None:
    pixels = noise(32, 32, 3)
    np.testing.assert_array_equal(images.to_pixels(Image.fromarray(pixels), 32, 3), pixels)
    unit = images.to_unit(pixels[None])
    np.testing.assert_array_equal(images.generated_to_pixels(unit, 32, 3), pixels[None])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("native", [1, 3])
def test_photographs_and_fakes_of_the_same_content_get_the_same_pixels(
    native: int, channels: int
) -> None:
    content = noise(48, 48, native)
    photograph = images.open_image(images.encode_png(content))
    real = images.to_pixels(photograph, 32, channels)
    fake = images.generated_to_pixels(images.to_unit(content[None]), 32, channels)
    assert real.shape == (32, 32, channels)
    np.testing.assert_array_equal(real, fake[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("native", [32, 48])
def test_both_classes_are_finished_last_by_the_same_jpeg(native: int, channels: int) -> None:
    content, finish = noise(native, native, channels), images.Jpeg(75)
    photograph = images.to_pil(content)
    real = images.to_pixels(photograph, 32, channels, "center", finish)
    unit = images.to_unit(content[None])
    (fake,) = images.generated_to_pixels(unit, 32, channels, finish=finish)
    np.testing.assert_array_equal(real, fake)
    plain = images.to_pixels(photograph, 32, channels)
    buffer = io.BytesIO()
    images.to_pil(plain).save(buffer, "JPEG", quality=75, subsampling="4:2:0")
    np.testing.assert_array_equal(real, images.decode_png(buffer.getvalue()))
    assert (real != plain).any() and real.dtype == np.uint8


def test_a_finish_keeps_or_halves_chroma_and_is_nearer_at_a_higher_quality() -> None:
    pixels = noise(32, 32, 3)

    def error(*finish: int) -> float:
        return float(
            np.abs(images.finished(pixels, images.Jpeg(*finish)).astype(int) - pixels).mean()
        )

    assert error(95, 444) < error(90, 444) < error(90, 420)
    np.testing.assert_array_equal(images.finished(pixels, None), pixels)


def test_the_blocks_of_a_finish_begin_where_its_grid_says() -> None:
    # A picture cut out of a larger one that is flat beyond it has the larger one's blocks.
    pixels, finish = noise(32, 32, 3), images.Jpeg(60, 420, (5, 3))
    larger = np.pad(pixels, ((3, 0), (5, 0), (0, 0)), mode="edge")
    expected = images.finished(larger, images.Jpeg(60))[3:, 5:]
    np.testing.assert_array_equal(images.finished(pixels, finish), expected)
    assert (expected != images.finished(pixels, images.Jpeg(60))).any()
    # One more of the same tables on the same blocks changes hardly anything, on others much.
    once = images.finished(pixels, images.Jpeg(60, 444))

    def change(grid: tuple[int, int]) -> float:
        again = images.finished(once, images.Jpeg(60, 444, grid))
        return float(np.abs(again.astype(int) - once).mean())

    assert change((0, 0)) < change((4, 4)) / 4


@pytest.mark.parametrize("crop", ["center", "full", (0.25, 0.125, 0.75, 0.625)])
@pytest.mark.parametrize("shape", [(32, 32), (48, 64)])
def test_what_is_kept_of_a_generator_s_picture_is_cut_out_as_of_a_photograph_s(
    shape: tuple[int, int], crop: images.Crop
) -> None:
    content = noise(*shape, 3)
    real = images.to_pixels(images.to_pil(content), 32, 3, crop)
    (fake,) = images.generated_to_pixels(images.to_unit(content[None]), 32, 3, crop)
    np.testing.assert_array_equal(real, fake)


def test_grey_stays_the_same_grey_through_three_channels() -> None:
    grey = noise(16, 16, 1)
    three = images.to_pixels(images.to_pil(grey), 16, 3)
    np.testing.assert_array_equal(three, np.repeat(grey, 3, axis=2))
    np.testing.assert_array_equal(images.to_pixels(Image.fromarray(three), 16, 1), grey)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_become_eight_by_the_range_of_the_format(kind: str) -> None:
    grey = noise(16, 16, 1)
    wide = Image.fromarray(grey[..., 0].astype(np.uint16) * 257)
    image = images.open_image(file_of(wide, kind))
    np.testing.assert_array_equal(images.to_pixels(image, 16, 1), grey)


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    dark = Image.fromarray(np.full((16, 16), 200, dtype=np.uint16))
    image = images.open_image(file_of(dark, "PNG"))
    assert images.to_pixels(image, 16, 1).max() == 1


def test_big_endian_sixteen_bits_are_read() -> None:
    grey = noise(16, 16, 1)
    data = (grey[..., 0].astype(">u2") * 257).astype(">u2").tobytes()
    image = Image.frombytes("I;16B", (16, 16), data)
    np.testing.assert_array_equal(images.to_pixels(image, 16, 1), grey)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_an_agreed_range_are_refused(dtype: type) -> None:
    image = images.open_image(file_of(Image.fromarray(np.full((8, 8), 70000, dtype)), "TIFF"))
    with pytest.raises(UserError, match="expected 8 or 16 bits"):
        images.to_mode(image, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    colour = Image.new("RGBA", (8, 8), (100, 100, 100, 255)).convert(mode)
    for alpha, grey in [(255, 100), (0, 255), (128, round(255 + (100 - 255) * 128 / 255))]:
        colour.putalpha(alpha)
        assert abs(int(images.to_pixels(colour, 8, 1).max()) - grey) <= 1
        assert abs(int(images.to_pixels(colour, 8, 3).min()) - grey) <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.filterwarnings("error")
def test_a_transparent_colour_becomes_white(mode: str) -> None:
    black = Image.new(mode, (8, 8), 0)
    key = (0, 0, 0) if mode == "RGB" else 0
    image = images.open_image(file_of(black, "PNG", transparency=key))
    assert images.to_pixels(image, 8, 3).min() == 255
    opaque = images.open_image(file_of(black, "PNG"))
    assert images.to_pixels(opaque, 8, 3).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turned_pictures_are_upright(orientation: int) -> None:
    turns = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    upright = noise(24, 16, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    image = images.open_image(file_of(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(image), upright)


def test_what_cannot_be_read_is_a_user_error_with_the_same_words_every_time() -> None:
    jpeg = file_of(Image.fromarray(noise(64, 64, 3)), "JPEG")
    png = bytearray(file_of(Image.fromarray(noise(64, 64, 3)), "PNG"))
    png[len(png) // 2] ^= 1
    for data in [b"", b"no picture", jpeg[: len(jpeg) // 2], bytes(png)]:
        messages = set()
        for _ in range(2):
            with pytest.raises(UserError) as error:
                images.open_image(data)
            messages.add(str(error.value))
        assert len(messages) == 1
        assert "0x" not in messages.pop()


def test_a_picture_that_announces_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    small = file_of(Image.new("L", (8, 8)), "BMP")
    side = (11_000).to_bytes(4, "little")
    bomb = small[:18] + side + side + small[26:]
    with pytest.raises(UserError, match="decompression bomb"):
        images.open_image(bomb)


def test_what_lies_outside_the_crop_leaves_no_trace():
    inside = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    dark, bright = (np.full((130, 90), value, np.uint8) for value in (0, 255))
    dark[20:110] = bright[20:110] = inside
    pixels = [images.to_pixels(Image.fromarray(one), 64, 1) for one in (dark, bright)]
    assert np.array_equal(*pixels)
