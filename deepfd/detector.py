"""A trained DeepFD: the network, how it reads a picture, its file format.

A folder holds `model.safetensors` (weights) and `model.json` (what they are weights of).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from deepfd import backbone, data
from deepfd.backbone import outputs
from deepfd.bodies import initialise
from deepfd.d1 import D1, FeatureName
from deepfd.d2 import D2, HeadName
from deepfd.options import BackboneName
from pipeline import images
from pipeline.device import default_device
from pipeline.errors import UserError
from pipeline.manifest import write_atomic

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = 3
# Pictures scored at a time: on a CPU larger batches no longer lie in a core's cache; a GPU is kept
# busy by them (H200: 4.5 times as many pictures a second as by 32).
SCORE_BATCH, SCORE_BATCH_GPU = 16, 1024
# The authors' body at its full width.
PAPER = {"kind": "paper", "width": 96}

Picture = Image.Image | str | Path | np.ndarray | Tensor


class Network(nn.Module):
    """D1 and D2 on top of its maps, built from their parts.

    Args:
        channels: 1 (grey) or 3.
        size: side of the pictures in pixels.
        front: a name of `deepfd.fronts.FRONTS`.
        body: `kind`, a name of `deepfd.bodies.BODIES`, and the arguments of that class.
        feature: what the contrastive loss compares, see `deepfd.d1.D1`.
        head: a kind of D2.
        backbone: a frozen network whose maps D2 reads too, of whole pictures (`deepfd.backbone`);
            it has no part in the training on crops, nor in `forward`.
        seed: of the weights, which depend on nothing else; None leaves them as PyTorch draws them,
            for weights that are loaded.

    Attributes:
        config: the arguments it was built from, JSON values.
        beside: weights of the backbone's statistics in the log-odds of a fake, 0 until D2 is fitted
            anew (`deepfd.refit`); None without a backbone.
    """

    def __init__(
        self, channels: int, size: int, front: str = "none", body: Mapping[str, Any] = PAPER,
        feature: FeatureName = "softmax", head: HeadName = "paper", seed: int | None = None,
        backbone: BackboneName | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = {
            "channels": channels, "size": size, "front": front, "body": dict(body),
            "feature": feature, "head": head,
        }  # fmt: skip
        if backbone:
            self.config["backbone"] = backbone
        self.register_buffer("beside", None if backbone is None else torch.zeros(outputs(backbone)))
        with torch.random.fork_rng():  # no other random state is touched
            torch.manual_seed(seed or 0)
            self.d1 = D1(channels, size, front, body, feature)
            self.d2 = D2(self.d1.outputs, head)
            if seed is not None:
                initialise(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, S, S) in [-1, 1] to logits (N, 2) and features (N, 128), both float32."""
        maps, features = self.d1(x)
        return self.d2(maps), features

    @torch.no_grad()
    def boundary(self) -> tuple[np.ndarray, float]:
        """Return weights (K,) and bias of `Detector.pooled`, float64: fake minus photograph."""
        weights, bias = self.d2.boundary()
        parts = [weights] if self.beside is None else [weights, self.beside]
        return torch.cat(parts).double().cpu().numpy(), float(bias)

    @torch.no_grad()
    def set_boundary(self, weights: np.ndarray, bias: float) -> None:
        """Set weights (K,) and bias of `Detector.pooled`."""
        mine = self.d1.outputs
        self.d2.set_boundary(torch.as_tensor(weights[:mine]), torch.as_tensor(bias))
        if self.beside is not None:
            self.beside.copy_(torch.as_tensor(weights[mine:]))


def _channels_first(pixels: Tensor) -> np.ndarray:
    """Turn uint8, or float in [-1, 1], (N, C, H, W) into uint8 (N, H, W, C)."""
    array = pixels.detach().cpu().numpy()
    if array.dtype == np.uint8:
        return array.transpose(0, 2, 3, 1)
    if array.min(initial=0) < -1 or array.max(initial=0) > 1:
        raise UserError("a float tensor has values outside [-1, 1]; expected that range, or uint8")
    return images.from_unit(array)


