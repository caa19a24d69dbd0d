"""Options of the audit: the limits of its gates, and which of them only warn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.options import Fraction, Model

# Gates of pipeline/gates that stop a run; the soft ones (brightness and the like) only report.
HardGate = Literal[
    "container",
    "size",
    "naming",
    "digest",
    "label",
    "ids",
    "counts",
    "sha256",
    "near_duplicate",
    "identity",
    "constant",
    "collapse",
    "copying",
    "reads",
]


class Audit(Model):
    """Limits of the gates before any fit; `warn` names those that warn instead of stopping."""

    # AUC that a probe may reach on what must be equal for both classes, and on what may differ.
    hard_auc: Annotated[float, Field(ge=0.5, le=1)] = 0.55
    soft_auc: Annotated[float, Field(ge=0.5, le=1)] = 0.75
    # Images of each source that a probe looks at.
    probe_images: Annotated[int, Field(ge=10)] = 1000
    # Two images are near-duplicates when their 256-bit perceptual hashes differ in so few bits.
    near_bits: Annotated[int, Field(ge=0, le=128)] = 40
    # Shares: photographs with a near-duplicate in another split, fakes with one anywhere.
    near_duplicate: Fraction = 0.0
    collapse: Fraction = 0.05
    # Share of fakes nearer to a training photograph than these mostly are to each other.
    copying: Fraction = 0.25
    warn: tuple[HardGate, ...] = ()
