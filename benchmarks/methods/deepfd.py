"""`deepfd`, `plain` and `npr`: one network built from parts, one training.

They differ in their options alone (`deepfd.options`): `plain` has no contrastive loss, `npr` the
front and the body of Tan et al. 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks.methods.base import Asked
from benchmarks.methods.learned import Learned
from deepfd import backbone, stacked
from deepfd import train as training
from deepfd.detector import Network
from deepfd.objectives import Pool
from deepfd.options import Npr, OnCrops, ResidualNet
from deepfd.refit import all_shown, softened
from pipeline.folds import Corpus, Images
from pipeline.images import Crop, Jpeg
from pipeline.seeds import seed_for


def architecture(options: ResidualNet | Npr) -> dict[str, Any]:
    """Return the arguments of `Network` besides channels and size that options ask for."""
    if isinstance(options, Npr):
        body = {"kind": "resnet", "width": options.width}
        return {"front": options.front, "body": body, "feature": "unit", "head": "linear"}
    body = {"kind": "residual", "widths": list(options.widths), "stride": options.stride}
    body |= {"stem": options.stem} if options.stem else {}
    found = {"front": options.front, "body": body, "feature": "unit", "head": "paper"}
    return found | ({"backbone": options.backbone} if options.backbone else {})


def _network(train: Images, options: ResidualNet | Npr, seed: int) -> Network:
    """Draw the network of a fit."""
    size, _, channels = train.pixels.shape[1:]
    return Network(channels, size, **architecture(options), seed=seed_for(seed, "weights"))


class DeepFD(Learned):
    """Trained on random crops of both classes; it scores whole pictures."""

    stackable = True

    @classmethod
    def fit(
        cls, train: Images, valid: Images, options: ResidualNet | Npr, seed: int,
        log: Path | None = None, crop: Crop = "center", finish: Jpeg | None = None,
    ) -> Self:  # fmt: skip
        """Fit on `train` (`benchmarks.methods.base.Method`); `valid` is only reported on."""
        network = _network(train, options, seed)
        trained = training.fit(
            train,
            valid,
            options,
            lambda device: training.crops_plan(
                train, valid, options, seed, device, network.to(device), finish
            ),
            log,
        )
        return cls.of(trained, options.method, seed, crop, finish)

    @classmethod
    def fit_several(
        cls, several: Sequence[Asked], options: ResidualNet | Npr, finish: Jpeg | None = None
    ) -> list[Self]:
        """Fit some networks as one (`deepfd.stacked`): as `fit` does, up to rounding."""
        found = stacked.fit(
            [
                stacked.Training(one.fold, one.seed, _network(one.fold.train, options, one.seed))
                for one in several
            ],
            options,
            finish,
        )
        return [
            cls.of(trained, options.method, one.seed, one.crop, finish)
            for one, trained in zip(several, found, strict=True)
        ]

    @classmethod
    def keep(cls) -> None:
        """Keep what the backbone says of a picture."""
        backbone.keep()

    @classmethod
    def prepare(cls, corpus: Corpus, options: OnCrops, finish: Jpeg | None) -> None:
        """Make what is the same in all folds, before they are fitted."""
        train, valid, test = (
            corpus.images.subset(corpus.split == split) for split in ("train", "valid", "test")
        )
        # Before the pool, which has the treated copies once more and then lets go of them.
        as_shown = all_shown(train, options, finish)
        Pool.ahead(train, options.treatment, finish)
        if options.refit:
            soft = softened(valid.subset(valid.labels == 0), options, finish)
            if options.backbone:
                backbone.ahead(options.backbone, *as_shown, soft, valid.pixels, test.pixels)
