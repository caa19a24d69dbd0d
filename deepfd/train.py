"""Training of D1 and D2: one loop, and the two objectives that differ in how pairs are made.

Both begin with the contrastive loss on D1's feature and go on with the classifier. The checkpoint
is chosen by one rule, `RULE`, which looks at the valid images of the training generators alone.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor
from tqdm import tqdm

from deepfd import data, losses, parallel
from deepfd.detector import Detector, Network, default_device, initialised
from pipeline import precision
from pipeline.errors import UserError
from pipeline.folds import Images
from pipeline.params import Net, Paired
from pipeline.seeds import seed_for

RULE = "lowest class-balanced valid cross-entropy"


class Objective(Protocol):
    """Draws the batch of a step and returns its loss.

    Inputs are this process's part of the batch, `parallel.gather` gives the answers for all of it.
    """

    def contrastive(self, network: Network) -> Tensor:
        """Loss of a step of the first phase, a scalar."""

    def classifier(self, network: Network) -> Tensor:
        """Loss of a step of the second phase, a scalar."""


class _Source:
    """Training images on the device, looked up and augmented by batch."""

    def __init__(self, train: Images, seed: int, device: torch.device) -> None:
        self.pixels = data.to_tensor(train.pixels, device)
        self.labels = torch.from_numpy(np.asarray(train.labels, dtype=np.int64)).to(device)
        self.jitter = data.generator(seed_for(seed, "augment"))

    def inputs(self, positions: Tensor) -> Tensor:
        """Return augmented inputs (N, C, H, W) of the images at `positions`.

        Of several processes, each draws for all images and returns its part.
        """
        x = data.to_input(self.pixels[positions.to(self.pixels.device)])
        x = parallel.shard(data.augment(x, self.jitter))
        return x.contiguous(memory_format=torch.channels_last)


class SampledPairs:
    """The authors' objective: sampled two-image pairs, then cross-entropy on single images."""

    def __init__(self, train: Images, options: Net, seed: int, device: torch.device) -> None:
        self.source = _Source(train, seed, device)
        self.margin = options.margin
        self.pairs = data.pair_batches(train, options.batch, seed_for(seed, "pairs"))
        self.batches = data.balanced_batches(train, options.batch, seed_for(seed, "batches"))

    def contrastive(self, network: Network) -> Tensor:
        """Contrastive loss of `batch` pairs; each of the two streams is its own forward pass."""
        first, second, same = next(self.pairs)
        features = [
            parallel.gather(network.d1(self.source.inputs(side))[1]) for side in (first, second)
        ]
        return losses.contrastive(*features, same.to(features[0].device), self.margin)

    def classifier(self, network: Network) -> Tensor:
        """Cross-entropy of `batch` images, on all weights."""
        positions = next(self.batches)
        logits = parallel.gather(network.d2(network.d1.maps(self.source.inputs(positions))))
        return losses.classifier(logits, self.source.labels[positions])


