"""Examples for the page: a fake of each generator at hand."""

from __future__ import annotations

from pathlib import Path

import generators
from pipeline import images, manifest
from pipeline.errors import UserError
from pipeline.folds import MANIFESTS
from pipeline.params import PATH, Params, load


def at_hand(folder: Path = MANIFESTS) -> dict[str, bytes]:
    """Return a fake that no detector was trained on for each generator of params.yaml, as PNG.

    From the test split of its manifest; where there is none yet, sampled now from its weights, if
    they lie here. {} where there is no params.yaml.
    """
    if not PATH.is_file():
        return {}
    run = load()
    found = {name: _stored(folder / name) or _sampled(name, run) for name in run.generators}
    return {name: content for name, content in found.items() if content}


def _stored(folder: Path) -> bytes | None:
    if not folder.is_dir():
        return None
    for part in manifest.parts(folder):
        frame = part.select(["image", "split"]).to_pandas()
        for cell in frame[frame["split"] == "test"]["image"]:
            return cell["bytes"]
    return None


def _sampled(name: str, run: Params) -> bytes | None:
    options = run.generators[name]
    # Nothing is fetched from elsewhere for an example.
    if not Path(getattr(options, "weights", "")).exists():
        return None
    try:
        generator = generators.load(options)
        made = generator.sample([options.first_seed + options.images])
    except UserError:  # weights that are damaged are the stage's to complain about
        return None
    faces = run.faces
    (pixels,) = images.generated_to_pixels(
        made.numpy(), faces.size, faces.channels, options.crop, faces.finish
    )
    return images.encode_png(pixels)
