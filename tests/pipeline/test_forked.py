"""Work shared out to processes: the same answers in order, on one thread each, no leftovers."""

import multiprocessing
import os

import pytest
import torch

from pipeline import cores, forked


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(cores, "has_gpu", lambda: False)
    monkeypatch.setattr(cores, "available", lambda: 2)


def test_parts_are_whole_and_in_order_and_made_by_other_processes(two_cores):
    things = list(range(11))
    parts = forked.split(lambda start, stop: (os.getpid(), things[start:stop]), 11, 5)
    assert [one for _, several in parts for one in several] == things
    assert len(parts) == 2 and os.getpid() not in dict(parts)


@pytest.mark.parametrize("count, expected", [(0, []), (1, [(0, 1)]), (9, [(0, 9)])])
def test_few_are_one_part_and_nothing_is_none(two_cores, count, expected):
    found = forked.split(lambda start, stop: (start, stop, os.getpid()), count, 5)
    assert found == [(*one, os.getpid()) for one in expected]


def test_each_is_asked_once_and_answers_in_order(two_cores, capfd):
    found = forked.mapped(lambda n: (n * n, torch.get_num_threads()), 7, "squares", "numbers")
    assert found == [(n * n, 1) for n in range(7)]
    assert "squares: 100%" in capfd.readouterr().err
    assert forked.mapped(lambda n: os.getpid(), 3, "", "", least=4) == [os.getpid()] * 3


def test_beside_a_gpu_and_in_a_forked_process_nothing_is_forked(two_cores, monkeypatch):
    inside = forked.mapped(lambda n: forked.split(lambda *_: os.getpid(), 9, 1), 2, "", "")
    assert all(len(found) == 1 for found in inside)
    monkeypatch.setattr(cores, "has_gpu", lambda: True)
    assert forked.split(lambda *_: os.getpid(), 9, 1) == [os.getpid()]
    assert forked.mapped(lambda n: os.getpid(), 3, "", "") == [os.getpid()] * 3


def test_the_first_error_ends_it_and_no_process_stays(two_cores, tmp_path):
    def fails(number):
        (tmp_path / str(number)).touch()
        if number == 1:
            raise ValueError("no such number")

    with pytest.raises(ValueError, match="no such number"):
        forked.mapped(fails, 500, "", "")
    assert len(list(tmp_path.iterdir())) < 500
    assert not multiprocessing.active_children()


def test_nothing_is_kept_unless_it_is_wanted(two_cores):
    made = lambda n: object()  # noqa: E731  (not picklable by value: it would raise)
    assert forked.each(lambda n: made, [(1,), (2,)], 2) == [None, None]