class BatchPairs:
    """Pairs of one balanced batch from one forward pass, in both phases.

    `options.pairs` is `all` N (N - 1) / 2 of them, or `sampled`: each image in one pair, N / 2 of
    them, drawn anew at each step. The images and their order are the same for both. With
    `options.contrastive_weight` 0 and no contrastive steps this is plain cross-entropy on the same
    images in the same order. What a batch is made of, `draws` says.
    """

    def __init__(self, train: Images, options: Paired, seed: int, device: torch.device) -> None:
        self.margin = options.margin
        self.weight = options.contrastive_weight
        self.partners = (
            data.generator(seed_for(seed, "partners")) if options.pairs == "sampled" else None
        )
        self.batches = self.draws(train, options, seed, device)

    def draws(
        self, train: Images, options: Paired, seed: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for ever this process's inputs (N / processes, C, S, S) and all labels (N,)."""
        source = _Source(train, seed, device)
        for positions in data.balanced_batches(train, options.batch, seed_for(seed, "batches")):
            yield source.inputs(positions), source.labels[positions]

    def contrastive(self, network: Network) -> Tensor:
        """Contrastive loss of the pairs of a batch."""
        x, labels = next(self.batches)
        return self._of_pairs(parallel.gather(network.d1(x)[1]), labels)

    def classifier(self, network: Network) -> Tensor:
        """Cross-entropy of a batch plus the weighted contrastive loss of its pairs."""
        x, labels = next(self.batches)
        if not self.weight:
            return losses.classifier(parallel.gather(network.d2(network.d1.maps(x))), labels)
        logits, features = map(parallel.gather, network(x))
        return losses.classifier(logits, labels) + self.weight * self._of_pairs(features, labels)

    def _of_pairs(self, features: Tensor, labels: Tensor) -> Tensor:
        if self.partners is None:
            return losses.all_pairs_contrastive(features, labels, self.margin)
        order = torch.randperm(len(labels), generator=self.partners)[: len(labels) // 2 * 2]
        first, second = order.to(labels.device).view(2, -1)
        same = labels[first] == labels[second]
        return losses.contrastive(features[first], features[second], same, self.margin)


def step_rate(options: Net) -> Callable[[int], float]:
    """Return the authors' schedule: `lr`, divided by 10 from epoch 3 of 15 on, scaled to steps."""
    drop = (options.contrastive_steps + options.classifier_steps) * 3 / 15
    return lambda step: options.lr if step < drop else options.lr / 10


def cosine_rate(options: Net) -> Callable[[int], float]:
    """Return a schedule: linear warm-up over the first 5 % of all steps, then a cosine to 0."""
    steps = options.contrastive_steps + options.classifier_steps
    warm = max(1, steps // 20)

    def rate(step: int) -> float:
        if step < warm:
            return options.lr * (step + 1) / warm
        return options.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return rate


@contextmanager
def deterministic() -> Iterator[None]:
    """Within this context the same seed, threads and machine give the same bits."""
    # cuBLAS reads this when it is first used; without it PyTorch refuses to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


def validate(detector: Detector, valid: Images) -> dict[str, float]:
    """Return the class-balanced cross-entropy (`loss`) and the `auc` on `valid`."""
    scores = detector.score(valid.pixels)
    weights = compute_sample_weight("balanced", valid.labels)
    return {
        "loss": float(log_loss(valid.labels, scores, sample_weight=weights, labels=[0, 1])),
        "auc": float(roc_auc_score(valid.labels, scores)),
    }


@dataclass
class _Best:
    """The best checkpoint so far by `RULE`; of two equal ones the earlier."""

    step: int = 0
    valid: dict[str, float] | None = None
    state: dict[str, Tensor] | None = None

    def offer(self, step: int, valid: dict[str, float], network: torch.nn.Module) -> None:
        if self.valid is None or valid["loss"] < self.valid["loss"]:
            self.step, self.valid = step, valid
            self.state = copy.deepcopy(network.state_dict())


def _check(train: Images, valid: Images) -> None:
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


def fit(
    train: Images,
    valid: Images,
    options: Net,
    seed: int,
    objective: Callable[[Images, Net, int, torch.device], Objective],
    rate: Callable[[int], float],
    log: Path | None = None,
    architecture: Callable[..., Network] = Network,
    **config: Any,
) -> tuple[Network, dict[str, object]]:
    """Train a network in two phases and return its best checkpoint.

    Under `accelerate launch` all processes train together (`deepfd.parallel`), and each returns the
    same network.

    Args:
        train: images to learn from.
        valid: images the checkpoint is chosen on, every `validate_every` steps of the second phase
            and after the last.
        options: steps, batch, margin, width.
        seed: of weights, batches and augmentation, each by a name of its own.
        objective: makes the objective of `train`, `options`, `seed` and the device.
        rate: learning rate of a step (counted from 0 over both phases).
        log: folder for live metrics (dvclive), none if None.
        architecture: the class of the network.
        config: its further arguments, beside channels, size and width.

    Returns:
        The network, and what is to be kept on record of the training (JSON values).

    Raises:
        UserError: a fold lacks a class, shapes differ, or the loss becomes NaN or infinite.
    """
    _check(train, valid)
    writes = parallel.is_main()  # first of all: of several processes, each takes its own GPU
    device = default_device()
    size, _, channels = train.pixels.shape[1:]
    steps = options.contrastive_steps + options.classifier_steps
    best = _Best()
    with ExitStack() as stack:
        stack.enter_context(deterministic())
        live = None
        if log is not None and writes:
            from dvclive import Live

            live = stack.enter_context(Live(str(log), save_dvc_exp=False, dvcyaml=None))
        network = initialised(
            channels, size, options.width, seed_for(seed, "weights"), architecture, **config
        ).to(device)
        parallel.prepare(network)
        goal = objective(train, options, seed, device)
        optimizer = torch.optim.Adam(network.parameters(), lr=options.lr)
        progress = stack.enter_context(
            tqdm(
                total=steps * options.batch,
                unit=" images",
                smoothing=0.1,
                mininterval=1,
                disable=not writes,
            )
        )
        for step in range(steps):
            # One step: loss, gradient, update.
            network.train()
            contrastive = step < options.contrastive_steps
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            with precision.autocast(device):
                loss = (goal.contrastive if contrastive else goal.classifier)(network)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            parallel.average_gradients(network)
            optimizer.step()
            progress.update(options.batch)

            # Judge the checkpoint, once there is a classifier to judge.
            done = step + 1
            if done % options.validate_every and done != steps:
                continue
            value = loss.item()
            if not math.isfinite(value):
                raise UserError(f"the loss is {value} at step {done}; lower the learning rate `lr`")
            metrics = {"train/contrastive" if contrastive else "train/loss": value}
            if not contrastive:
                # A copy, since a detector puts its network into evaluation mode for good.
                found = validate(Detector(copy.deepcopy(network)), valid)
                best.offer(done, found, network)
                metrics |= {f"valid/{name}": one for name, one in found.items()}
                progress.set_postfix(valid_auc=f"{found['auc']:.3f}", loss=f"{value:.3f}")
            if live is not None:
                live.step = done
                for name, one in {**metrics, "lr": rate(step)}.items():
                    live.log_metric(name, one)
                live.make_summary()
    network.load_state_dict(best.state)
    return network, {"rule": RULE, "step": best.step, "steps": steps, "valid": best.valid}
