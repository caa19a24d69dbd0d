"""What the gates know of images: the same, however many processes describe them."""

import os

import numpy as np
import pandas as pd

from pipeline import cores
from pipeline.gates import traces


def describing_process(row, **_):
    return {"process": os.getpid()}, np.zeros(256), np.zeros(1024)


def test_two_processes_describe_images_as_one_does_and_in_their_order(clean, monkeypatch):
    alone = traces.traces_of("a", clean / "a", 1)
    monkeypatch.setattr(traces, "FEW", 1)
    monkeypatch.setattr(cores, "available", lambda: 2)
    both = traces.traces_of("a", clean / "a", 1)
    assert both.rows["image_id"].tolist() == alone.rows["image_id"].tolist()
    pd.testing.assert_frame_equal(both.rows, alone.rows)
    assert np.array_equal(both.hashes, alone.hashes) and np.array_equal(both.thumbs, alone.thumbs)


def test_many_images_are_described_by_other_processes_and_few_by_this_one(clean, monkeypatch):
    monkeypatch.setattr(traces, "trace", describing_process)
    monkeypatch.setattr(cores, "available", lambda: 2)
    assert set(traces.traces_of("a", clean / "a", 1).rows["process"]) == {os.getpid()}
    monkeypatch.setattr(traces, "FEW", 1)
    assert os.getpid() not in set(traces.traces_of("a", clean / "a", 1).rows["process"])
