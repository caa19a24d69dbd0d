"""D1 laid out by OpenVINO says what PyTorch's says, of any picture in any company."""

import numpy as np
import pytest
import torch

from deepfd import data, on_cpu
from deepfd.bodies import Residual
from deepfd.detector import Detector, Network

SHAPES = [(1, [24], 1, 64), (3, [8, 32, 64], 1, 64), (3, [4, 8], 4, 50), (1, [16, 32], 1, 96)]


def trained(channels, widths, stride, side):
    """A detector whose batch norms have seen pictures."""
    body = {"kind": "residual", "widths": widths, "stride": stride}
    network = Network(channels, side, front="highpass", body=body, feature="unit", seed=0)
    for _ in range(3):
        network(data.to_input(data.to_tensor(pixels(8, channels, side), torch.device("cpu"))))
    return Detector(network)


def pixels(count, channels, side, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels, widths, stride, side", SHAPES)
def test_its_maps_are_those_of_pytorch(channels, widths, stride, side):
    detector = trained(channels, widths, stride, side)
    shown = pixels(7, channels, side, seed=1)
    x = data.to_input(data.to_tensor(shown, detector.device))
    with torch.inference_mode():
        expected = detector.network.d1.maps(x)
        torch.testing.assert_close(detector.maps(x), expected, rtol=1e-4, atol=1e-4)
        logits = detector.network(x)[0].double()
    scores = torch.softmax(logits, dim=1)[:, 1].numpy()
    np.testing.assert_allclose(detector.score(shown), scores, atol=1e-5)
    if detector.device.type == "cpu":
        assert detector._body is not None


def test_a_picture_has_the_same_bits_alone_in_company_and_on_any_number_of_threads():
    shown, found, threads = pixels(9, 3, 64), [], torch.get_num_threads()
    network = trained(3, [8, 32], 1, 64).network
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            detector = Detector(network)
            x = data.to_input(data.to_tensor(shown, torch.device("cpu")))
            body = on_cpu.residual(network.d1.body, 64)
            found.append(body(network.d1.shown(x))[0])
            alone = body(network.d1.shown(x[5:6]))[0]
            torch.testing.assert_close(alone, found[-1][5:6], rtol=0, atol=0)
            np.testing.assert_array_equal(detector.pooled(shown[5:6]), detector.pooled(shown)[5:6])
    finally:
        torch.set_num_threads(threads)
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=0, atol=0)


def test_what_it_returns_stays_when_it_is_asked_again():
    body = Residual(3, [4]).eval()
    run = on_cpu.residual(body, 16)
    first, second = torch.randn(2, 5, 3, 16, 16, generator=torch.manual_seed(0))
    (kept,) = run(first)
    before = kept.clone()
    run(second)
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(kept, body(first), rtol=1e-4, atol=1e-5)
