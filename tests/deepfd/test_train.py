import json

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from deepfd import train as training
from deepfd.detector import Detector, initialised
from pipeline import params
from pipeline.errors import UserError

OPTIONS = params.DeepFD(
    method="deepfd", width=8, contrastive_steps=5, classifier_steps=12, batch=8, lr=0.003,
    validate_every=4,
)  # fmt: skip


def run(train, valid, options=OPTIONS, seed=0, log=None):
    return training.fit(
        train, valid, options, seed, objective=training.BatchPairs,
        rate=training.cosine_rate(options), log=log,
    )  # fmt: skip


def test_the_authors_rate_falls_to_a_tenth_at_epoch_3_of_15():
    options = params.Faithful(
        method="faithful", contrastive_steps=20, classifier_steps=130, batch=32, lr=0.001
    )
    rate = training.step_rate(options)
    assert [rate(step) for step in (0, 29, 30, 149)] == [0.001, 0.001, 0.0001, 0.0001]


def test_the_cosine_warms_up_and_ends_near_0():
    rate = training.cosine_rate(OPTIONS.model_copy(update={"classifier_steps": 95}))
    values = [rate(step) for step in range(100)]
    assert values[0] < values[4] == OPTIONS.lr == max(values)
    assert values[5:] == sorted(values[5:], reverse=True)
    assert 0 < values[-1] < OPTIONS.lr / 100


def test_validation_is_class_balanced_cross_entropy_and_auc(planted):
    fold = planted(30).subset(np.r_[0:30:2, 1:10:2])  # 15 photographs, 5 fakes
    detector = Detector(initialised(1, 32, 8, seed=0))
    scores = detector.score(fold.pixels)
    found = training.validate(detector, fold)
    halves = [log_loss(fold.labels[fold.labels == y], scores[fold.labels == y], labels=[0, 1])
              for y in (0, 1)]  # fmt: skip
    assert found["loss"] == pytest.approx(np.mean(halves))
    assert found["auc"] == pytest.approx(roc_auc_score(fold.labels, scores))


def test_the_checkpoint_of_lowest_valid_loss_is_kept(planted, monkeypatch):
    offered = iter([0.9, 0.4, 0.7, 0.4])
    states = []

    def validate(detector, valid):
        states.append(detector.network.state_dict())
        return {"loss": next(offered), "auc": 0.5}

    monkeypatch.setattr(training, "validate", validate)
    network, about = run(planted(40), planted(20, seed=1))
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


def test_the_contrastive_phase_trains_d1_alone_and_pulls_the_classes_apart(planted):
    fold = planted(64)
    device = torch.device("cpu")
    network = initialised(1, 32, 8, seed=0)
    before = {name: value.clone() for name, value in network.d2.state_dict().items()}
    goal = training.BatchPairs(fold, OPTIONS, 0, device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    values = []
    for _ in range(60):
        loss = goal.contrastive(network)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-5:]) < 0.7 * np.mean(values[:5])
    assert all(torch.equal(before[n], value) for n, value in network.d2.state_dict().items())


def test_fitting_leaves_the_global_random_state_and_settings_alone(planted):
    torch.manual_seed(5)
    np.random.seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(planted(20), planted(20, seed=1))
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert not torch.are_deterministic_algorithms_enabled()


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = initialised(1, 32, 8, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = (initialised(1, 32, 8, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["d1.stem.weight"], other["d1.stem.weight"])


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


def test_sampled_pairs_see_the_images_of_all_pairs_in_the_same_order(planted):
    fold, device = planted(40), torch.device("cpu")
    seen = {}
    for pairs in ("all", "sampled"):
        goal = training.BatchPairs(fold, OPTIONS.model_copy(update={"pairs": pairs}), 0, device)
        seen[pairs] = [next(goal.batches)[0] for _ in range(5)]
    assert all(map(torch.equal, seen["all"], seen["sampled"]))


def test_sampled_pairs_put_each_image_in_one_pair_and_give_the_mean_over_them(planted):
    fold, device = planted(40), torch.device("cpu")
    options = OPTIONS.model_copy(update={"pairs": "sampled"})
    goal = training.BatchPairs(fold, options, 0, device)
    features, labels = torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 0, 1])
    stream = goal.partners.get_state()
    loss = goal._of_pairs(features, labels)
    goal.partners.set_state(stream)
    order = torch.randperm(6, generator=goal.partners).tolist()
    by_hand = []
    for a, b in zip(order[:3], order[3:], strict=True):
        apart = float((features[a] - features[b]).norm())
        same = labels[a] == labels[b]
        by_hand.append(0.5 * (apart**2 if same else max(0, options.margin - apart) ** 2))
    assert loss.item() == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_a_linear_feature_is_the_softmaxed_one_before_its_softmax():
    softmaxed = initialised(1, 32, 8, seed=0).eval()
    linear = initialised(1, 32, 8, seed=0, feature="linear").eval()
    x = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(linear.d1(x)[1].softmax(1), softmaxed.d1(x)[1])
    assert linear.config["feature"] == "linear"
