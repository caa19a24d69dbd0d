"""Detectors by name.

A new one is a module with a class of the `base.Method` protocol, a line here and a class of its
options in `benchmarks/methods/options.py`.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.methods.base import Method
from pipeline.errors import UserError

# Import paths rather than classes: a run of `spectrum` never pays for importing torch.
METHODS = {
    "faithful": "benchmarks.methods.faithful:Faithful",
    "deepfd": "benchmarks.methods.deepfd:DeepFD",
    "plain": "benchmarks.methods.deepfd:DeepFD",
    "spectrum": "benchmarks.methods.spectrum:Spectrum",
    "dct": "benchmarks.methods.dct:Dct",
    "srm": "benchmarks.methods.srm:Srm",
    "one_class": "benchmarks.methods.one_class:OneClass",
    "colour": "benchmarks.methods.colour:Colour",
    "colour_rgb": "benchmarks.methods.colour:ColourRgb",
    "npr": "benchmarks.methods.deepfd:DeepFD",
}


def load_method(name: str) -> type[Method]:
    """Import the detector class of a `method:` name of params.yaml.

    Raises:
        UserError: no such method.
    """
    if name not in METHODS:
        raise UserError(f"method {name!r} is unknown; expected one of {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)


def draws_nothing(method: type[Method]) -> bool:
    """Whether a detector says that any seed would give the same: it is fitted with one."""
    return bool(getattr(method, "deterministic", False))
