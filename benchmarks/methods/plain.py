"""`plain`: the same network, steps, images and order as `deepfd`, cross-entropy only."""

from __future__ import annotations

from benchmarks.methods.deepfd import DeepFD


class Plain(DeepFD):
    """DeepFD with the contrastive loss off.

    `pipeline.params.Plain` fixes both the contrastive steps and the contrastive weight at 0, so
    this is one and the same code; a difference between the two methods is the loss alone.
    """

    arguments = ()
