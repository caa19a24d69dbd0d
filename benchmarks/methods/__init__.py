"""Detectors by name.

A new one is a module with a class of the `base.Method` protocol and a class of its options, and a
line here. Every run imports the options: their module imports nothing slow at its top.
"""

from __future__ import annotations

from benchmarks.methods.base import Method
from pipeline.errors import UserError
from pipeline.options import target

# Method: its detector and its options. Import paths rather than classes: a run of `spectrum` never
# pays for importing torch.
METHODS: dict[str, tuple[str, str]] = {
    "faithful": ("benchmarks.methods.faithful:Faithful", "deepfd.options:Faithful"),
    "deepfd": ("benchmarks.methods.deepfd:DeepFD", "deepfd.options:DeepFD"),
    "plain": ("benchmarks.methods.deepfd:DeepFD", "deepfd.options:Plain"),
    "spectrum": ("benchmarks.methods.spectrum:Spectrum", "benchmarks.methods.spectrum:Options"),
    "dct": ("benchmarks.methods.dct:Dct", "benchmarks.methods.dct:Options"),
    "srm": ("benchmarks.methods.srm:Srm", "benchmarks.methods.srm:Options"),
    "one_class": ("benchmarks.methods.one_class:OneClass", "benchmarks.methods.one_class:Options"),
    "imagenet": ("benchmarks.methods.imagenet:ImageNet", "benchmarks.methods.imagenet:Options"),
    "colour": ("benchmarks.methods.colour:Colour", "benchmarks.methods.colour:Options"),
    "colour_rgb": ("benchmarks.methods.colour:ColourRgb", "benchmarks.methods.colour:RgbOptions"),
    "npr": ("benchmarks.methods.deepfd:DeepFD", "deepfd.options:Npr"),
}


def load_method(name: str) -> type[Method]:
    """Import the detector class of a `method:` name of params.yaml.

    >>> load_method("spectrum").__name__
    'Spectrum'

    Raises:
        UserError: no such method.
    """
    if name not in METHODS:
        raise UserError(f"method {name!r} is unknown; expected one of {', '.join(METHODS)}")
    return target(METHODS[name][0])
