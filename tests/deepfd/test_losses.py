import itertools
import math

import pytest
import torch

from deepfd import losses

pytestmark = pytest.mark.numbers


def features(count, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(count, 8, generator=stream), dim=1).double()


def pair_loss(one, other, same, margin):
    """The formula of the paper, in plain Python."""
    e_w = math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
    p = 1 if same else 0
    return 0.5 * (p * e_w**2 + (1 - p) * max(0, margin - e_w) ** 2)


@pytest.mark.parametrize("margin", [0.1, 0.5, 2.0])
def test_sampled_pairs_agree_with_a_plain_loop(margin):
    first, second = features(12), features(12, seed=1)
    same = torch.arange(12) % 2 == 0
    expected = [
        pair_loss(one, other, is_same, margin)
        for one, other, is_same in zip(first.tolist(), second.tolist(), same.tolist(), strict=True)
    ]
    found = losses.contrastive(first, second, same, margin)
    assert found.item() == pytest.approx(sum(expected) / 12, rel=1e-9)


@pytest.mark.parametrize(
    "labels", [[0, 1, 0, 1, 1, 0, 1], [0, 1], [0, 0, 1], [1, 1, 1], [0, 0], [0, 0, 1, 1]]
)
def test_all_pairs_agree_with_a_plain_loop_over_pairs(labels):
    x = features(len(labels))
    kinds = {"real-real": [], "fake-fake": [], "real-fake": []}
    for i, j in itertools.combinations(range(len(labels)), 2):
        kind = {0: "real-real", 1: "real-fake", 2: "fake-fake"}[labels[i] + labels[j]]
        same = labels[i] == labels[j]
        kinds[kind].append(pair_loss(x[i].tolist(), x[j].tolist(), same, 0.5))
    weights = {"real-real": 0.25, "fake-fake": 0.25, "real-fake": 0.5}
    present = {kind: sum(found) / len(found) for kind, found in kinds.items() if found}
    total = sum(weights[kind] for kind in present)
    expected = sum(weights[kind] * mean for kind, mean in present.items()) / total
    found = losses.all_pairs_contrastive(x, torch.tensor(labels), 0.5)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_sampled_and_all_pairs_agree_when_every_pair_is_sampled_in_the_same_mixture():
    x, labels = features(4), torch.tensor([0, 0, 1, 1])
    # 1 real-real, 1 fake-fake, 4 real-fake: the same-class ones twice gives 1/4, 1/4, 1/2.
    pairs = [(0, 1)] * 2 + [(2, 3)] * 2 + [(i, j) for i in (0, 1) for j in (2, 3)]
    first, second = torch.tensor(pairs).T
    sampled = losses.contrastive(x[first], x[second], labels[first] == labels[second], 0.5)
    torch.testing.assert_close(losses.all_pairs_contrastive(x, labels, 0.5), sampled)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 0, 1]])
def test_gradients_of_identical_pairs_are_finite(labels):
    x = torch.full((4, 8), 0.125, requires_grad=True)
    losses.all_pairs_contrastive(x, torch.tensor(labels), 0.5).backward()
    assert torch.isfinite(x.grad).all()


def test_the_distance_of_equal_features_is_exactly_0_and_of_opposite_ones_root_2():
    one, other = torch.eye(2)
    assert losses.distance(one, one).item() == 0
    assert losses.distance(one, other).item() == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_without_a_pair_costs_nothing_and_has_a_gradient_of_0(count):
    x = torch.rand(count, 8, requires_grad=True)
    loss = losses.all_pairs_contrastive(x, torch.zeros(count, dtype=torch.long), 0.5)
    loss.backward()
    assert loss.item() == 0
    assert losses.contrastive(x[:0], x[:0], torch.zeros(0), 0.5).item() == 0
    assert not x.grad.any()


def test_a_step_along_the_gradient_pulls_the_same_class_together_and_pushes_real_from_fake_apart():
    x = features(6).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1, 0, 1])

    def distances(values):
        d = losses.distance(values[:, None], values)
        same = labels[:, None] == labels
        return d[same].mean().item(), d[~same].mean().item()

    losses.all_pairs_contrastive(x, labels, 1.5).backward()
    before, after = distances(x.detach()), distances((x - 0.5 * x.grad).detach())
    assert after[0] < before[0]
    assert after[1] > before[1]


def test_the_classifier_loss_is_the_mean_of_minus_log_p():
    logits = torch.tensor([[2.0, -1.0], [0.3, 0.9]])
    expected = [
        -math.log(math.exp(row[y]) / sum(math.exp(v) for v in row))
        for row, y in zip(logits.tolist(), [0, 1], strict=True)
    ]
    found = losses.classifier(logits, torch.tensor([0, 1], dtype=torch.int8))
    assert found.item() == pytest.approx(sum(expected) / 2, rel=1e-6)


def test_supervised_contrastive_is_equation_2_of_khosla():
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(6, 5, dtype=torch.float64), dim=1)
    labels, t, total = [0, 0, 1, 1, 1, 0], 0.3, 0.0
    for i in range(6):
        others = [k for k in range(6) if k != i]
        whole = sum(math.exp(features[i] @ features[k] / t) for k in others)
        same = [j for j in others if labels[j] == labels[i]]
        logs = [math.log(math.exp(features[i] @ features[j] / t) / whole) for j in same]
        total -= sum(logs) / len(same) / 6
    found = losses.supervised_contrastive(features, torch.tensor(labels), t)
    assert found.item() == pytest.approx(total)


def test_supervised_contrastive_leaves_out_who_is_alone_and_is_0_of_nobody():
    features = torch.eye(3, requires_grad=True)
    alone = losses.supervised_contrastive(features[:2], torch.tensor([0, 1]), 0.1)
    assert alone.item() == 0
    alone.backward()
    found = losses.supervised_contrastive(torch.eye(3), torch.tensor([0, 0, 1]), 1.0)
    assert found.item() == pytest.approx(math.log(2))


def test_supervised_contrastive_falls_as_classes_part():
    mixed = torch.nn.functional.normalize(torch.ones(8, 4) + 0.1 * torch.randn(8, 4), dim=1)
    labels = torch.tensor([0, 1] * 4)
    parted = torch.where(labels[:, None] == 1, mixed, -mixed)
    loss = losses.supervised_contrastive
    # Its least value: each of the three partners has a third.
    assert loss(parted, labels, 0.1).item() == pytest.approx(math.log(3), abs=0.02)
    assert loss(mixed, labels, 0.1) > 1.5
