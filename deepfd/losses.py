"""The losses of DeepFD as functions (arXiv 1809.08754, section 3).

Label 1 is fake, 0 is a photograph. (The paper has it the other way round; only whether the labels
of a pair agree enters the contrastive loss.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distance(first: Tensor, second: Tensor) -> Tensor:
    """E_W(x1, x2) = ||D1(x1) - D1(x2)||_2 of the paper.

    Args:
        first: features (..., F).
        second: features (..., F).

    Returns:
        Distances (...); on softmaxed features at most sqrt(2). Where both are equal the distance is
        exactly 0 and its gradient 0 (the root alone would give NaN).

    >>> distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])).tolist()
    [5.0]
    """
    squared = (first - second).square().sum(-1)
    apart = squared > 0
    return torch.where(apart, squared, 1.0).sqrt() * apart


def pair_losses(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """Contrastive loss of each pair: 1/2 (p E_W^2 + (1 - p) max(0, m - E_W)^2).

    Args:
        distances: E_W (P,).
        same: p (P,), true or 1 for two photographs or two fakes (of any generators).
        margin: m; a photograph and a fake farther apart than this cost nothing.

    Returns:
        Losses (P,), >= 0.
    """
    pulled = distances.square()
    pushed = (margin - distances).clamp_min(0).square()
    return 0.5 * torch.where(same.bool(), pulled, pushed)


def contrastive(first: Tensor, second: Tensor, same: Tensor, margin: float) -> Tensor:
    """Mean contrastive loss of sampled pairs: features (P, F), (P, F), p (P,); a scalar.

    The balance of the kinds of pairs is that of the sample. No pair at all gives 0.
    """
    losses = pair_losses(distance(first, second), same, margin)
    return losses.mean() if len(losses) else first.sum() * 0


def all_pairs_contrastive(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Contrastive loss of all N (N - 1) / 2 pairs of a batch, from one forward pass.

    The three kinds weigh as among the authors' sampled pairs, whatever their number in the batch:
    photograph-photograph 1/4, fake-fake 1/4, photograph-fake 1/2, each as the mean over its pairs.
    A kind that has no pair is left out and the others' weights are scaled to sum to 1; a batch
    without any pair gives 0.

    Args:
        features: D1's features (N, F).
        labels: 1 = fake, 0 = photograph, (N,).
        margin: m.
    """
    row, column = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    fakes = labels[row] + labels[column]  # 0: two photographs, 1: one of each, 2: two fakes
    losses = pair_losses(distance(features[row], features[column]), fakes != 1, margin)
    # (Of what a batch holds nothing is asked in Python here, so that `vmap` can take many batches.)
    counts = torch.stack([(fakes == kind).sum() for kind in range(3)])
    weights = losses.new_tensor([0.25, 0.5, 0.25]) * (counts > 0)
    if not len(losses):
        return features.sum() * 0
    per_pair = weights / weights.sum() / counts.clamp_min(1)
    return (losses * per_pair[fakes.long()]).sum()


def classifier(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy -log softmax(logits)[label], mean over the batch.

    (The formula as printed in the paper has the logarithm on the label; this is what is meant.)

    Args:
        logits: (N, 2): photograph, fake.
        labels: 1 = fake, (N,).
    """
    return F.cross_entropy(logits, labels.long())


def supervised_contrastive(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, equation 2).

    With s_ij = f_i . f_j / t: the mean over i of -1/|P(i)| sum over j in P(i) of
    log(exp s_ij / sum over k != i of exp s_ik), where P(i) are the other images of i's class.

    Args:
        features: of length 1, (N, F).
        labels: 1 = fake, 0 = photograph, (N,); an image that is alone in its class is left out.
        temperature: t > 0.

    Returns:
        A scalar; 0 where no class has two images.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similarity = (features @ features.T / temperature).masked_fill(itself, float("-inf"))
    log_share = similarity - similarity.logsumexp(dim=1, keepdim=True)
    same = (labels[:, None] == labels) & ~itself
    if len(labels) < 2:
        return features.sum() * 0
    partners = same.sum(dim=1)
    per_image = -log_share.masked_fill(~same, 0.0).sum(dim=1) / partners.clamp_min(1)
    return per_image.sum() / (partners > 0).sum().clamp_min(1)
