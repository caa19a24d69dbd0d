"""A frozen network that knows photographs of everything, for what residuals no longer say.

A soft fake has next to no residual. Its shapes and surfaces are still unlike a photograph's, and
what a network reads of them that was trained to name things in photographs, never to tell fakes,
carries over to generators not seen (Ojha, Li and Lee 2023, arXiv 2302.10174). D2 reads the mean and
the spread of such maps over all places, beside the means of D1's: of the picture as it is and of it
enlarged, since the network was trained on pictures of 224 pixels. Enlarged, its earlier stages say
more than sharpness and are read, too, and so are the means of what each stage's last projection
throws five sixths of away. A second network, trained alike, errs otherwise; of it the same is read
of the picture enlarged (docs/research.md, 6).

The networks are EfficientNet-Lite0 and -Lite1 (`deepfd.efficientnet`), which OpenVINO runs on a CPU
(`deepfd.on_cpu`) and PyTorch on a GPU.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfd import data, on_cpu
from deepfd.efficientnet import EXPANSION, EfficientNet
from deepfd.options import BackboneName
from pipeline.cache import Features, cached_per_image
from pipeline.cores import has_gpu
from pipeline.forked import split


class Reading(NamedTuple):
    """One reading of a picture.

    Attributes:
        network: of `deepfd.efficientnet.NETWORKS`, which.
        enlarged: how many times it is enlarged first.
        stages: channels of the stages whose maps are read, mean and spread. Those after 112 measure
            what is seen: another collection's framing among it.
        inside: channels of the stages of which the maps before the last projection, `EXPANSION`
            times as many and none below 0, are read, the mean alone.
    """

    network: int
    enlarged: int
    stages: tuple[int, ...]
    inside: tuple[int, ...] = ()

    @property
    def maps(self) -> tuple[tuple[int, bool], ...]:
        """Channels of each map that is read, in order, and whether its spread is, too."""
        return (
            *((channels, True) for channels in self.stages),
            *((EXPANSION * channels, False) for channels in self.inside),
        )


STAGES = (24, 40, 80, 112)
_OF_LITE0 = (Reading(0, 1, (80, 112)), Reading(0, 3, STAGES, STAGES))
READINGS: dict[BackboneName, tuple[Reading, ...]] = {
    "efficientnet_lite0": _OF_LITE0,
    "efficientnet_lite": (*_OF_LITE0, Reading(1, 3, STAGES, STAGES)),
}
# Its pictures are (p - 127) / 128 of uint8.
CENTRE, SCALE = 127.0, 128.0
# Pictures at a time.
BATCH, BATCH_GPU = 16, 512
# From so many pictures on they are read by a process for each core.
MANY = 256

# Maps of N pictures, float32 (N, channels, s, s) each, as `layout` has them.
Maps = tuple[Tensor, ...]


def layout(name: BackboneName) -> tuple[tuple[int, bool], ...]:
    """Channels of each map of all readings, in order, and whether its spread is read, too."""
    return tuple(one for reading in READINGS[name] for one in reading.maps)


def outputs(name: BackboneName) -> int:
    """How many numbers are read of a picture."""
    return sum(channels * (1 + spread) for channels, spread in layout(name))


def spreads(name: BackboneName) -> np.ndarray:
    """Return the spread that each number is given before D2 is fitted on it, float64 (K,).

    Of maps before a projection there are six times as many; their means together are to weigh as
    much as those of the maps after it.
    """
    return np.concatenate(
        [
            np.full(channels * (1 + spread), 1.0 if spread else EXPANSION**-0.5)
            for channels, spread in layout(name)
        ]
    )


class Backbone(nn.Module):
    """The networks of some readings, for whatever device they are on.

    Args:
        name: of the readings.

    Raises:
        UserError: the weights of a network are missing or not those that are expected.
    """

    def __init__(self, name: BackboneName) -> None:
        super().__init__()
        self.readings = READINGS[name]
        numbers = sorted({one.network for one in self.readings})
        self.networks = nn.ModuleDict({str(number): EfficientNet(number) for number in numbers})
        self.to(memory_format=torch.channels_last)
        # By number of a reading, side of a picture, and whether its statistics are asked for.
        self._compiled: dict[tuple[int, int, bool], on_cpu.Compiled] = {}

    def forward(self, x: Tensor) -> Maps:
        """Map (N, 1 or 3, S, S) in [-1, 1] to the maps of all its readings."""
        return tuple(one for maps in self._read(x, statistics=False) for one in maps)

    def statistics(self, x: Tensor) -> Tensor:
        """Map the same to its statistics, float32 (N, K); on a CPU no map leaves the network."""
        return torch.cat([one for part in self._read(x, statistics=True) for one in part], dim=1)

    def _read(self, x: Tensor, statistics: bool) -> list[Maps]:
        """Return of each reading its maps, or their statistics, one (N, K)."""
        of_size = {enlarged: shown(x, enlarged) for enlarged in {one[1] for one in self.readings}}
        found = []
        for number, reading in enumerate(self.readings):
            pictures = of_size[reading.enlarged]
            if not x.is_cuda:
                found.append(self._by_cpu(number, pictures, statistics))
                continue
            blocks = self.networks[str(reading.network)](pictures)
            maps = tuple(_read_of(reading, blocks))
            found.append((_statistics(maps, reading.maps),) if statistics else maps)
        return found

    def _by_cpu(self, number: int, pictures: Tensor, statistics: bool) -> Maps:
        key = number, pictures.shape[-1], statistics
        if key not in self._compiled:
            reading = self.readings[number]
            self._compiled[key] = on_cpu.efficientnet(
                self.networks[str(reading.network)],
                pictures.shape[-1],
                partial(_asked_of, reading, statistics),
            )
        return self._compiled[key](pictures)


def shown(x: Tensor, enlarged: int) -> Tensor:
    """Map (N, 1 or 3, S, S) in [-1, 1] to what a network is shown, (N, 3, S', S')."""
    x = x.float()
    if enlarged > 1:
        # Bicubic, by a product for each direction: 15 times as fast as `interpolate`.
        lines = _enlarging(x.shape[-1], enlarged).to(x.device)
        x = (lines @ x @ lines.T).clamp(-1, 1)
    x = ((x + 1) * 127.5 - CENTRE) / SCALE
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@cache
def _enlarging(side: int, times: int) -> Tensor:
    """Return the matrix that enlarges a line, float32 (times * side, side)."""
    lines, size = torch.eye(side)[None, None], (times * side, side)
    return F.interpolate(lines, size, mode="bicubic", antialias=True)[0, 0]


def _read_of(reading: Reading, blocks: list[tuple[Any, Any]]) -> list[Any]:
    """Choose what is read of what a network's blocks return: its maps, in the order of `maps`."""
    stages, inside = {}, {}
    for after, before in blocks:
        channels = after.shape[1]
        stages[channels], inside[channels] = after, before  # the last of its stage stays
    return [*(stages[one] for one in reading.stages), *(inside[one] for one in reading.inside)]


