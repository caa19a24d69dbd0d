"""Many small networks trained as one: their weights are stacked, and a step moves all of them.

A network of a few thousand weights keeps no GPU busy: most of a step is spent on starting its
kernels. The networks of a matrix (a held-out and a seed each) have the same shape and as many
steps, so `torch.func` runs them as one network with a dimension more (`vmap`; convolutions become
grouped ones). Each sees its own batches, in its own order, and is, up to rounding, the network that
`deepfd.train.fit` makes alone: batch norm, weight decay and rate are those of each by itself. The
pictures lie on the device once for all of them.

DEEPFD_STACK says how many are trained as one (`benchmarks.workers.stack`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm import tqdm

from deepfd import train
from deepfd.detector import Network
from deepfd.objectives import CropBatches, CropLoss, Pool
from deepfd.options import OnCrops
from deepfd.refit import refit
from pipeline import precision
from pipeline.device import default_device
from pipeline.folds import Fold, union
from pipeline.images import Jpeg


@dataclass(frozen=True)
class Training:
    """One of the networks.

    Attributes:
        fold: what it learns from; equal folds may be the same object.
        seed: of its batches.
        network: its weights drawn.
    """

    fold: Fold
    seed: int
    network: Network


class _Norm(nn.BatchNorm2d):
    """Batch normalisation of a training, written out.

    PyTorch's own asks a picture on a GPU how it lies in memory, which `vmap` does not answer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) by its own mean and variance, and remember both."""
        full = x.float()
        variance, mean = torch.var_mean(full, (0, 2, 3), correction=0)
        with torch.no_grad():
            count = x.numel() / x.shape[1]
            for kept, new in (
                (self.running_mean, mean),
                (self.running_var, variance * (count / (count - 1))),
            ):
                kept.mul_(1 - self.momentum).add_(new * self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (full * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


class _AfterFront(nn.Module):
    """All of a network that has weights: from what the front shows to logits and features."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network.d1.body(shown)
        return self.network.d2(maps), self.network.d1.features(maps)


def fit(
    trainings: Sequence[Training], options: OnCrops, finish: Jpeg | None = None
) -> list[train.Trained]:
    """Train networks of one shape side by side; `deepfd.train.fit` of each, up to rounding.

    Args:
        trainings: K of them.
        options: of all of them.
        finish: the last step to pixels of every picture.

    Raises:
        UserError: see `deepfd.train.fit`.
    """
    folds = list({id(one.fold): one.fold for one in trainings}.values())
    for fold in folds:
        train.check(fold.train, fold.valid)
    device = default_device()
    with train.deterministic():
        pool = Pool.of(union([fold.train for fold in folds]), options.treatment, device, finish)
        goals = [
            CropLoss(one.fold.train, options, one.seed, device, finish, pool) for one in trainings
        ]
        networks = [one.network.to(device) for one in trainings]
        first = train.Plan(
            networks[0], lambda: goals[0], train.crops_optimizer(networks[0].parameters(), options),
            train.one_cycle(options.lr, options.steps), options.steps,
        )  # fmt: skip
        numbers = train.measured_precision(first, options, device)
        losses = _train(networks, goals, options, numbers)
        found = []
        for one, loss in zip(trainings, losses, strict=True):
            train.check_loss(loss, options.steps)
            extra = refit(one.network, one.fold.train, one.fold.valid, options, one.seed, finish)
            scores = train.scored(one.network, one.fold.valid.pixels)
            valid = train.metrics(scores, one.fold.valid.labels)
            record = train.record(train.LAST, options.steps, options.steps, valid, numbers)
            found.append(train.Trained(one.network, record | extra, scores))
    return found


def _train(
    networks: Sequence[Network],
    goals: Sequence[CropLoss],
    options: OnCrops,
    numbers: precision.Precision,
) -> list[float]:
    """Train the networks in place; return the loss of each in the last step."""
    bodies = [_AfterFront(network).train() for network in networks]
    weights, buffers = stack_module_state(bodies)
    skeleton = copy.deepcopy(bodies[0]).to("meta")
    for module in skeleton.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = _Norm  # weights and buffers are those of `stack_module_state`
    device, goal = next(networks[0].parameters()).device, goals[0]

    def loss_of(
        weights: dict[str, Tensor], buffers: dict[str, Tensor], shown: Tensor, labels: Tensor
    ) -> Tensor:
        return goal.of(*functional_call(skeleton, (weights, buffers), (shown,)), labels)

    optimizer = train.crops_optimizer(weights.values(), options)
    batches = CropBatches.beside([goal.batches for goal in goals])
    rate, losses = train.one_cycle(options.lr, options.steps), torch.empty(0)
    title = f"{len(goals)} networks"
    for step in tqdm(range(options.steps), unit=" steps", desc=title, mininterval=1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        x, labels = batches.of(step)
        with precision.autocast(device, numbers):
            shown = networks[0].d1.shown(x).unflatten(0, (len(goals), -1))
            losses = vmap(loss_of)(weights, buffers, shown, labels.view(len(goals), -1))
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
    with torch.no_grad():
        for number, body in enumerate(bodies):
            body.load_state_dict({n: v[number] for n, v in (weights | buffers).items()})
    return losses.detach().tolist()
