"""What params.yaml can say of each method; the registry of methods names their classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from deepfd.options import DeepFD, Faithful, Npr, Plain
from pipeline.options import Model


class Spectrum(Model):
    """Azimuthal power spectrum and logistic regression."""

    method: Literal["spectrum"]
    c: PositiveFloat = 1.0


class Dct(Model):
    """Log-scaled DCT coefficients and logistic regression."""

    method: Literal["dct"]
    c: PositiveFloat = 0.01


class Srm(Model):
    """Residual co-occurrences of luma and chroma and logistic regression; grey or colour."""

    method: Literal["srm"]
    c: PositiveFloat = 0.1


class OneClass(Model):
    """Mahalanobis distance from photographs in the luma's `srm` features; no fake is seen."""

    method: Literal["one_class"]
    # Principal components of the photographs' features.
    dimensions: PositiveInt = 60


class Colour(Model):
    """Residual co-occurrences of colour components and logistic regression; colour only."""

    method: Literal["colour"]
    c: PositiveFloat = 0.1


class ColourRgb(Colour):
    """`colour` with the 288 features of R, G and B beside its 300."""

    method: Literal["colour_rgb"]


Method = Annotated[
    DeepFD | Plain | Faithful | Npr | Spectrum | Dct | Srm | OneClass | Colour | ColourRgb,
    Field(discriminator="method"),
]