def _asked_of(reading: Reading, statistics: bool, blocks: list[tuple[Any, Any]]) -> list[Any]:
    """Lay out what a network on a CPU is to return: its maps, or `_statistics` of them."""
    maps = _read_of(reading, blocks)
    if not statistics:
        return maps
    parts = []
    for one, (_, spread) in zip(maps, reading.maps, strict=True):
        parts += [on_cpu.mean(one), *([on_cpu.spread(one)] if spread else [])]
    return [on_cpu.beside(parts)]


def _statistics(maps: Maps, of: tuple[tuple[int, bool], ...]) -> Tensor:
    """Map some maps to the mean of every channel, then the spread of each where it is read."""
    parts = []
    for one, (_, spread) in zip(maps, of, strict=True):
        if spread:
            variance, mean = torch.var_mean(one, (2, 3), correction=0)
            parts += [mean, variance.sqrt()]
        else:
            parts.append(one.mean((2, 3)))
    return torch.cat(parts, dim=1)


def _places(maps: Tensor, weights: Tensor, side: int) -> Tensor:
    """Say of each place what it adds to `_statistics` @ weights (W, K): (N, W, side, side)."""
    channels = maps.shape[1]
    of_mean, of_spread = weights[:, :channels], weights[:, channels:]
    places = torch.einsum("nchw,kc->nkhw", maps, of_mean)
    if of_spread.shape[1]:
        variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
        spread = (maps - mean).square() / variance.sqrt().clamp_min(1e-12)
        places = places + torch.einsum("nchw,kc->nkhw", spread, of_spread)
    large = F.interpolate(places, (side, side), mode="bilinear")
    # Enlarged, a map keeps its mean only nearly.
    return large + places.mean((2, 3), keepdim=True) - large.mean((2, 3), keepdim=True)


