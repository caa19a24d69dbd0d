import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepfd import pictures
from deepfd.pictures import Opened
from pipeline import images
from pipeline.errors import UserError


def test_files_folders_globs_and_stdin_are_listed_once_and_in_order(tmp_path, make_photo):
    names = ("a/one.png", "a/deep/two.JPG", "a/.hidden/no.png", "b/three.png", "b/four.webp")
    paths = {name: make_photo(name) for name in names}
    (tmp_path / "a/words.txt").write_text("no picture")
    found, others = pictures.listed(
        [str(paths["b/four.webp"]), str(tmp_path / "a"), "-", str(tmp_path / "b/*.png")],
        [f"{paths['b/four.webp']}\n", "\n", "missing.png\n"],
    )
    assert [one.name for one in found] == [
        "four.webp", "one.png", "two.JPG", "missing.png", "three.png"
    ]  # fmt: skip
    assert others == 1


def test_a_recursive_glob_and_a_file_with_brackets_in_its_name(tmp_path, make_photo):
    make_photo("a/b/c.png")
    odd = make_photo("a[1].png")
    assert pictures.listed([str(tmp_path / "**/*.png")], ())[0] == [
        tmp_path / "a/b/c.png", odd
    ]  # fmt: skip
    assert pictures.listed([str(odd)], ())[0] == [odd]


def test_what_names_no_picture_is_kept_so_that_reading_it_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    for argument in ("empty", "*.png", "missing.png"):
        (path,), _ = pictures.listed([str(tmp_path / argument)], ())
        with pytest.raises(UserError, match=r"without a picture|not found"):
            pictures.read(path)


def test_a_folder_that_cannot_be_listed_is_kept_so_that_reading_it_says_so(
    tmp_path, make_photo, monkeypatch
):
    make_photo("a/one.png"), make_photo("a/closed/two.png")
    closed, scan, listing = tmp_path / "a/closed", os.scandir, os.listdir

    def refuse(call):
        def called(path):
            if Path(path) == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return call(path)

        return called

    # Root, whom no permission stops, runs these tests as well.
    monkeypatch.setattr("os.scandir", refuse(scan))
    monkeypatch.setattr("os.listdir", refuse(listing))
    found, _ = pictures.listed([str(tmp_path / "a")], ())
    assert found == [tmp_path / "a/one.png", closed]
    with pytest.raises(UserError, match="Permission denied"):
        pictures.read(closed)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def broken(path, content):
    path.write_bytes(content)
    return path


def png_of(width, height):
    """A PNG whose header promises more than its few bytes hold."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: broken(p / "x.jpg", b""), "empty, 0 bytes"),
        (lambda p: broken(p / "x.jpg", b"some words"), "no format that Pillow knows"),
        (lambda p: broken(p / "x.png", png_of(9000, 9000)), "more than 50 million pixels"),
        (lambda p: broken(p / "x.png", png_of(90000, 90000)), "more than 50 million pixels"),
        (lambda p: broken(p / "x.png", png_of(50, 50)), "not a readable picture"),
        (lambda p: p / "missing.jpg", "not found"),
    ],
)
def test_what_is_no_picture_says_why_and_names_its_path(tmp_path, make, match):
    path = make(tmp_path)
    with pytest.raises(UserError, match=match) as error:
        pictures.read(path)
    assert str(path) in str(error.value)


def test_a_cut_off_picture_is_refused(make_photo):
    path = make_photo()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="not a readable picture"):
        pictures.read(path)


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (lambda p: saved(p / "x.jpg", Image.new("RGB", (32, 32)), format="PNG"), "content is PNG"),
        (lambda p: saved(p / "x.jpg", Image.new("CMYK", (32, 32))), "CMYK"),
        (
            lambda p: saved(
                p / "x.png", Image.fromarray(np.full((32, 32), 40000, np.uint16))
            ),
            "16 bits",
        ),
        (lambda p: saved(p / "x.png", Image.new("RGBA", (32, 32))), "transparent"),
        (
            lambda p: saved(
                p / "x.gif",
                Image.new("L", (32, 32)),
                save_all=True,
                append_images=[Image.new("L", (32, 32), 200)],
            ),
            "2 frames: the first",
        ),
    ],
)  # fmt: skip
def test_what_was_done_to_an_odd_picture_is_noted_and_it_is_read(tmp_path, make, note):
    opened = pictures.read(make(tmp_path))
    assert any(note in one for one in opened.notes), opened.notes
    chosen = pictures.views(opened, 32, "center", None)
    assert pictures.pixels(opened, chosen, 32, 3).shape == (1, 32, 32, 3)


def test_a_plain_picture_has_nothing_to_note(make_photo):
    assert pictures.read(make_photo("x.png")).notes == []


def test_a_picture_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "x.jpg", Image.new("RGB", (20, 40)), exif=exif)
    opened = pictures.read(path)
    assert opened.image.size == (40, 20)
    assert any("upright" in note for note in opened.notes)


@pytest.mark.parametrize(
    ("values", "grey"),
    [([90, 90, 90], True), ([90, 92, 93], True), ([90, 90, 120], False)],
)
def test_grey_is_what_has_no_colour_however_it_is_saved(values, grey):
    pixels = np.full((300, 200, 3), 128, np.uint8)
    pixels[:150] = values
    assert Opened(Image.fromarray(pixels)).is_grey is grey


def test_a_picture_of_the_detectors_size_is_judged_whole_and_untouched():
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    opened = Opened(Image.fromarray(values))
    chosen = pictures.views(opened, 32, (0.2, 0.2, 0.8, 0.8), None)
    assert [one.how for one in chosen] == ["whole"]
    np.testing.assert_array_equal(pictures.pixels(opened, chosen, 32, 3)[0], values)


def test_the_training_crop_gives_the_pixels_of_the_one_way_to_pixels():
    values = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    opened = Opened(Image.fromarray(values))
    for crop in ("center", "full", (0.1, 0.2, 0.7, 0.8)):
        chosen = pictures.views(opened, 32, crop, None)
        expected = images.to_pixels(opened.image, 32, 3, crop)
        np.testing.assert_array_equal(pictures.pixels(opened, chosen, 32, 3)[0], expected)


@pytest.mark.parametrize(
    ("size", "faces", "framing", "note"),
    [
        ((90, 70), True, None, "does not say how"),
        ((90, 70), False, (0.1, 0.1, 0.9, 0.9), "its centre is judged"),
        ((20, 20), True, None, "enlarged"),
    ],
)
def test_the_notes_say_what_was_judged_instead_of_a_face(size, faces, framing, note):
    opened = Opened(Image.new("L", size))
    (view,) = pictures.views(opened, 32, "center", framing, faces)
    assert view.how == "crop"
    assert any(note in one for one in opened.notes)


def test_without_the_extra_the_note_names_it(monkeypatch):
    monkeypatch.setattr(pictures.faces, "_finder", lambda: None)
    opened = Opened(Image.new("L", (90, 70)))
    (view,) = pictures.views(opened, 32, "center", (0.1, 0.1, 0.9, 0.9))
    assert view.box == (10, 0, 80, 70)
    assert any("deepfd-benchmark[face]" in one for one in opened.notes)


def test_groups_have_the_weight_asked_for():
    items = [("a", 1), ("b", 3), ("c", 1), ("d", 1)]
    assert list(pictures.batched(iter(items), 3)) == [["a", "b"], ["c", "d"]]
