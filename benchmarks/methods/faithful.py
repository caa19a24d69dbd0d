"""`faithful`: the authors' network and schedule, scaled to the steps of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from benchmarks.methods.learned import Learned
from deepfd import train as training
from deepfd.detector import Network
from deepfd.options import Faithful as Options
from pipeline.folds import Images
from pipeline.images import Crop, Jpeg
from pipeline.seeds import seed_for


class Faithful(Learned):
    """The authors' released code, mended where it is broken.

    As there: network, two-image pairs in the same mixture, margin 0.5 on softmaxed features, batch
    32, Adam at 1e-3 divided by 10 after 3/15 of the steps, the contrastive loss alone at first (2
    of 15 epochs: keep `contrastive_steps` at 2/15 of all steps) and then cross-entropy on all
    weights, flip and jitter of 5 %.

    What differs:
    - a pair has its own label (there: that of another, independently shuffled batch);
    - a sane initialisation (there: standard deviation 1 for every weight),
      `deepfd.bodies.initialise`;
    - the paper's factor 1/2 in the contrastive loss (there: none; Adam does not notice);
    - steps instead of 15 epochs of 385,198 images;
    - batches balanced by class and generator, pairs drawn anew (there: from lists written before);
    - the jitter of brightness is 5 % of the range (there: 0.05 of 255, hence nothing);
    - inputs in [-1, 1] (there: [0, 1]); batch norm with PyTorch's momentum, since the running
      statistics must settle within some hundred steps;
    - the checkpoint is chosen on valid images (there: the last one).
    """

    @classmethod
    def fit(
        cls, train: Images, valid: Images, options: Options, seed: int, log: Path | None = None,
        crop: Crop = "center", finish: Jpeg | None = None,
    ) -> Self:  # fmt: skip
        """Fit on `train`, choose the checkpoint on `valid` (`benchmarks.methods.base.Method`)."""
        size, _, channels = train.pixels.shape[1:]
        body = {"kind": "paper", "width": options.width}
        network = Network(channels, size, body=body, seed=seed_for(seed, "weights"))
        trained = training.fit(
            train,
            valid,
            options,
            lambda device: training.pairs_plan(train, options, seed, device, network.to(device)),
            log,
        )
        return cls.of(trained, options.method, seed, crop, finish)
