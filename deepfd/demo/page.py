"""The page itself, which Streamlit runs from top to bottom for every click.

It shows of one picture what `deepfd detect` says, the map, and the nearest fakes of the training.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import streamlit as st
from PIL import Image

from deepfd import pictures
from deepfd.demo import examples
from deepfd.detect import CAVEAT, Detectors
from deepfd.localise import overlay
from deepfd.neighbours import Neighbours
from deepfd.predict import Item, Prediction, Predictor
from deepfd.records import WORDS
from pipeline.errors import UserError
from pipeline.images import FILTER, to_mode, to_pil

# Sides of what is shown, in pixels of the page: small pictures are enlarged to these.
LARGE, SMALL = 320, 96


@st.cache_resource(show_spinner="Reading the model ...")
def detectors(model: str | None) -> Detectors:
    """Load the models once for all visitors."""
    return Detectors(model)


@st.cache_resource(show_spinner="Looking at the fakes it was trained on ...")
def neighbours(_predictor: Predictor, name: str) -> Neighbours | str:
    """Index the training fakes of the model called `name` once; the reason where there are none."""
    try:
        return Neighbours(_predictor)
    except UserError as error:
        return str(error)


@st.cache_resource(show_spinner="Fetching examples ...")
def shown_examples() -> dict[str, bytes]:
    """Fetch the examples once."""
    return examples.at_hand()


def judged(name: str, content: bytes) -> tuple[Predictor, Item, Prediction, Image.Image]:
    """Judge a file as `deepfd detect` does.

    Returns:
        The model, what was prepared, the prediction with its map, and the judged part.

    Raises:
        UserError: it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture{Path(name).suffix}"
        path.write_bytes(content)
        try:
            predictor, item = detectors(MODEL).prepare(path, find_faces=True)
            opened = pictures.read(path)
        except UserError as error:
            raise UserError(str(error).removeprefix(f"{path}: ")) from None
        (found,) = predictor.judge([item], maps=True)
        part = to_mode(opened.image.crop(found.box), 3)
    return predictor, item, found, part.resize((LARGE, LARGE), FILTER)


def show(name: str, content: bytes) -> None:
    """Show what is known of a picture."""
    try:
        predictor, item, found, part = judged(name, content)
    except UserError as error:
        st.error(f"{name}: {error}")
        return
    words = f"**{name}: {WORDS[found.verdict]}**"
    (st.error if found.fake else st.success)(words)
    probability, threshold = st.columns(2)
    probability.metric("P(fake)", f"{found.probability:.3f}")
    threshold.metric("Called fake from", f"{found.threshold:.3f}", found.rule, delta_color="off",
                     delta_arrow="off")  # fmt: skip
    calibrated = "calibrated" if predictor.threshold.calibration else "not calibrated"
    st.caption(f"By the model {predictor.name}; P(fake) is {calibrated}.")
    left, right = st.columns(2)
    left.image(part, f"What was judged ({found.how})", width=LARGE)
    right.image(overlay(part, found.map), "Red speaks for a fake, blue against it", width=LARGE)
    if len(found.faces) > 1:
        st.info(f"The most suspicious of {len(found.faces)} faces decides.")
    for note in found.notes:
        st.info(note)

    st.subheader("Nearest training pictures made by generators")
    index = neighbours(predictor, predictor.name)
    if isinstance(index, str):
        st.info(f"No neighbours: {index}.")
        return
    view = next(i for i, one in enumerate(item.views) if one.box == found.box)
    near = index.nearest(item.pixels[view])
    for place, one in zip(st.columns(len(near)), near, strict=True):
        caption = f"{one.generator}, {one.distance:.2f}"
        place.image(to_pil(one.pixels).resize((SMALL, SMALL), FILTER), caption)
    st.caption(
        "By the distance of the model's own feature (0: alike; 2 at most). Photographs of the "
        "training are never shown."
    )


def choose() -> tuple[str, bytes] | None:
    """Let a picture be dropped or an example be chosen; the last of both counts."""
    state = st.session_state
    dropped = st.file_uploader(
        "Drop a picture of a face", on_change=state.pop, args=("example", None)
    )
    chosen = shown_examples()
    if chosen:
        st.caption("Or an example of a generator at hand:")
        for place, (name, content) in zip(st.columns(len(chosen)), chosen.items(), strict=True):
            picture = Image.open(io.BytesIO(content))
            place.image(picture.resize((SMALL, SMALL), FILTER))
            if place.button(name, width="stretch"):
                state["example"] = name
    else:
        st.caption("No generator lies in this folder, so there are no examples.")
    if name := state.get("example"):
        return name, chosen[name]
    return (dropped.name, dropped.getvalue()) if dropped else None


MODEL = sys.argv[1] if len(sys.argv) > 1 else None
st.set_page_config("DeepFD", layout="wide")
st.title("Is this picture of a face a fake?")
st.caption(CAVEAT)
if (picture := choose()) is not None:
    show(*picture)
