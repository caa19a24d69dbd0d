import pytest
import torch

from deepfd.d2 import D2

pytestmark = pytest.mark.numbers


@pytest.mark.parametrize("head", ["paper", "linear"])
def test_the_mean_of_the_evidence_is_the_difference_of_the_logits(head):
    d2 = D2(16, head).eval()
    maps = torch.randn(3, 16, 5, 5)
    logits = d2(maps)
    torch.testing.assert_close(d2.evidence(maps).mean(dim=(1, 2)), logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("head", ["paper", "linear"])
def test_all_of_it_is_computed_in_fp32_whatever_the_maps(head):
    d2, maps = D2(16, head).eval(), torch.randn(3, 16, 5, 5).bfloat16()
    expected = d2(maps.float()), d2.evidence(maps.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = d2(maps), d2.evidence(maps)
    for one, other in zip(expected, found, strict=True):
        assert other.dtype == torch.float32
        assert torch.equal(one, other)
