import hashlib
import re

import pytest
from PIL import Image, UnidentifiedImageError

from benchmarks.speed import detecting


@pytest.mark.parametrize("kind", detecting.KINDS)
def test_the_files_are_of_their_kind_all_different_and_the_last_is_broken(kind, tmp_path):
    detecting.write(tmp_path, kind, 8)
    *good, broken = sorted(tmp_path.iterdir())
    for number, path in enumerate(good):
        suffix, size, _ = detecting.KINDS[kind][number % len(detecting.KINDS[kind])]
        with Image.open(path) as picture:
            assert (path.suffix, picture.size, picture.mode) == (suffix, size, "RGB")
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in good}) == 7
    with pytest.raises((UnidentifiedImageError, OSError)), Image.open(broken) as picture:
        picture.load()


def test_every_kind_has_a_row_with_both_rates(capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["detecting", "--model", "orl", "--pictures", "4", "--no-faces"]
    )
    detecting.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(detecting.KINDS)
    for row in rows:
        alone, detect, share = map(float, re.findall(r"[\d.]+", row.split("|", 2)[2])[:3])
        # (Which is faster is nothing that a test on four pictures could say.)
        assert alone > 0 and detect > 0
        assert share == pytest.approx(detect / alone, rel=0.05, abs=0.06)
