"""How many cores there are to use."""

from __future__ import annotations

import os

from pipeline import cores


def test_cores_are_those_the_process_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert cores.available() == 3


def test_without_a_word_on_that_all_of_the_machine_are_counted(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores.available() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.available() == 1
