"""What is said of a generator's spectrum, on pictures whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks import spectra
from deepfd.options import DeepFD, Treatment
from pipeline import images, manifest
from pipeline.folds import sources

SIZE, COUNT = 32, 60


def noise(seed, channels=1):
    draw = np.random.default_rng(seed)
    return np.clip(draw.normal(128, 30, (COUNT, SIZE, SIZE, channels)), 0, 255).astype(np.uint8)


def soft(pixels):
    kernel = ImageFilter.GaussianBlur(0.8)
    found = [np.asarray(images.to_pil(one).filter(kernel)) for one in pixels]
    return np.stack(found).reshape(pixels.shape)


def board(pixels, period):
    """Add a wave of so many pixels, across and along."""
    y, x = np.indices((SIZE, SIZE))
    wave = 12 * np.cos(2 * np.pi * (x + y) / period)
    return np.clip(pixels + wave[None, ..., None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("period", "at"), [(2, (0.5, 0.5)), (4, (0.25, 0.25))])
def test_a_checkerboard_is_a_peak_at_its_own_place(period, at):
    real = spectra.measure(noise(0))
    size, place = spectra.peak(spectra.measure(board(noise(1), period)).power, real.power)
    assert place == at and size > 5
    size, _ = spectra.peak(spectra.measure(noise(1)).power, real.power)
    assert size < 2


def test_a_peak_at_one_side_of_the_half_spectrum_is_measured_by_both():
    pixels = noise(1)
    pixels[:, :, ::4] = np.minimum(pixels[:, :, ::4] + 25, 255)  # every fourth column
    found = spectra.peak(spectra.measure(pixels).power, spectra.measure(noise(0)).power)
    assert found[1] in ((0, 0.25), (0, 0.5)) and found[0] > 5


def test_softness_is_little_fine_luma_and_no_peak():
    real, blurred = spectra.measure(noise(0)), spectra.measure(soft(noise(1)))
    assert spectra.fine(blurred.power, real.power) < 0.5
    assert spectra.fine(spectra.measure(noise(1)).power, real.power) == pytest.approx(1, abs=0.1)
    assert spectra.peak(blurred.power, real.power)[0] < 2


def test_what_differs_in_chroma_alone_is_told_by_chroma_alone():
    real, changed = noise(0, 3), []
    for one in noise(1, 3):
        y, cb, cr = Image.fromarray(one).convert("YCbCr").split()
        small = [c.resize((SIZE // 2, SIZE // 2), Image.Resampling.BOX) for c in (cb, cr)]
        halved = [c.resize((SIZE, SIZE), Image.Resampling.BILINEAR) for c in small]
        changed.append(np.asarray(Image.merge("YCbCr", (y, *halved)).convert("RGB")))
    sides = spectra.measure(real).features, spectra.measure(np.stack(changed)).features
    assert spectra.told_apart(*sides, spectra.PLANES["chroma"], 0) > 0.95
    same = spectra.measure(real[::2]).features, spectra.measure(real[1::2]).features
    assert spectra.told_apart(*same, spectra.PLANES["chroma"], 0) < 0.75
    grey = spectra.measure(noise(0)).features
    assert np.isnan(spectra.told_apart(grey, grey, spectra.PLANES["chroma"], 0))


def test_the_table_has_a_row_for_each_generator_and_pair_of_collections(
    small_profile, monkeypatch, capsys
):
    params, folder = small_profile()
    monkeypatch.chdir(folder.parents[1])
    monkeypatch.setattr(spectra, "load_params", lambda: params)
    spectra.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("|  | AUC | luma alone")
    names = [line.split("`")[1] for line in lines[2:]]
    assert names == [*params.generators]
    # The fakes of `small_profile` carry a checkerboard.
    assert all(line.endswith("| 0.5, 0.5 |") for line in lines[2:])


def test_as_trained_it_sees_the_treatment_of_a_method(small_profile, monkeypatch, capsys):
    params, folder = small_profile()
    always = Treatment(share=1, variants=1, soft_photographs=1.0)
    method = DeepFD(method="deepfd", steps=1, treatment=always)
    params = params.model_copy(update={"methods": params.methods | {"deepfd": method}})
    monkeypatch.chdir(folder.parents[1])
    monkeypatch.setattr(spectra, "load_params", lambda: params)
    spectra.main([])
    raw = capsys.readouterr().out
    spectra.main(["--as-trained", "deepfd"])
    trained = capsys.readouterr().out
    # All photographs are soft, of fakes a part: those have more fine structure than before.
    fine = [[float(line.split("|")[5]) for line in out.splitlines()[2:]] for out in (raw, trained)]
    assert all(after > 1.5 * before for before, after in zip(*fine, strict=True))

    frame = manifest.read(spectra.MANIFESTS / sources(params)[params.train_collections[0]])
    pixels = np.stack(list(manifest.pixels(frame)))
    never = always.model_copy(update={"share": 0.0})
    assert np.array_equal(spectra.met(frame, pixels, never, params, 0), pixels)
    changed = spectra.met(frame, pixels, always, params, 0)
    assert all((one != other).any() for one, other in zip(changed, pixels, strict=True))

    for name in ("none-such", "spectrum"):
        with pytest.raises(SystemExit):
            spectra.main(["--as-trained", name])
        assert f"method '{name}' is no entry of `methods` with a treatment" in (
            capsys.readouterr().err
        )