def _as_pils(picture: Picture) -> list[Image.Image]:
    """Turn one argument of the detector into Pillow images (several for a batch).

    Raises:
        UserError: a file that is missing or no picture, or an array of another shape or type.
    """
    if isinstance(picture, Image.Image):
        return [picture]
    if isinstance(picture, str | Path):
        try:
            content = Path(picture).read_bytes()
        except OSError as error:
            raise UserError(f"{picture}: {error.strerror or error}; expected a picture") from None
        try:
            return [images.open_image(content)]
        except UserError as error:
            raise UserError(f"{picture}: {error}") from None
    if isinstance(picture, Tensor):
        if picture.ndim not in (3, 4):
            raise UserError(f"a tensor of shape {tuple(picture.shape)}; expected (N,) C, H, W")
        picture = _channels_first(picture if picture.ndim == 4 else picture[None])
    elif picture.ndim == 2:
        picture = picture[None, ..., None]
    elif picture.ndim == 3:
        picture = picture[None]
    if picture.dtype != np.uint8 or picture.ndim != 4 or picture.shape[-1] not in (1, 3):
        raise UserError(
            f"an array of {picture.dtype} and shape {picture.shape}; expected uint8 "
            "(N, H, W, 1 or 3), (H, W, 1 or 3) or (H, W), or a tensor (N, 1 or 3, H, W)"
        )
    return [images.to_pil(one) for one in picture]


