"""What a step of training asks of a network: the objectives of DeepFD's and the authors' training.

Inputs are this process's part of a batch, `parallel.gather` gives the answers for all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from deepfd import data, losses, parallel
from deepfd.detector import Network
from deepfd.options import Faithful, OnCrops, Treatment
from deepfd.treatment import forget, treated
from pipeline.cores import has_gpu
from pipeline.folds import Images
from pipeline.images import Jpeg
from pipeline.seeds import seed_for


class Pool:
    """Pictures to train on and their treated copies, on the device of the training.

    Args:
        images: N pictures of side S.
        treatment: of the copies; None for no copy.
        device: where they are to lie.
        finish: the last step to pixels, which treated copies meet, too.

    Attributes:
        pixels: uint8 (copies N, C, S, S): all as they are, then all copies 1, ...
        copies: how many there are of each picture, itself counted.
    """

    def __init__(
        self, images: Images, treatment: Treatment | None, device: torch.device,
        finish: Jpeg | None = None,
    ) -> None:  # fmt: skip
        numbers = range(treatment.variants if treatment else 0)
        changed = [treated(images, treatment, number, finish) for number in numbers]
        self.pixels = data.to_tensor(np.concatenate([images.pixels, *changed]), device)
        self.copies = 1 + len(changed)
        self._rows = pd.Index(images.ids)

    @classmethod
    def of(
        cls, images: Images, treatment: Treatment | None, device: torch.device,
        finish: Jpeg | None = None,
    ) -> Pool:  # fmt: skip
        """Return a pool that has these pictures: the one made `ahead` if it does, else a new one.

        The arguments are those of the class.
        """
        made = _ahead.get((treatment, device, finish))
        return made if made and made.has(images) else cls(images, treatment, device, finish)

    @classmethod
    def ahead(cls, images: Images, treatment: Treatment | None, finish: Jpeg | None) -> Pool | None:
        """Make the pool of all pictures of a run, which its fits then share, forked ones too.

        Where there is a GPU, which a process that is to be forked may not ask for, each makes its
        own, of copies that are made here.
        """
        if has_gpu():
            for number in range(treatment.variants if treatment else 0):
                treated(images, treatment, number, finish)
            return None
        made = cls(images, treatment, torch.device("cpu"), finish)
        forget()  # the copies lie in the pool now
        _ahead.clear()
        _ahead[treatment, made.pixels.device, finish] = made
        return made

    def __len__(self) -> int:
        """Return N."""
        return len(self._rows)

    def has(self, images: Images) -> bool:
        """Say whether these very pictures are in it."""
        rows = self.rows(images)
        if not (rows >= 0).all():
            return False
        device = self.pixels.device
        return torch.equal(self.pixels[rows.to(device)], data.to_tensor(images.pixels, device))

    def copy(self, number: int) -> np.ndarray:
        """Return one copy of every picture, uint8 (N, S, S, C); 0: the pictures as they are."""
        part = self.pixels[number * len(self) : (number + 1) * len(self)]
        return part.permute(0, 2, 3, 1).cpu().numpy()

    def rows(self, images: Images) -> Tensor:
        """Return int64 (n,), in which of the N rows each of some of the pictures lies, or -1."""
        return torch.from_numpy(self._rows.get_indexer(images.ids))


# What `Pool.ahead` made, by what it was made with.
_ahead: dict[tuple[Treatment | None, torch.device, Jpeg | None], Pool] = {}


@dataclass(frozen=True)
class CropBatches:
    """What every step of a training shows, drawn beforehand.

    Attributes:
        pool: where the pictures lie.
        where: int64 (steps, batch), which picture of the pool.
        crops: where each is cut out.
        labels: int64 (steps, batch), on the device of the pool.
    """

    pool: Pool
    where: Tensor
    crops: data.Crops
    labels: Tensor

    @classmethod
    def drawn(cls, train: Images, options: OnCrops, seed: int, pool: Pool) -> CropBatches:
        """Draw them, balanced over classes and sources, of the pictures `train` of a pool."""
        steps, batch = options.steps, options.batch
        positions = data.balanced(train, steps, batch, seed_for(seed, "batches"))
        side = pool.pixels.shape[-1]
        crops = data.Crops.drawn(steps, batch, side, options.crop, seed_for(seed, "crops"))
        where = pool.rows(train)[positions]
        if options.treatment:
            # Copy 0 is the picture as it is; a treated one comes with the probability `share`.
            stream = data.generator(seed_for(seed, "copies"))
            copies = options.treatment.variants
            chosen = torch.randint(1, 1 + copies, (steps, batch), generator=stream)
            meets = torch.rand(steps, batch, generator=stream) < options.treatment.share
            where = where + chosen * meets * len(pool)
        labels = torch.from_numpy(np.asarray(train.labels, dtype=np.int64))[positions]
        return cls(pool, where, crops, labels.to(pool.pixels.device))

    @classmethod
    def beside(cls, several: Sequence[CropBatches]) -> CropBatches:
        """Put those of several trainings on one pool side by side: a step has those of all."""
        return cls(
            several[0].pool,
            torch.cat([one.where for one in several], dim=1),
            data.Crops.beside([one.crops for one in several]),
            torch.cat([one.labels for one in several], dim=1),
        )

    def of(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs, float32 (batch, C, crop, crop) in [-1, 1], and labels (batch,)."""
        pixels = self.crops.cut(self.pool.pixels, self.where[step], step)
        return data.to_input(pixels), self.labels[step]


