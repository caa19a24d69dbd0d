"""Features of a network that was trained to name things in photographs, and logistic regression.

Ojha, Li, Lee 2023, "Towards Universal Fake Image Detectors that Generalize Across Generative
Models" (arXiv 2302.10174): a network that never saw a fake is left as it is, and one linear
boundary is drawn on what it reads. (Theirs is CLIP's; here it is those that `deepfd` has beside
its own, at the same stages.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import PositiveFloat

from benchmarks.methods import linear
from benchmarks.methods.linear import Linear

if TYPE_CHECKING:
    from deepfd.options import BackboneName
    from pipeline.folds import Corpus
    from pipeline.images import Jpeg


BACKBONE: BackboneName = "efficientnet_lite"


class Options(linear.Options):
    """What params.yaml can say of it."""

    method: Literal["imagenet"]
    c: PositiveFloat = 0.01


def statistics(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 (N, S, S, C) into means and spreads of the frozen networks' maps, (N, D)."""
    from deepfd import backbone
    from pipeline.device import default_device

    return backbone.statistics(BACKBONE, pixels, default_device()).astype(np.float64)


class ImageNet(Linear):
    """Logistic regression on `statistics`."""

    features = staticmethod(statistics)

    @classmethod
    def keep(cls) -> None:
        """Keep what the network says of a picture."""
        from deepfd import backbone

        backbone.keep()

    @classmethod
    def prepare(cls, corpus: Corpus, options: Any, finish: Jpeg | None) -> None:
        """Read every picture before the fits, by all cores; with a GPU each fit reads its own."""
        from deepfd import backbone
        from deepfd.treatment import treated

        train, treatment = corpus.images.subset(corpus.split == "train"), options.treatment
        copies = range(treatment.variants if treatment else 0)
        changed = (treated(train, treatment, copy, finish) for copy in copies)
        backbone.ahead(BACKBONE, corpus.images.pixels, *changed)
