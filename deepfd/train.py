"""Training of D1 and D2: one loop for objectives that differ in what a step asks for.

A training is described by a `Plan`; `crops_plan` makes DeepFD's, `pairs_plan` the authors'.
"""

from __future__ import annotations

import copy
import functools
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor
from tqdm import tqdm

from deepfd import parallel
from deepfd.detector import Detector, Network
from deepfd.objectives import CropLoss, PairLoss, Pool
from deepfd.options import Faithful, Learned, OnCrops
from deepfd.refit import refit
from pipeline import precision
from pipeline.device import default_device
from pipeline.errors import UserError
from pipeline.folds import Images
from pipeline.images import Jpeg

LAST = "the last step"
LOWEST = "lowest class-balanced valid cross-entropy"
# Share of the steps in which the rate of `one_cycle` rises, and where it begins, as a share of it.
RISING, FIRST = 0.3, 0.04


class Objective(Protocol):
    """The loss of a step, a scalar.

    Inputs are this process's part of the batch, `parallel.gather` gives the answers for all of it.
    """

    def __call__(self, network: Network, step: int) -> Tensor:
        """Draw what belongs to `step` (counted from 0) and return its loss."""


@dataclass(frozen=True)
class Plan:
    """What a training consists of.

    Attributes:
        network: its weights drawn.
        objective: makes the objective; called a second time where the precision is measured.
        optimizer: of the network's weights.
        rate: learning rate of a step.
        steps: how many.
        judged_from: the first step after which there is a classifier to judge.
        validate_every: steps between two looks at the valid images, of which the checkpoint of
            lowest loss is kept; 0 for none: the last step is the model.
        after: what is done to the network after the last step, before it is judged; returns what is
            to be kept on record of it.
    """

    network: Network
    objective: Callable[[], Objective]
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    steps: int
    judged_from: int = 0
    validate_every: int = 0
    after: Callable[[], dict[str, object]] = dict


def authors_rate(options: Faithful) -> Callable[[int], float]:
    """Return the authors' schedule: `lr`, divided by 10 from epoch 3 of 15 on, scaled to steps."""
    drop = (options.contrastive_steps + options.classifier_steps) * 3 / 15
    return lambda step: options.lr if step < drop else options.lr / 10


def one_cycle(lr: float, steps: int) -> Callable[[int], float]:
    """Return a schedule: a cosine up to `lr` over 30 % of the steps, then one down to 0."""
    top = max(1, round(RISING * steps))

    def rate(step: int) -> float:
        if step < top:
            return lr * (FIRST + (1 - FIRST) * (1 - math.cos(math.pi * step / top)) / 2)
        return lr * (1 + math.cos(math.pi * (step - top) / max(1, steps - top))) / 2

    return rate


def crops_optimizer(weights: Iterable[Tensor], options: OnCrops) -> torch.optim.Optimizer:
    """Return the optimizer of DeepFD's training."""
    return torch.optim.AdamW(weights, lr=options.lr, weight_decay=options.weight_decay, fused=True)


def crops_plan(
    train: Images, valid: Images, options: OnCrops, seed: int, device: torch.device,
    network: Network, finish: Jpeg | None = None,
) -> Plan:  # fmt: skip
    """Plan DeepFD's training: AdamW, one cycle, crops; the last step is the model.

    Where `options.refit` asks for it D2 is then fitted anew (`deepfd.refit`).
    """
    pool = functools.cache(lambda: Pool.of(train, options.treatment, device, finish))
    return Plan(
        network,
        lambda: CropLoss(train, options, seed, device, finish, pool()),
        crops_optimizer(network.parameters(), options),
        one_cycle(options.lr, options.steps),
        options.steps,
        after=lambda: refit(network, train, valid, options, seed, finish),
    )


def pairs_plan(
    train: Images, options: Faithful, seed: int, device: torch.device, network: Network
) -> Plan:
    """Plan the authors' training: Adam, their rate, two phases."""
    return Plan(
        network,
        lambda: PairLoss(train, options, seed, device),
        torch.optim.Adam(network.parameters(), lr=options.lr, foreach=True),
        authors_rate(options),
        options.contrastive_steps + options.classifier_steps,
        judged_from=options.contrastive_steps,
        validate_every=options.validate_every,
    )


@contextmanager
def deterministic() -> Iterator[None]:
    """Within this context the same seed, threads and machine give the same bits."""
    # cuBLAS reads this when it is first used; without it PyTorch refuses to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    filled = torch.utils.deterministic.fill_uninitialized_memory
    # As `use_deterministic_algorithms`, which imports PyTorch's compiler as well: two seconds.
    torch.set_deterministic_debug_mode("error")
    # Nothing here reads what it has not written, and filling all memory costs a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark = benchmark


class Trained(NamedTuple):
    """A network whose training has ended.

    Attributes:
        network: its weights.
        about: what is to be kept on record of the training (JSON values).
        valid_scores: what it says of the valid images, float64 (N,), which were looked at anyway.
    """

    network: Network
    about: dict[str, object]
    valid_scores: np.ndarray


def scored(network: Network, pixels: np.ndarray) -> np.ndarray:
    """Score pictures (`Detector.score`) with a network that may be trained further."""
    # A copy, since a detector puts its network into evaluation mode for good.
    return Detector(copy.deepcopy(network)).score(pixels)


def metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the class-balanced cross-entropy (`loss`) and the `auc`."""
    weights = compute_sample_weight("balanced", labels)
    return {
        "loss": float(log_loss(labels, scores, sample_weight=weights, labels=[0, 1])),
        "auc": float(roc_auc_score(labels, scores)),
    }


@dataclass
class _Best:
    """The best checkpoint so far by valid loss; of two equal ones the earlier."""

    step: int = 0
    valid: dict[str, float] | None = None
    scores: np.ndarray | None = None
    state: dict[str, Tensor] | None = None

    def offer(
        self, step: int, valid: dict[str, float], scores: np.ndarray, network: torch.nn.Module
    ) -> None:
        if self.valid is None or valid["loss"] < self.valid["loss"]:
            self.step, self.valid, self.scores = step, valid, scores
            self.state = copy.deepcopy(network.state_dict())


def check(train: Images, valid: Images) -> None:
    """Refuse folds that cannot be trained or selected on.

    Raises:
        UserError: one class only, or pictures of two shapes.
    """
    for name, fold in (("train", train), ("valid", valid)):
        if len(np.unique(fold.labels)) != 2:
            raise UserError(
                f"the {name} fold has {int((fold.labels == 0).sum())} photographs and "
                f"{int((fold.labels == 1).sum())} fakes; expected some of both"
            )
    if train.pixels.shape[1:] != valid.pixels.shape[1:]:
        raise UserError(
            f"train pictures are {train.pixels.shape[1:]}, valid ones {valid.pixels.shape[1:]}; "
            "expected one shape: write the manifests again"
        )


def check_loss(loss: float, step: int) -> None:
    """Refuse a loss that is no number.

    Raises:
        UserError: it is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} at step {step}; lower the learning rate `lr`")


def record(
    rule: str, step: int, steps: int, valid: dict[str, float], numbers: precision.Precision
) -> dict[str, object]:
    """Say of a training what is to be kept: how the step was chosen, which, of how many, ..."""
    return {"rule": rule, "step": step, "steps": steps, "valid": valid, "precision": numbers}


def measured_precision(plan: Plan, options: Learned, device: torch.device) -> precision.Precision:
    """Choose the number format by steps on a copy of the network, where it is to be measured."""
    trial: list[object] = []

    def step(which: precision.Precision) -> None:
        if not trial:
            trial[:] = copy.deepcopy(plan.network), plan.objective()
        network, objective = trial
        with precision.autocast(device, which):
            loss = objective(network, plan.steps - 1)
        loss.backward()

    return precision.choose(options.precision, device, step)


def fit(
    train: Images,
    valid: Images,
    options: Learned,
    plan: Callable[[torch.device], Plan],
    log: Path | None = None,
) -> Trained:
    """Train a network by its plan.

    Under `accelerate launch` all processes train together (`deepfd.parallel`), and each returns the
    same network.

    Args:
        train: images to learn from; `plan` knows them.
        valid: images that a plan which validates chooses the checkpoint on.
        options: its batch and precision.
        plan: makes the plan on a device.
        log: folder for live metrics (dvclive), none if None.

    Raises:
        UserError: a fold lacks a class, shapes differ, or the loss becomes NaN or infinite.
    """
    check(train, valid)
    writes = parallel.is_main()  # first of all: of several processes, each takes its own GPU
    device = default_device()
    best = _Best()
    with ExitStack() as stack:
        stack.enter_context(deterministic())
        live = None
        if log is not None and writes:
            from dvclive import Live

            live = stack.enter_context(Live(str(log), save_dvc_exp=False, dvcyaml=None))
        made = plan(device)
        network, optimizer = made.network, made.optimizer
        parallel.prepare(network)
        numbers = measured_precision(made, options, device)
        objective = made.objective()
        look = made.validate_every or made.steps
        progress = stack.enter_context(
            tqdm(
                total=made.steps * options.batch,
                unit=" images",
                smoothing=0.1,
                mininterval=1,
                # A worker's bar would be drawn over its neighbours'.
                disable=not writes or multiprocessing.parent_process() is not None,
            )
        )
        network.train()
        for step in range(made.steps):
            # One step: loss, gradient, update.
            for group in optimizer.param_groups:
                group["lr"] = made.rate(step)
            with precision.autocast(device, numbers):
                loss = objective(network, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            parallel.average_gradients(network)
            optimizer.step()
            progress.update(options.batch)

            # Judge the checkpoint, once there is a classifier to judge.
            done = step + 1
            if done % look and done != made.steps:
                continue
            value = loss.item()
            check_loss(value, done)
            extra = made.after() if done == made.steps else {}
            shown = {"train/loss": value, "lr": made.rate(step)}
            if done > made.judged_from:
                scores = scored(network, valid.pixels)
                found = metrics(scores, valid.labels)
                best.offer(done, found, scores, network)
                shown |= {f"valid/{name}": one for name, one in found.items()}
                progress.set_postfix(valid_auc=f"{found['auc']:.3f}", loss=f"{value:.3f}")
            if live is not None:
                live.step = done
                for name, one in shown.items():
                    live.log_metric(name, one)
                live.make_summary()
    network.load_state_dict(best.state)
    rule = LOWEST if made.validate_every else LAST
    about = record(rule, best.step, made.steps, best.valid, numbers) | extra
    return Trained(network, about, best.scores)
