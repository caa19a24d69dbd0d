"""Training of D1: all pairs of a batch from one forward pass, against a two-image Siamese loop.

Both train the same network on crops of the same size with the same number of images in a step and
the same optimizer. The Siamese loop is the usual one: a `DataLoader` whose samples are two pictures
opened by Pillow and whether they are of one class; both go through D1, the contrastive loss sees
that pair, and the classifier both pictures. A pair is what a contrastive loss learns from, so the
work is counted in pairs; beside it stands what remains of the ratio where images are counted.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmarks.methods.deepfd import architecture
from benchmarks.speed import peers
from benchmarks.speed.turns import OURS, Race
from deepfd import losses, objectives
from deepfd import train as training
from deepfd.detector import Network
from deepfd.options import ResidualNet
from pipeline import cores
from pipeline.folds import Fold

TARGET = 2.0
# Matrices whose product, some times over, is taken for the machine's peak.
SIDE, PRODUCTS = 2048, 20
PEAK = "2048 x 2048 matrix products"
SIAMESE = "Siamese loop, DataLoader + Pillow"


def siamese(folder: Path, options: ResidualNet, shape: tuple[int, int], steps: int) -> None:
    """Train by sampled pairs for some steps.

    Args:
        folder: see `peers.ImageFolder`.
        options: of the method: network, batch (in images), crop, rate.
        shape: side of the pictures, channels.
        steps: how many.
    """
    size, channels = shape
    pairs = options.batch // 2
    network = Network(channels, size, **architecture(options), seed=0).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.lr, weight_decay=options.weight_decay
    )
    dataset = peers.Pairs(folder, peers.MODES[channels], options.crop, pairs * steps)
    workers = cores.available()
    for first, second, label, other in peers.loader(dataset, pairs, workers):
        (logits, features), (others, partners) = network(first), network(second)
        contrast = losses.contrastive(features, partners, label == other, options.margin)
        loss = losses.classifier(logits, label) + losses.classifier(others, other)
        optimizer.zero_grad()
        (loss / 2 + options.contrast_weight * contrast).backward()
        optimizer.step()


def ours(fold: Fold, options: ResidualNet, steps: int) -> None:
    """Train as the method does, from decoded pictures; judged once at the end."""
    size, _, channels = fold.train.pixels.shape[1:]
    options = options.model_copy(update={"steps": steps})
    network = Network(channels, size, **architecture(options), seed=0)

    def plan(device: torch.device) -> training.Plan:
        return training.crops_plan(fold.train, fold.valid, options, 0, device, network.to(device))

    training.fit(fold.train, fold.valid, options, plan)


def races(fold: Fold, options: ResidualNet, place: Path, steps: int) -> list[Race]:
    """Build the comparison, by pairs and by images.

    Args:
        fold: images to train on.
        options: of method `deepfd`.
        place: an empty folder, for the pictures as files.
        steps: of each way.
    """
    peers.write_folder(place / "folder", fold.train)
    size, _, channels = fold.train.pixels.shape[1:]
    ways = {
        OURS: partial(ours, fold, options, steps),
        SIAMESE: partial(siamese, place / "folder", options, (size, channels), steps),
    }
    batch = options.batch
    work = {
        "pairs": {OURS: steps * batch * (batch - 1) / 2, SIAMESE: steps * batch / 2},
        "images": dict.fromkeys(ways, float(steps * batch)),
    }
    note = f"{steps} steps of {batch} images, crops of {options.crop}"
    return [Race("training D1", ways, work, note, TARGET), of_peak(fold, options, steps)]


def of_peak(fold: Fold, options: ResidualNet, steps: int) -> Race:
    """Compare the operations that training gets done with the peak, float32 matrix products."""
    a, b = (torch.randn(SIDE, SIDE) for _ in range(2))

    def products() -> None:
        for _ in range(PRODUCTS):
            a @ b

    ways = {OURS: partial(ours, fold, options, steps), PEAK: products}
    done = {OURS: steps * operations(fold, options) / 1e9, PEAK: PRODUCTS * 2 * SIDE**3 / 1e9}
    note = "products and convolutions of forward and backward are counted; the ratio is the share"
    return Race("training D1, share of the peak", ways, {"GFLOP": done}, note, warm_up=False)


def operations(fold: Fold, options: ResidualNet) -> float:
    """Count the floating-point operations of products and convolutions in one step."""
    from torch.utils.flop_counter import FlopCounterMode

    size, _, channels = fold.train.pixels.shape[1:]
    network = Network(channels, size, **architecture(options), seed=0).train()
    objective = objectives.CropLoss(fold.train, options, 0, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        objective(network, 0).backward()
    return float(counter.get_total_flops())
