"""PPCA: Tipping and Bishop 1999, "Probabilistic Principal Component Analysis" (JRSS B 61, 611-622).

A face is the mean face and a sum of principal components, the eigenfaces of Turk and Pentland 1991,
by weights of N(0, 1). No network and nothing of one in its pixels: no convolution, no enlargement.
Its faces are soft, since what few components cannot say is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from sklearn.decomposition import IncrementalPCA
from torch import nn

from generators.training.averaged import SIDE, LatentTrainer
from generators.training.differences import Paper
from pipeline.errors import UserError

# What of scikit-learn's fit is carried from one batch to the next.
CARRIED = ("components_", "singular_values_", "explained_variance_", "mean_", "var_")


class Generator(nn.Module):
    """As many latents as components -> 64x64, in one linear map."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.latent = width
        self.shape = (channels, SIDE, SIDE)
        self.linear = nn.Linear(width, channels * SIDE * SIDE)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latents (N, width) to images (N, C, 64, 64), of which a little may leave [-1, 1]."""
        return self.linear(z).view(-1, *self.shape)


class PpcaTrainer(LatentTrainer):
    """Mean, components and their variances; `step` brings them up to date with a batch.

    Raises:
        UserError: photographs of another size than 64 px, or fewer in a batch than components.
    """

    def __init__(
        self, options: Mapping[str, Any], channels: int, size: int, seed: int, device: torch.device
    ) -> None:
        super().__init__(Generator, options, channels, size, seed, device)
        self.fit = IncrementalPCA(self.config["width"])
        if self.batch < self.fit.n_components:
            raise UserError(
                f"a batch of {self.batch} has fewer photographs than there are components "
                f"({self.fit.n_components}); make `batch` larger or `width` smaller"
            )

    def step(self, draw: Callable[[], torch.Tensor], number: int, done: float) -> dict[str, float]:
        """Fit a batch of photographs more: see `Trainer.step`."""
        del number, done
        self.fit.partial_fit(draw().flatten(1).double().numpy())
        return {"noise": self.noise()}

    def noise(self) -> float:
        """Return the variance of a pixel that the components leave out (eq. 8)."""
        left = self.fit.var_.sum() - self.fit.explained_variance_.sum()
        return float(left / (self.fit.var_.size - self.fit.n_components))

    def state(self) -> dict[str, Any]:
        """Return what `fit` carries and how many photographs it has seen."""
        carried = {name: torch.as_tensor(getattr(self.fit, name)) for name in CARRIED}
        return carried | {"seen": int(self.fit.n_samples_seen_)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved `state`."""
        for name in CARRIED:
            setattr(self.fit, name, state[name].cpu().double().numpy())
        self.fit.n_samples_seen_ = int(state["seen"])

    @torch.no_grad()
    def finished(self, done: float = 1.0) -> Generator:
        """Return the generator of the components so far, of largest likelihood (eq. 7)."""
        del done
        model = Generator(**self.config).requires_grad_(False)
        scale = (self.fit.explained_variance_ - self.noise()).clip(0) ** 0.5
        model.linear.weight.copy_(torch.as_tensor(self.fit.components_.T * scale))
        model.linear.bias.copy_(torch.as_tensor(self.fit.mean_))
        return model.to(self.device).eval()


PAPER = Paper(
    "Tipping and Bishop 1999 (JRSS B 61, 611-622)",
    (
        "the mean of a face is drawn, not the face: without the noise of the model",
        "fitted a batch at a time (Ross et al. 2008; the paper: all at once, or by EM)",
    ),
    values={},
    defaults={},
    average=None,
    augmented=False,
    batch_norm=False,
)
RECIPE = PpcaTrainer
