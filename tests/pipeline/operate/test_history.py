import pandas as pd
import pytest

from pipeline import params
from pipeline.errors import UserError
from pipeline.operate import history


def results(number, recall=0.5):
    rows = [
        {
            **dict.fromkeys(history.FOLLOWED, recall),
            "round": number,
            "method": "plain",
            "held_out": held,
            "generator": generator,
            "perturbation": "none",
            "seed": 0,
            "n_train": 10,
            "code": "c",
            "data": "d",
        }
        for held in ("dcgan", "wgan", "none", "real:lab")
        for generator in ("dcgan", "wgan", "real:lab")
    ]
    return pd.DataFrame(rows)


def run_of(number):
    run = params.load()
    return run.model_copy(update={"round": number})


def test_a_round_done_again_is_there_once_and_the_others_stay(tmp_path):
    path = tmp_path / "history.parquet"
    assert history.read(path).empty
    for number, recall in ((1, 0.1), (2, 0.2), (2, 0.3), (1, 0.4)):
        rows = history.rows_of(run_of(number), results(number, recall), "digest")
        history.write(rows, path)
    table = history.read(path)
    assert table["round"].tolist() == [1, 1, 2, 2]
    assert table["recall"].tolist() == [0.4, 0.4, 0.3, 0.3]
    assert table["held_out"].tolist() == ["dcgan", "wgan"] * 2
    total = sum(generator.images for generator in params.load().generators.values())
    assert set(table["images"]) == {total}


def test_the_same_rounds_give_the_same_bytes(tmp_path):
    rows = history.rows_of(run_of(1), results(1), "digest")
    for name in ("a", "b"):
        history.write(rows, tmp_path / name)
    history.write(rows, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_results_of_another_round_are_refused():
    with pytest.raises(UserError, match=r"of round 1, params\.yaml of 2"):
        history.rows_of(run_of(2), results(1), "digest")


def test_a_damaged_history_is_refused_not_forgotten(tmp_path):
    path = tmp_path / "history.parquet"
    history.write(history.rows_of(run_of(1), results(1), "digest"), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        history.read(path)


def test_a_history_stalls_when_the_best_worst_recall_does_not_rise():
    table = pd.DataFrame(
        [
            {"round": number, "method": method, "held_out": held, "recall": recall}
            for number, worst in enumerate((0.5, 0.7, 0.7, 0.6))
            # The best method counts; its other cell and the worse method do not.
            for method, held, recall in (("a", "x", worst), ("a", "y", 0.9), ("b", "x", 0.1))
        ]
    )
    assert history.worst_recall(table).tolist() == [0.5, 0.7, 0.7, 0.6]
    assert history.stalled(table, 2)
    assert not history.stalled(table, 3)
    assert not history.stalled(table[table["round"] < 2], 1)
    assert not history.stalled(table, 4)
