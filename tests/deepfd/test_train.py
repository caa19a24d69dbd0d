import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.methods.deepfd import architecture
from deepfd import train as training
from deepfd.detector import Detector, Network
from deepfd.options import DeepFD, Faithful
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers

OPTIONS = Faithful(
    method="faithful", width=8, contrastive_steps=5, classifier_steps=12, batch=8, lr=0.003,
    validate_every=4,
)  # fmt: skip
CROPS = DeepFD(method="deepfd", widths=(4, 8), crop=16, steps=12, batch=8, lr=0.003)


def network(seed=0):
    return Network(1, 32, body={"kind": "paper", "width": 8}, seed=seed)


def run(train, valid, options=OPTIONS, seed=0, log=None):
    if isinstance(options, DeepFD):
        return training.fit(
            train, valid, options,
            lambda device: training.crops_plan(
                train, valid, options, seed, device,
                Network(1, 32, **architecture(options), seed=seed),
            ),
            log,
        )  # fmt: skip
    return training.fit(
        train, valid, options,
        lambda device: training.pairs_plan(train, options, seed, device, network(seed)), log,
    )  # fmt: skip


def test_the_authors_rate_falls_to_a_tenth_at_epoch_3_of_15():
    options = Faithful(
        method="faithful", contrastive_steps=20, classifier_steps=130, batch=32, lr=0.001
    )
    rate = training.authors_rate(options)
    assert [rate(step) for step in (0, 29, 30, 149)] == [0.001, 0.001, 0.0001, 0.0001]


def test_one_cycle_rises_over_30_percent_and_ends_near_0():
    rate = training.one_cycle(0.01, 100)
    values = [rate(step) for step in range(100)]
    assert values[0] == pytest.approx(0.0004)
    assert values[:31] == sorted(values[:31]) and values[30] == max(values) == 0.01
    assert values[30:] == sorted(values[30:], reverse=True)
    assert 0 < values[-1] < 0.0001


def test_validation_is_class_balanced_cross_entropy_and_auc(planted):
    fold = planted(30).subset(np.r_[0:30:2, 1:10:2])  # 15 photographs, 5 fakes
    network = Network(1, 32, body={"kind": "paper", "width": 8}, seed=0)
    scores = training.scored(network, fold.pixels)
    assert network.training and np.array_equal(scores, Detector(network).score(fold.pixels))
    found = training.metrics(scores, fold.labels)
    halves = [log_loss(fold.labels[fold.labels == y], scores[fold.labels == y], labels=[0, 1])
              for y in (0, 1)]  # fmt: skip
    assert found["loss"] == pytest.approx(np.mean(halves))
    assert found["auc"] == pytest.approx(roc_auc_score(fold.labels, scores))


def test_the_checkpoint_of_lowest_valid_loss_is_kept(planted, monkeypatch):
    offered = iter([0.9, 0.4, 0.7, 0.4])
    states = []

    def scored(network, pixels):
        states.append(copy.deepcopy(network.state_dict()))
        return np.full(len(pixels), len(states))

    monkeypatch.setattr(training, "scored", scored)
    monkeypatch.setattr(
        training, "metrics", lambda scores, labels: {"loss": next(offered), "auc": 0.5}
    )
    network, about, scores = run(planted(40), planted(20, seed=1))
    assert set(scores) == {2}
    assert about["step"] == 12  # the second of steps 8, 12, 16, 17: none in the first phase
    assert about["valid"]["loss"] == 0.4
    kept = network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in states[1].items())
    assert not all(torch.equal(kept[name], value) for name, value in states[0].items())


def test_selection_sees_the_valid_images_and_no_others(planted, monkeypatch):
    valid = planted(20, seed=1)
    seen = []
    score = Detector.score
    monkeypatch.setattr(
        Detector, "score", lambda self, pixels: seen.append(pixels) or score(self, pixels)
    )
    run(planted(40), valid)
    assert seen
    assert all(pixels is valid.pixels for pixels in seen)