@cache
def load(name: BackboneName, device: torch.device) -> Backbone:
    """Return the networks on a device; one copy for all that ask in this process."""
    return Backbone(name).to(device)


class Seen(NamedTuple):
    """What is read of N pictures, and what each place has a part in it.

    Attributes:
        statistics: float32 (N, `outputs`), as the function `statistics` returns them.
        places: float32 (N, W, side, side), what a place adds to `statistics` @ weights, for each of
            W. The mean over all places is that sum: a mean is one of places already, and a spread
            is the mean of (value - mean)^2 / spread.
    """

    statistics: Tensor
    places: Tensor


@torch.inference_mode()
def look(
    name: BackboneName, pixels: np.ndarray, weights: Tensor, side: int, device: torch.device
) -> Seen:
    """Read uint8 (N, S, S, 1 or 3), N at least 1, and say where, on `device`.

    Args:
        name: of the readings.
        pixels: the pictures.
        weights: (W, `outputs`), of the statistics in as many log-odds of a fake.
        side: of the places.
        device: where the networks are.
    """
    network, of = load(name, device), layout(name)
    each = weights.float().split([channels * (1 + spread) for channels, spread in of], dim=1)
    size = on_cpu.BATCH if device.type == "cpu" else BATCH_GPU
    found = []
    for start in range(0, len(pixels), size):
        maps = network(data.to_input(data.to_tensor(pixels[start : start + size], device)))
        places = [_places(one, part, side) for one, part in zip(maps, each, strict=True)]
        found.append((_statistics(maps, of), torch.stack(places).sum(0)))
    return Seen(*(torch.cat(parts) for parts in zip(*found, strict=True)))


@torch.inference_mode()
def _read(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Read pictures; the arithmetic of one is the same whichever are read with it."""
    network = load(name, device)
    size = BATCH if device.type == "cpu" else BATCH_GPU
    rows = [np.empty((0, outputs(name)), np.float32)]
    for start in range(0, len(pixels), size):
        # On a GPU a last batch is filled up; on a CPU `Backbone` does that, with less.
        stop = min(start + size, len(pixels)) if device.type == "cpu" else start + size
        places = np.arange(start, stop) % len(pixels)
        found = network.statistics(data.to_input(data.to_tensor(pixels[places], device)))
        rows.append(found[: len(pixels) - start].cpu().numpy())
    return np.concatenate(rows)


def _read_by_all(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Read pictures, many by a process for each core: that is faster than to share out each."""
    load(name, device)  # once, for all processes
    rows = np.empty((0, outputs(name)), np.float32)
    parts = split(lambda start, stop: _read(name, pixels[start:stop], device), len(pixels), MANY)
    return np.concatenate([rows, *parts])


_keeping = False  # whether what is read of a picture is kept (`keep`)


@cache
def _keeper(name: BackboneName, device: torch.device) -> Features:
    return cached_per_image(partial(_read_by_all, name, device=device))


def statistics(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Return what is read of uint8 (N, S, S, 1 or 3), float32 (N, `outputs`).

    Of each map the mean of every channel over all places, then the spread of each where it is read.
    """
    return _keeper(name, device)(pixels) if _keeping else _read(name, pixels, device)


def keep() -> None:
    """Keep what is read of a picture from now on: it is the same in every fold and seed."""
    global _keeping
    _keeping = True


def ahead(name: BackboneName, *several: np.ndarray) -> None:
    """Read pictures before fits are forked, and keep what is read.

    Where there is a GPU they are read when they are needed: a process that has used one cannot be
    forked. So it is not asked for either.

    Args:
        name: the network.
        several: pictures of one shape, uint8 (N, S, S, 1 or 3) each.
    """
    keep()
    if not has_gpu():
        statistics(name, np.concatenate(several), torch.device("cpu"))