class CropLoss:
    """Cross-entropy on random crops and, beside it, the contrastive loss of their features.

    Crops, their order and their turns depend on the seed alone: methods that differ in the
    contrastive loss, or in the network, see the same.

    Args:
        train: pictures to learn from.
        options: of the method.
        seed: of every draw.
        device: where the training runs.
        finish: the last step to pixels of every picture.
        pool: where pictures of several trainings lie, `train` among them; `Pool.of` if None.
    """

    def __init__(
        self, train: Images, options: OnCrops, seed: int, device: torch.device,
        finish: Jpeg | None = None, pool: Pool | None = None,
    ) -> None:  # fmt: skip
        self.options = options
        pool = pool or Pool.of(train, options.treatment, device, finish)
        self.batches = CropBatches.drawn(train, options, seed, pool)

    def of(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of a network's answers to a whole batch."""
        options, loss = self.options, losses.classifier(logits, labels)
        if options.contrast == "none":
            return loss
        if options.contrast == "margin":
            contrast = losses.all_pairs_contrastive(features, labels, options.margin)
        else:
            contrast = losses.supervised_contrastive(features, labels, options.temperature)
        return loss + options.contrast_weight * contrast

    def __call__(self, network: Network, step: int) -> Tensor:
        """Return the loss of a step, see the class."""
        x, labels = self.batches.of(step)
        x = parallel.shard(x).contiguous(memory_format=torch.channels_last)
        if self.options.contrast == "none":  # no feature is needed
            logits = parallel.gather(network.d2(network.d1.maps(x)))
            return self.of(logits, logits, labels)
        return self.of(*map(parallel.gather, network(x)), labels)


class PairLoss:
    """The authors' objective: sampled two-image pairs, then cross-entropy on single images."""

    def __init__(self, train: Images, options: Faithful, seed: int, device: torch.device) -> None:
        self.options = options
        self.pixels = data.to_tensor(train.pixels, device)
        self.labels = torch.from_numpy(np.asarray(train.labels, dtype=np.int64)).to(device)
        self.jitter = data.generator(seed_for(seed, "augment"))
        self.pairs = data.pair_batches(
            train, options.contrastive_steps, options.batch, seed_for(seed, "pairs")
        )
        self.positions = data.balanced(
            train, options.classifier_steps, options.batch, seed_for(seed, "batches")
        )

    def _inputs(self, positions: Tensor) -> Tensor:
        """Return augmented inputs of the images at `positions`, this process's part of them."""
        x = data.to_input(self.pixels[positions.to(self.pixels.device)])
        x = parallel.shard(data.augment(x, self.jitter))
        return x.contiguous(memory_format=torch.channels_last)

    def __call__(self, network: Network, step: int) -> Tensor:
        """Contrastive loss of `batch` pairs in the first phase, then cross-entropy of as many."""
        if step < self.options.contrastive_steps:
            first, second, same = next(self.pairs)
            features = [
                parallel.gather(network.d1(self._inputs(side))[1]) for side in (first, second)
            ]
            return losses.contrastive(*features, same.to(features[0].device), self.options.margin)
        positions = self.positions[step - self.options.contrastive_steps]
        logits = parallel.gather(network.d2(network.d1.maps(self._inputs(positions))))
        return losses.classifier(logits, self.labels[positions.to(self.labels.device)])
