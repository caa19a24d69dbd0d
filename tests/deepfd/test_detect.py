import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import deepfd
from deepfd import detect, shipped

ROOT = Path(__file__).parents[2]


def call(*arguments):
    with pytest.raises(SystemExit) as stopped:
        detect.main(["detect", *map(str, arguments)])
    return stopped.value.code


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("threshold", "code", "words"), [(0.0, 1, "looks fake"), (1.0, 0, "no sign of a fake")]
)
def test_verdict_and_exit_code_follow_the_models_own_threshold(
    make_model, make_photo, capsys, threshold, code, words
):
    photo = make_photo()
    assert call(photo, "--model", make_model(threshold=threshold)) == code
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photo}: {words}") and "(P(fake) 0." in first
    assert f"called fake from {threshold:.3f}, rule fpr <= 0.05" in first
    assert "not proof" in last and "1 judged" in last and "not calibrated" in last


def test_json_says_all_that_python_says(make_model, make_photo, capsys, calibration):
    folder = make_model(threshold=0.25, calibration=calibration)
    photo = make_photo()
    call(photo, "--model", folder, "--json")
    (row,) = rows_of(capsys.readouterr().out)
    found = deepfd.load(folder).predict(photo)
    assert row == {
        "picture": str(photo), "verdict": found.verdict, "p_fake": found.probability,
        "threshold": found.threshold, "rule": "fpr <= 0.05", "calibrated": True,
        "score": found.score, "score_threshold": 0.25, "model": folder.as_posix(),
        "width": 40, "height": 50, "format": "JPEG", "mode": "RGB", "judged": "crop",
        "box": [0, 5, 40, 45], "faces": [{"box": [0, 5, 40, 45], "p_fake": found.probability}],
        "notes": list(found.notes),
    }  # fmt: skip


def test_a_broken_file_is_code_2_and_the_rest_is_judged_in_order(
    make_model, make_photo, tmp_path, capsys
):
    photos = [make_photo(f"{i}.png", seed=i, size=(32, 32)) for i in range(5)]
    photos[2].write_bytes(photos[2].read_bytes()[:200])
    # `--batch 2`: the broken one falls into the middle of the work.
    arguments = ("--model", make_model(threshold=0.0), "--json", "--batch", 2)
    assert call(*photos, *arguments, "--parquet", tmp_path / "out.parquet") == 2
    captured = capsys.readouterr()
    rows = rows_of(captured.out)
    assert [row["picture"] for row in rows] == list(map(str, photos))
    assert [("verdict" in row, "error" in row) for row in rows] == [
        (i != 2, i == 2) for i in range(5)
    ]
    assert captured.err.count("error:") == 1
    assert "2.png: not a readable picture" in captured.err
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["picture"].tolist() == list(map(str, photos))
    assert table["verdict"].isna().tolist() == table["error"].notna().tolist()
    for row, (_, stored) in zip(rows, table.iterrows(), strict=True):
        if "verdict" in row:
            assert stored["p_fake"] == row["p_fake"]
            assert stored["box"].tolist() == row["box"]
            assert stored["faces"][0]["p_fake"] == row["faces"][0]["p_fake"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_batches_of_any_size_say_the_same(make_model, make_photo, capsys):
    photos = [make_photo(f"{i}.png", seed=i) for i in range(7)]
    folder = make_model()
    said = []
    for batch in (1, 3, 100):
        call(*photos, "--model", folder, "--json", "--batch", batch)
        said.append([row["p_fake"] for row in rows_of(capsys.readouterr().out)])
    assert said[1] == pytest.approx(said[0], abs=1e-6)
    assert said[2] == pytest.approx(said[0], abs=1e-6)


def test_a_list_on_stdin(make_model, make_photo, capsys, monkeypatch):
    photos = [make_photo(f"{i}.png", seed=i) for i in range(2)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, photos))))
    call("-", "--model", make_model(), "--json")
    assert len(rows_of(capsys.readouterr().out)) == 2


