import torch

from deepfd.d2 import D2


def test_the_mean_of_the_evidence_is_the_difference_of_the_logits():
    d2 = D2(16).eval()
    maps = torch.randn(3, 16, 5, 5)
    logits = d2(maps)
    assert d2.maps(maps).shape == (3, 2, 5, 5)
    torch.testing.assert_close(d2.evidence(maps).mean(dim=(1, 2)), logits[:, 1] - logits[:, 0])