class Detector:
    """A network that scores pictures, in fp32: P(fake) in [0, 1].

    Attributes:
        network: D1 and D2, in evaluation mode.
        about: what is known of the training (JSON values), saved with the weights.
        crop: how `to_pixels` crops a picture of another shape; the rule the training faces had.
        finish: the last step of `to_pixels`, the one that the training images had; None for none.
    """

    def __init__(
        self,
        network: Network,
        about: dict[str, Any] | None = None,
        crop: images.Crop = "center",
        finish: images.Jpeg | None = None,
    ) -> None:
        self.device = default_device()
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.about = about or {}
        self.crop = crop
        self.finish = finish

    @property
    def size(self) -> int:
        """Side of the pictures the network reads, in pixels."""
        return self.network.config["size"]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.network.config["channels"]

    @property
    def batch(self) -> int:
        """How many pictures are scored at a time."""
        return SCORE_BATCH if self.device.type == "cpu" else SCORE_BATCH_GPU

    def _batches(self, pixels: np.ndarray) -> Iterable[Tensor]:
        """Yield the inputs of the network for uint8 (N, size, size, C), some at a time."""
        expected = (self.size, self.size, self.channels)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
            raise UserError(
                f"pixels are {pixels.dtype} {pixels.shape}; this detector expects uint8 (N, "
                f"{', '.join(map(str, expected))}): fit it again for this size and colour"
            )
        for start in range(0, len(pixels), self.batch):
            yield data.to_input(data.to_tensor(pixels[start : start + self.batch], self.device))

    @property
    def backbone(self) -> BackboneName | None:
        """The frozen network that has a part in the scores, None without one."""
        weights = self.network.beside
        return None if weights is None or not weights.any() else self.network.config["backbone"]

    def statistics(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the backbone says of uint8 pixels, float32 (N, K); K is 0 without one."""
        name = self.network.config.get("backbone")
        if name is None:
            return np.empty((len(pixels), 0), np.float32)
        return backbone.statistics(name, pixels, self.device)

    def scores(self, logits: Tensor, statistics: np.ndarray | None) -> np.ndarray:
        """Return P(fake), float64 (N,).

        Args:
            logits: D2's of N pictures, (N, 2).
            statistics: what the backbone says of these, (N, K); None where it has no part.
        """
        logits = logits.double().cpu()
        if statistics is not None:
            weights = self.network.beside.double().cpu().numpy()
            logits[:, 1] += torch.from_numpy(statistics.astype(np.float64) @ weights)
        return torch.softmax(logits, dim=1)[:, 1].numpy()

    @torch.inference_mode()
    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Return P(fake), float64 (N,) in [0, 1], of uint8 (N, size, size, C)."""
        network = self.network
        logits = [network.d2(network.d1.maps(x)) for x in self._batches(pixels)]
        if not logits:
            return np.empty(0)
        return self.scores(torch.cat(logits), self.statistics(pixels) if self.backbone else None)

    @torch.inference_mode()
    def evidence(self, pixels: np.ndarray) -> np.ndarray:
        """Return D2's map before pooling, fake minus photograph, float32 (N, S, S).

        Its mean over all places is the logit of P(fake): above 0 speaks for a fake.
        """
        name, network, places = self.backbone, self.network, None
        maps = [np.empty((0, 1, 1), np.float32)] if not len(pixels) else []
        for start, x in zip(count(step=self.batch), self._batches(pixels), strict=False):
            if name is not None:
                part, weights = pixels[start : start + self.batch], network.beside[None]
                places = backbone.look(name, part, weights, self.size, self.device).places[:, 0]
            maps.append(self.evidence_of(network.d1.maps(x), places).cpu().numpy())
        return np.concatenate(maps)

    def evidence_of(self, maps: Tensor, places: Tensor | None) -> Tensor:
        """Return `evidence` of D1's maps of N pictures.

        Args:
            maps: as D1 returns them.
            places: what each place of the pictures adds by the backbone, (N, size, size); None
                where it has no part.
        """
        evidence = self.network.d2.evidence(maps)
        if places is None:
            return evidence
        return evidence + F.adaptive_avg_pool2d(places, evidence.shape[-1])

    @torch.inference_mode()
    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the contrastive loss compares, float32 (N, 128), of uint8 pixels."""
        d1 = self.network.d1
        found = [np.empty((0, d1.head.out_features), np.float32)]
        for x in self._batches(pixels):
            found.append(d1.features(d1.maps(x)).cpu().numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def pooled(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the log-odds of a fake are linear in, float32 (N, K), of uint8 pixels.

        The means of what D2 reads of D1's maps, then the backbone's statistics.
        """
        network = self.network
        found = [np.empty((0, network.d1.outputs), np.float32)]
        for x in self._batches(pixels):
            found.append(network.d2.pooled(network.d1.maps(x)).cpu().numpy())
        return np.concatenate([np.concatenate(found), self.statistics(pixels)], axis=1)

    @staticmethod
    def open(picture: Picture) -> Image.Image:
        """Return one picture as a Pillow image, whatever it came as.

        Raises:
            UserError: a missing or broken file, or an array of another shape, type or range.
        """
        pils = _as_pils(picture)
        if len(pils) != 1:
            raise UserError(f"a batch of {len(pils)} pictures; expected one")
        return pils[0]

    def to_pixels(self, pictures: Picture | Sequence[Picture]) -> np.ndarray:
        """Bring pictures to uint8 (N, size, size, C) by the one way to pixels.

        Args:
            pictures: one or a list of: Pillow image, path of a picture, uint8 array (H, W),
                (H, W, C) or (N, H, W, C), tensor (C, H, W) or (N, C, H, W) of uint8 or of floats in
                [-1, 1].

        Raises:
            UserError: a missing or broken file, or an array of another shape, type or range.
        """
        several = isinstance(pictures, Sequence) and not isinstance(pictures, str)
        pils = [pil for one in (pictures if several else [pictures]) for pil in _as_pils(one)]
        if not pils:
            return np.empty((0, self.size, self.size, self.channels), np.uint8)
        return np.stack(
            [
                images.to_pixels(pil, self.size, self.channels, self.crop, self.finish)
                for pil in pils
            ]
        )

    def __call__(self, pictures: Picture | Sequence[Picture]) -> np.ndarray:
        """Return P(fake), float64 (N,), of anything `to_pixels` takes; N is 1 for one picture."""
        return self.score(self.to_pixels(pictures))

    def save(self, folder: Path) -> None:
        """Write weights and card into `folder`, each file whole or not at all."""
        state = {name: one.cpu().contiguous() for name, one in self.network.state_dict().items()}
        crop = self.crop if isinstance(self.crop, str) else list(self.crop)
        card = {
            "format": FORMAT, "network": self.network.config, "crop": crop,
            "finish": self.finish and asdict(self.finish), "about": self.about,
        }  # fmt: skip
        write_atomic(folder / WEIGHTS, save(state))
        write_atomic(folder / CARD, (json.dumps(card, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: a file is missing, damaged or of another format.
        """
        folder = Path(folder)
        for name in (CARD, WEIGHTS):
            if not (folder / name).is_file():
                raise UserError(
                    f"{folder / name} not found; expected the folder of a fitted detector "
                    "(models/<method>/<held_out>/<seed>, written by dvc repro)"
                )
        try:
            card = json.loads((folder / CARD).read_text())
            if card["format"] != FORMAT:
                raise UserError(
                    f"{folder / CARD} has format {card['format']}, this code reads {FORMAT}; fit "
                    "the detector again"
                )
            network = Network(**card["network"])
            network.load_state_dict(load_file(folder / WEIGHTS))
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{folder} holds no detector that can be read ({type(error).__name__}: "
                f"{str(error)[:200]}); fit it again"
            ) from None
        finish = card.get("finish")
        if finish:  # JSON has lists; a card of before has no grid
            finish = images.Jpeg(**finish | {"grid": tuple(finish.get("grid", (0, 0)))})
        return cls(network, card["about"], card["crop"], finish)
