"""What params.yaml can say of a learned method. Neither torch nor anything slow is imported."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.options import Fraction, Model, Seeds

# Half photographs, half fakes.
Batch = Annotated[int, Field(ge=4, multiple_of=2)]
FrontName = Literal["none", "highpass", "neighbours", "median", "srm", "npr"]
# What is read of which frozen networks (`deepfd.backbone.READINGS`).
BackboneName = Literal["efficientnet_lite0", "efficientnet_lite"]


class Learned(Model):
    """What every method that trains a network is told."""

    batch: Batch
    lr: PositiveFloat
    # Number format of the maps; `auto` measures which is faster here (pipeline/precision.py).
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    # Seeds of this method where they are not those of `fit.seeds`.
    seeds: Seeds | None = None


class Faithful(Learned):
    """The authors' network and schedule: two-image pairs, step learning rate, whole pictures."""

    method: Literal["faithful"]
    width: PositiveInt = 96
    contrastive_steps: NonNegativeInt
    classifier_steps: PositiveInt
    margin: PositiveFloat = 0.5
    validate_every: PositiveInt = 50


class Treatment(Model):
    """What a share of the training pictures of both classes meets at random (deepfd/treatment.py).

    The draw knows nothing of a picture's class but for softness, which by default photographs alone
    meet: of two pictures too soft to be told apart the detector is then to lean to "photograph".
    With `soft_photographs: null` and without `zoom` both classes meet all of it alike.
    """

    # Share of the pictures of a batch that are treated ones.
    share: Fraction = 0.75
    # How many treated copies of each training picture there are to draw from.
    variants: PositiveInt = 3
    # Probability of being made soft: shrunk, coded and enlarged again, or strongly blurred.
    soft: Fraction = 0.0
    # The same for photographs, where it is to differ.
    soft_photographs: Fraction | None = 0.6
    # Probability that only a part of a photograph is kept and enlarged, as a face that was cut out
    # of a larger picture. Half of these meet nothing else.
    zoom: Fraction = 0.0
    # Probability of a JPEG at the end.
    jpeg: Fraction = 0.5


class Refit(Model):
    """How D2 is fitted anew on whole pictures after the crops (deepfd/refit.py)."""

    # Whole pictures it is fitted on, drawn as the crops are; how one that is drawn again is shown
    # is drawn anew (deepfd/refit.py).
    pictures: Annotated[int, Field(ge=64, multiple_of=2)] = 2048
    # Share of them that are treated ones.
    share: Fraction = 0.5
    # Share of them whose framing, light and colours are varied instead (deepfd/treatment.py).
    varied: Fraction = 0.0
    # The same for fakes, where it is to differ.
    varied_fakes: Fraction | None = None
    # At most this share of the valid photographs, made soft or with a part enlarged as the
    # treatment does it, is to be called fake.
    soft: Fraction = 0.2
    # The smallest penalty that is tried (deepfd/refit.py).
    penalty: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _are_shares_of_one_whole(self) -> Self:
        for varied in (self.varied, self.varied_fakes or 0.0):
            if self.share + varied > 1:
                raise ValueError(
                    f"share {self.share} and varied {varied} of the refit's pictures add up to "
                    f"{self.share + varied:g}; expected at most 1"
                )
        return self


class OnCrops(Learned):
    """A network on a fixed front, trained on random crops: what all of them are told."""

    batch: Batch = 128
    lr: PositiveFloat = 0.003
    steps: PositiveInt
    weight_decay: NonNegativeFloat = 1e-3
    # Side of the random crops it is trained on, in pixels; whole pictures where it is their size.
    crop: Annotated[int, Field(ge=8)] = 16
    treatment: Treatment | None = None
    # Whether D2 is fitted anew on whole pictures after the crops.
    refit: Refit | None = None
    # Frozen networks whose maps the refit of D2 reads too (`deepfd.backbone`).
    backbone: BackboneName | None = None
    # The contrastive loss beside cross-entropy.
    contrast: Literal["none", "margin", "supervised"]

    @model_validator(mode="after")
    def _has_its_reader(self) -> Self:
        if self.backbone and not self.refit:
            raise ValueError(
                "a backbone is read by the refit of D2 alone; expected `refit: {}` beside it"
            )
        return self


class ResidualNet(OnCrops):
    """D1 of residual blocks (`deepfd.bodies.Residual`)."""

    front: FrontName = "highpass"
    # Channels of each residual block; from the second block on, each halves the map.
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=6)] = (16, 32, 64)
    # Stride of the first convolution: 1 keeps the full resolution.
    stride: PositiveInt = 1
    # Channels of the first convolution where no block stays at its resolution: the first halves the
    # map, too. Without it: `widths[0]`, and a block that stays.
    stem: PositiveInt | None = None


class DeepFD(ResidualNet):
    """D1 on a fixed residual front, trained on crops; the contrastive loss beside cross-entropy."""

    method: Literal["deepfd"]
    # The contrastive loss on L2-normalised features: the paper's with a margin, or the supervised
    # contrastive one (Khosla et al. 2020), by this weight beside cross-entropy from the first step.
    contrast: Literal["none", "margin", "supervised"] = "supervised"
    contrast_weight: NonNegativeFloat = 0.1
    margin: PositiveFloat = 1.0
    temperature: PositiveFloat = 0.1


class Plain(ResidualNet):
    """The same network, steps, images and order; cross-entropy only."""

    method: Literal["plain"]
    contrast: Literal["none"] = "none"


class Npr(OnCrops):
    """Neighbouring pixel relationships and the first layers of ResNet-50, cross-entropy only."""

    method: Literal["npr"]
    front: Literal["npr"] = "npr"
    width: PositiveInt = 64
    crop: Annotated[int, Field(ge=8)] = 64
    refit: None = None  # its D2 has no layer between maps and pooling
    backbone: None = None
    contrast: Literal["none"] = "none"
