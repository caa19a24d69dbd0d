"""Networks trained as one are, up to rounding, those that are trained alone."""

import copy

import numpy as np
import pytest
import torch

from benchmarks.methods.deepfd import architecture
from deepfd import stacked
from deepfd import train as training
from deepfd.detector import Detector, Network
from deepfd.options import DeepFD, Npr, Plain, Refit, Treatment
from deepfd.refit import PENALTIES
from pipeline.errors import UserError
from pipeline.folds import Fold

pytestmark = pytest.mark.numbers

SMALL = {"widths": (4, 8), "crop": 16, "steps": 12, "batch": 8, "lr": 0.003}
METHODS = {
    "supervised": DeepFD(method="deepfd", **SMALL),
    "margin": DeepFD(method="deepfd", contrast="margin", contrast_weight=1.0, **SMALL),
    "treated": DeepFD(method="deepfd", treatment=Treatment(variants=1), **SMALL),
    "plain": Plain(method="plain", **SMALL),
    "npr": Npr(method="npr", width=4, steps=6, batch=8, crop=32),
}


@pytest.fixture
def folds(planted) -> list[Fold]:
    """Two folds that share images, one with fewer of them."""
    train, valid = planted(60), planted(20, seed=1)
    return [Fold(train, valid, valid, {}), Fold(train.subset(np.arange(44)), valid, valid, {})]


def asked(folds: list[Fold], options) -> list[stacked.Training]:
    return [
        stacked.Training(fold, seed, Network(1, 32, **architecture(options), seed=seed))
        for fold in folds
        for seed in (0, 1)
    ]


@pytest.mark.parametrize("name", METHODS)
def test_each_is_the_network_that_is_trained_alone(folds, name, monkeypatch):
    monkeypatch.setenv("DEEPFD_PRECISION", "fp32")
    options = METHODS[name]
    several = asked(folds, options)
    alone = []
    for one in several:
        network = copy.deepcopy(one.network)
        alone.append(
            training.fit(
                one.fold.train, one.fold.valid, options,
                lambda device, one=one, network=network: training.crops_plan(
                    one.fold.train, one.fold.valid, options, one.seed, device, network
                ),
            )
        )  # fmt: skip
    before = [copy.deepcopy(one.network.state_dict()) for one in several]
    found = stacked.fit(several, options)
    pixels = folds[0].valid.pixels
    answers = []
    for first, (network, record, said), (expected, expected_record, _) in zip(
        before, found, alone, strict=True
    ):
        assert record.keys() == expected_record.keys()
        assert record["steps"] == record["step"] == options.steps
        assert record["valid"] == pytest.approx(expected_record["valid"], abs=2e-3)
        scores, wanted = (Detector(copy.deepcopy(n)).score(pixels) for n in (network, expected))
        np.testing.assert_allclose(scores, wanted, atol=2e-3)
        assert np.array_equal(said, scores)
        answers.append(scores)
        # It was trained, batch norm's statistics too, and by as much as alone.
        for part in ("weight", "running_mean"):
            moved, alike = (
                [
                    float((state[key].float() - first[key].float()).norm())
                    for key in first
                    if key.endswith(part) and "head" not in key
                ]
                for state in (network.state_dict(), expected.state_dict())
            )
            assert min(moved) > 0
            if part == "running_mean":
                # The first is little but a bias before batch norm: its gradient is rounding alone,
                # which Adam follows.
                assert moved.pop(0) == pytest.approx(alike.pop(0), abs=0.01)
            np.testing.assert_allclose(moved, alike, rtol=0.05, atol=1e-3)
    # Four networks, not one four times.
    assert min(np.abs(a - b).max() for i, a in enumerate(answers) for b in answers[:i]) > 1e-3


def test_the_global_state_is_left_alone(folds):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    stacked.fit(asked(folds, METHODS["supervised"])[:2], METHODS["supervised"])
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_is_no_number_is_refused(folds):
    options = METHODS["supervised"]
    several = asked(folds, options)[:2]
    with torch.no_grad():
        several[1].network.d2.output.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="the loss is nan at step 12; lower the learning rate"):
        stacked.fit(several, options)


def test_a_fold_of_one_class_is_refused(folds):
    train = folds[0].train
    only = Fold(train.subset(train.labels == 0), folds[0].valid, folds[0].test, {})
    with pytest.raises(UserError, match="30 photographs and 0 fakes"):
        stacked.fit(asked([only], METHODS["supervised"]), METHODS["supervised"])


@pytest.mark.parametrize("backbone", [None, "efficientnet_lite"])
def test_d2_of_each_is_fitted_anew_where_that_is_asked_for(backbone, folds):
    refit = {"refit": Refit(pictures=64, soft=1.0, penalty=PENALTIES[-1]), "backbone": backbone}
    options = METHODS["treated"].model_copy(update=refit)
    found = stacked.fit(asked(folds, options), options)
    assert [record["refit"]["penalty"] for _, record, _ in found] == [PENALTIES[-1]] * 4
    assert all((network.beside is not None) == bool(backbone) for network, *_ in found)
    boundaries = [torch.from_numpy(network.boundary()[0]) for network, *_ in found]
    assert all(not network.d2.before[2].weight[0].any() for network, *_ in found)
    assert not any(torch.allclose(a, b) for i, a in enumerate(boundaries) for b in boundaries[:i])
