"""Profiles as they are shipped: profiles/<name>.yaml.j2 says what differs from base.yaml.j2.

They are text, put together by Jinja's inheritance, so that what comes out reads as if it had been
written by hand: comments, aliases and entries in braces stay as they are.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from pipeline.errors import UserError

FOLDER = Path("profiles")
SUFFIX = ".yaml.j2"
BASE = "base"


def shipped(folder: Path = FOLDER) -> list[str]:
    """Name the profiles that can be composed, in the order of the alphabet."""
    found = (path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))
    return sorted(name for name in found if name != BASE)


def compose(name: str, folder: Path = FOLDER) -> str:
    """Return the whole params.yaml of a profile as it is shipped.

    Args:
        name: of the profile.
        folder: where base and differences lie.

    Raises:
        UserError: there is no such profile, or it lacks a value for which there is no default.
    """
    if name not in shipped(folder):
        raise UserError(f"no {folder}/{name}{SUFFIX}; expected one of {', '.join(shipped(folder))}")
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # YAML, not HTML
    )
    try:
        return environment.get_template(f"{name}{SUFFIX}").render(profile=name)
    except TemplateError as error:
        raise UserError(f"{folder}/{name}{SUFFIX}: {error}; mend it") from None
