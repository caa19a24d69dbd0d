"""`deepfd`: the paper's D1 and D2, trained well."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from deepfd import train as training
from deepfd.detector import Detector
from pipeline.folds import Images
from pipeline.params import Paired as Options


class DeepFD(Detector):
    """Pairs of a class- and generator-balanced batch from one forward pass, by default all.

    Phase 1 trains D1 on the contrastive loss, phase 2 everything on cross-entropy plus
    `contrastive_weight` times the contrastive loss; warm-up and cosine over both phases. (A moving
    average of the weights gained nothing on valid images beside the cosine, so there is none.)
    """

    # Options that are arguments of `architecture`, beside channels, size and width.
    arguments: ClassVar[tuple[str, ...]] = ("feature",)
    # What a batch is made of and what is asked of it.
    objective: ClassVar[type[training.BatchPairs]] = training.BatchPairs

    @classmethod
    def fit(
        cls,
        train: Images,
        valid: Images,
        options: Options,
        seed: int,
        log: Path | None = None,
    ) -> Self:
        """Fit on `train`, choose the checkpoint on `valid` (`benchmarks.methods.base.Method`)."""
        network, about = training.fit(
            train,
            valid,
            options,
            seed,
            objective=cls.objective,
            rate=training.cosine_rate(options),
            log=log,
            architecture=cls.architecture,
            **{name: getattr(options, name) for name in cls.arguments},
        )
        return cls(network, about={"method": options.method, "seed": seed, **about})
