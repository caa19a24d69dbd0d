"""What the treatment costs is measured on the fits themselves."""

import pytest

from benchmarks.speed import treatment
from pipeline import folds
from pipeline.errors import UserError

SHORT = {"method": "deepfd", "widths": [4], "steps": 2, "batch": 8}


@pytest.fixture
def made(small_profile):
    params, folder = small_profile(
        methods={"treated": SHORT | {"treatment": {}}, "bare": SHORT, "dct": {"method": "dct"}},
        fit={"seeds": [0, 1]},
    )
    (folder.parent / "folds.json").unlink(missing_ok=True)
    return params, folds.load(params, folder)


def test_the_copies_are_shared_by_all_fits_of_a_run(made):
    params, corpus = made
    found = treatment.compare("treated", params, corpus, rounds=1)
    assert min(found[name] for name in ("untreated", "treated", "copies")) > 0
    assert found["fits"] == 2 * len(params.folds())
    more = found["treated"] - found["untreated"] + found["copies"] / found["fits"]
    assert found["share"] == pytest.approx(more / found["untreated"])


def test_copies_that_are_there_already_are_made_anew(made):
    params, corpus = made
    first, second = (treatment.compare("treated", params, corpus, 1)["copies"] for _ in range(2))
    assert second > first / 10


@pytest.mark.parametrize("name", ["bare", "dct", "none"])
def test_a_method_without_a_treatment_is_refused(made, name):
    params, corpus = made
    with pytest.raises(UserError, match=f"'{name}' is no entry of `methods` with a treatment"):
        treatment.compare(name, params, corpus, 1)