def test_names_that_are_no_text_or_no_line_are_spelt_out(make_model, tmp_path, monkeypatch):
    folder = tmp_path / "odd"
    folder.mkdir()
    odd, lines_, broken = (folder / os.fsdecode(name) for name in (
        b"\xff.png", b"two\nlines.png", b"broken\xfe.png"
    ))  # fmt: skip
    for path in (odd, lines_):
        with path.open("wb") as file:
            Image.new("L", (32, 32)).save(file, "PNG")
    broken.write_bytes(b"x")
    listed = os.fsencode(odd) + b"\n" + os.fsencode(broken)
    command = [
        sys.executable, "-m", "deepfd.detect", "detect", "-", str(folder),
        "--model", str(make_model()), "--maps", "maps", "--parquet", "out.parquet",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, input=listed, capture_output=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2, done.stderr
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 3 and "\\udcff.png" in lines[0] and "two\\nlines.png" in lines[1]
    assert b"broken\\udcfe.png: not a readable picture" in done.stderr
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 3
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_an_empty_list_on_stdin_is_an_error(make_model, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert call("-", "--model", make_model()) == 2
    assert "no picture named" in capsys.readouterr().err


def test_maps_lie_in_their_folder_at_the_size_of_what_was_judged(
    make_model, make_photo, tmp_path, capsys
):
    photos = [make_photo(f"{name}/one.png", size=(40, 50)) for name in "ab"]
    call(*photos, "--model", make_model(), "--maps", tmp_path / "maps", "--json")
    rows = rows_of(capsys.readouterr().out)
    assert len({row["map"] for row in rows}) == 2
    for row in rows:
        assert Image.open(row["map"]).size == (40, 40)


def test_an_output_that_cannot_be_written_is_one_line(make_model, make_photo, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for option in ("--maps", "--parquet"):
        assert call(make_photo(), "--model", make_model(), option, tmp_path / "file/x") == 2
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1 and "cannot be written" in error[0]


def test_a_killed_run_leaves_no_half_table(make_model, make_photo, tmp_path, monkeypatch):
    monkeypatch.setattr("deepfd.records.line", lambda row: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detect.main(["detect", str(make_photo()), "--model", str(make_model()),
                     "--parquet", str(tmp_path / "out.parquet")])  # fmt: skip
    assert not list(tmp_path.glob("*.parquet")) and not list(tmp_path.glob(".*.tmp"))


def test_notes_of_odd_files_are_said_and_kept(make_model, tmp_path, capsys):
    path = tmp_path / "x.jpg"
    Image.new("CMYK", (32, 32)).save(path)
    assert call(path, "--model", make_model(threshold=1.0), "--json") == 0
    captured = capsys.readouterr()
    assert "note:" in captured.err and "CMYK" in captured.err
    assert "CMYK" in rows_of(captured.out)[0]["notes"][0]


def test_a_floating_point_picture_is_an_error_of_its_own(make_model, tmp_path, capsys):
    path = tmp_path / "x.tiff"
    Image.fromarray(np.zeros((40, 40), np.float32)).save(path)
    assert call(path, "--model", make_model()) == 2
    assert f"error: {path}: floating-point" in capsys.readouterr().err


def test_shipped_models_share_the_work_by_colour(
    make_model, make_photo, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "package")
    monkeypatch.chdir(make_photo("empty/x.png").parent)
    make_model("package/orl", channels=1), make_model("package/celeba", channels=3)
    photos = [make_photo(f"{i}.png", seed=i, channels=(1, 3)[i % 2]) for i in range(6)]
    call(*photos, "--json", "--batch", 4)
    assert [row["model"] for row in rows_of(capsys.readouterr().out)] == [
        "shipped:orl", "shipped:celeba"
    ] * 3  # fmt: skip


def test_a_missing_model_stops_with_one_line(make_photo, tmp_path, capsys):
    assert call(make_photo(), "--model", tmp_path / "none") == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and len(error.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["x.png", "--batch", "0"], ["x.png", "--batch", "x"]])
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    assert call(*arguments) == 2
    assert "usage:" in capsys.readouterr().err


def test_the_help_is_fast_and_loads_no_heavy_library():
    code = (
        "import sys; from deepfd import detect\n"
        "try: detect.main(['--help'])\n"
        "except SystemExit: print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    # Of the CPU: what else the machine does is not the help's fault.
    before = os.times()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = os.times()
    spent = sum(after[2:4]) - sum(before[2:4])
    assert spent < 0.5
    assert out.stdout.strip().endswith("[]")


def test_a_reader_that_stops_early_is_no_traceback(make_model, make_photo):
    photo = make_photo("a.png")
    command = [sys.executable, "-m", "deepfd.detect", "detect", str(photo), "--json",
               "--model", str(make_model())]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert "Traceback" not in error


def test_a_thousand_mixed_pictures_one_of_them_broken(make_model, tmp_path, capsys):
    """The rate beside the raw model's is measured and stated in docs/detect.md."""
    folder = tmp_path / "many"
    draw = np.random.default_rng(0)
    kinds = (("png", {}), ("jpg", {"quality": 90}), ("webp", {"quality": 90}), ("gif", {}))
    folder.mkdir()
    for i in range(1000):
        side = (32, 40, 64)[i % 3]
        values = draw.integers(0, 256, (side, side, 3)).astype(np.uint8)
        suffix, options = kinds[i % len(kinds)]
        Image.fromarray(values).save(folder / f"{i:04}.{suffix}", **options)
    (folder / "0500.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert call(folder, "--model", make_model(threshold=0.0), "--json") == 2
    rows = rows_of(capsys.readouterr().out)
    assert sum("verdict" in row for row in rows) == 999
    assert [Path(row["picture"]).stem for row in rows] == [f"{i:04}" for i in range(1000)]
    assert len({row["p_fake"] for row in rows if "verdict" in row}) >= 500


def test_the_documented_exit_codes_are_those_of_the_command():
    text = re.sub(r"\s+", " ", detect.__doc__)
    assert "0 nothing looks fake, 1 something does, 2 something could not be read" in text
    assert (detect.NONE_FAKE, detect.SOME_FAKE, detect.SOME_UNREAD) == (0, 1, 2)