def test_the_last_step_of_a_training_on_crops_is_the_model(planted, monkeypatch):
    monkeypatch.delenv("DEEPFD_PRECISION", raising=False)
    _, about, _ = run(planted(40), planted(20, seed=1), CROPS)
    assert about["rule"] == training.LAST
    assert about["step"] == about["steps"] == 12
    assert about["precision"] == "fp32"


def test_fitting_leaves_the_global_random_state_and_settings_alone(planted):
    torch.manual_seed(5)
    np.random.seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(planted(20), planted(20, seed=1))
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_what_makes_it_deterministic_does_not_import_pytorchs_compiler():
    """`torch.use_deterministic_algorithms` does, and each stage would wait two seconds for it."""
    program = (
        "import sys, torch; from deepfd.train import deterministic as training; "
        "from generators.sample import deterministic as sampling\n"
        "with training(): assert torch.get_deterministic_debug_mode() == 2\n"
        "assert torch.get_deterministic_debug_mode() == 0\n"
        "sampling(); assert torch.get_deterministic_debug_mode() == 1\n"
        "assert 'torch._inductor' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_live_metrics_are_written_where_they_are_asked_for(planted, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    run(planted(20), planted(20, seed=1), log=tmp_path / "live")
    summary = json.loads((tmp_path / "live" / "metrics.json").read_text())
    assert {"train", "valid", "step", "lr"} <= set(summary)
    rows = (tmp_path / "live" / "plots" / "metrics" / "valid" / "auc.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows[1:]] == ["8", "12", "16", "17"]


@pytest.mark.parametrize("which", ["train", "valid"])
def test_a_fold_of_one_class_is_refused_by_name(planted, which):
    folds = {"train": planted(20), "valid": planted(20, seed=1)}
    folds[which] = folds[which].subset(folds[which].labels == 0)
    with pytest.raises(UserError, match=f"the {which} fold has 10 photographs and 0 fakes"):
        run(**folds)


def test_pictures_of_two_shapes_are_refused(planted):
    with pytest.raises(UserError, match="expected one shape"):
        run(planted(20), planted(20, size=40))


def test_a_loss_that_explodes_stops_the_fit(planted):
    wild = OPTIONS.model_copy(update={"lr": 1e30})
    with pytest.raises(UserError, match=r"loss is .* lower the learning rate"):
        run(planted(20), planted(20, seed=1), options=wild)


def test_bf16_and_fp32_trainings_are_scored_in_fp32_and_agree_on_what_is_learnt(
    planted, monkeypatch
):
    monkeypatch.delenv(training.precision.VARIABLE, raising=False)  # both, here
    fold, valid, test = planted(120), planted(40, seed=1), planted(60, seed=2)
    options = CROPS.model_copy(update={"steps": 60, "lr": 0.01})
    for number in ("fp32", "bf16"):
        net, about, _ = run(fold, valid, options.model_copy(update={"precision": number}))
        assert about["precision"] == number
        scores = Detector(net).score(test.pixels)
        assert roc_auc_score(test.labels, scores) > 0.95
        assert len(np.unique(scores)) == len(scores)  # no ties: three digits would make some


def test_the_format_is_measured_where_it_is_left_open(planted, monkeypatch):
    monkeypatch.delenv(training.precision.VARIABLE, raising=False)
    asked = []

    def choose(which, device, step):
        asked.append(which)
        step("fp32")
        step("bf16")
        return "fp32"

    options = CROPS.model_copy(update={"precision": "auto"})
    with monkeypatch.context() as patch:
        patch.setattr(training.precision, "choose", choose)
        one, *_ = run(planted(40), planted(20, seed=1), options)
    assert asked == ["auto"]
    other, *_ = run(planted(40), planted(20, seed=1), CROPS)
    # A measurement leaves no trace in what is trained.
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
