"""`deepfd_pairs`: our own detector, which learns the making rather than the collection.

What a network learns from photographs of one collection and fakes made after it is as much the
collection (crop, blur, JPEG) as the making; it then calls the photographs of another collection
fake. Against that, after AutoGAN (Zhang et al. 2019, arXiv 1907.06515) and B-Free (Guillaro et al.
2025, arXiv 2412.17671):

- half of the fakes of a batch are *reconstructions* of the batch's own photographs by small
  auto-encoders (fitted first, on the train photographs alone) that enlarge in different ways and by
  different factors: same content, same framing, another making;
- the two of a pair are then treated alike: the same flip, JPEG, blur, resizing, noise, sharpening
  and gamma, drawn anew for each pair, so that none of it tells the classes apart;
- the network reads residuals of luma and chroma (`deepfd_residual`), which hold little content, and
  keeps the full resolution until they are read: D1's stem of stride 4 blurs what is looked for.

D1, D2 and the losses are otherwise DeepFD's: D2's map, here 16 x 16 for 64-pixel pictures, says
where.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.methods.deepfd import DeepFD
from benchmarks.methods.deepfd_residual import NEIGHBOURS, planes, residuals
from benchmarks.perturb import Change, blurred, coded, noisy, resized
from deepfd import data, parallel
from deepfd.d1 import FEATURES
from deepfd.d2 import D2
from deepfd.detector import Network, default_device
from deepfd.train import BatchPairs
from pipeline import precision
from pipeline.folds import Images
from pipeline.images import to_pil
from pipeline.params import DeepFDPairs as Options
from pipeline.seeds import seed_for

# The ways an auto-encoder may enlarge by 2, each tried with one and with two halvings.
UPSAMPLERS = ("nearest", "bilinear", "transposed", "sub-pixel")
DEPTHS = (1, 2)
# What is read of a picture in colour; of a grey one, Y.
COMPONENTS = ("Y", "Cb", "Cr")


class Upsample(nn.Module):
    """Enlarge by 2 and convolve, in one of `UPSAMPLERS`' ways."""

    def __init__(self, way: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.way = way
        if way == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
        elif way == "sub-pixel":
            self.conv = nn.Sequential(
                nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2)
            )
        else:
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, 2 H, 2 W)."""
        if self.way in ("nearest", "bilinear"):
            x = F.interpolate(x, scale_factor=2, mode=self.way)
        return self.conv(x)


class AutoEncoder(nn.Sequential):
    """`depth` halvings by strided convolutions, and as many doublings."""

    def __init__(self, channels: int, way: str, depth: int, width: int = 8) -> None:
        widths = [width * 2**level for level in range(depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.SiLU()]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.SiLU()]
        for before, after in itertools.pairwise(reversed(widths)):
            layers += [Upsample(way, before, after), nn.SiLU()]
        super().__init__(*layers, nn.Conv2d(width, channels, 3, padding=1))


def reconstructions(photographs: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """Fit one auto-encoder per way and depth, and reconstruct each photograph by each.

    Args:
        photographs: uint8 (N, S, S, C), of the train split alone; S a multiple of 4.
        steps: training steps of each, on 32 photographs, mean absolute error.
        seed: of weights and batches.

    Returns:
        uint8 (A, N, S, S, C), A = 8 auto-encoders.
    """
    device = default_device()
    source = data.to_tensor(photographs, device)
    found = []
    kinds = list(itertools.product(UPSAMPLERS, DEPTHS))
    for way, depth in tqdm(kinds, desc="auto-encoders", unit="network"):
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(seed, "auto-encoder", way, depth))
            network = AutoEncoder(source.shape[1], way, depth)
        network = network.to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        stream = data.generator(seed_for(seed, "auto-encoder batches", way, depth))
        for _ in range(steps):
            picked = torch.randint(len(source), (32,), generator=stream).to(device)
            x = data.to_input(source[picked])
            with precision.autocast(device):
                loss = (network(x).float() - x).abs().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.inference_mode():
            parts = [network(data.to_input(part)) for part in source.split(256)]
        grey = ((torch.cat(parts).float().clamp(-1, 1) + 1) * 127.5).round().byte()
        found.append(grey.permute(0, 2, 3, 1).cpu().numpy())
    return np.stack(found)


def gamma(picture: Image.Image, draw: np.random.Generator, power: float) -> Image.Image:
    """Raise every value, as a share of 255, to `power`."""
    table = np.rint(255 * (np.arange(256) / 255) ** power).astype(np.uint8).tolist()
    return picture.point(table * len(picture.getbands()))


def sharpened(picture: Image.Image, draw: np.random.Generator, percent: int) -> Image.Image:
    """Add `percent` of the difference from the picture blurred with a radius of 1 pixel."""
    return picture.filter(ImageFilter.UnsharpMask(1, percent, 0))


def treatment(draw: np.random.Generator) -> list[Change]:
    """Draw what happens to a picture, and to its pair, after its making.

    A third of the pictures stay as they are; the others meet each change with probability 0.4, in
    this order, as a picture's way through a camera's or a network's software might be.
    """
    if draw.random() < 1 / 3:
        return []
    quality, subsampling = int(draw.integers(50, 97)), 2 * int(draw.integers(2))
    changes = [
        partial(gamma, power=draw.uniform(0.7, 1.4)),
        partial(resized, factor=draw.uniform(0.6, 1.0)),
        partial(blurred, sigma=draw.uniform(0.2, 1.0)),
        partial(sharpened, percent=int(draw.integers(20, 150))),
        partial(noisy, sigma=draw.uniform(0.5, 6.0)),
        partial(coded, kind="JPEG", quality=quality, subsampling=subsampling),
    ]
    met = draw.random(len(changes)) < 0.4
    return [change for change, one in zip(changes, met, strict=True) if one]


def treat(pixels: np.ndarray, changes: Sequence[Change], seed: int) -> np.ndarray:
    """Lay `changes` on one picture, uint8 (S, S, C); `seed` is that of the noise."""
    picture, draw = to_pil(pixels), np.random.default_rng(seed)
    for change in changes:
        picture = change(picture, draw)
    return np.asarray(picture, dtype=np.uint8).reshape(pixels.shape)


class Pairs(BatchPairs):
    """Batches of photographs, reconstructions of the same, and fakes.

    Of a batch, half are photographs, a quarter their reconstructions (each by an auto-encoder drawn
    at random) and a quarter fakes of the training generators, mixed evenly. Photograph i and the
    fake at place i of the other half are treated alike.
    """

    def __init__(self, train: Images, options: Options, seed: int, device: torch.device) -> None:
        photographs = np.flatnonzero(train.labels == 0)
        self.place = {position: place for place, position in enumerate(photographs.tolist())}
        self.rebuilt = reconstructions(
            train.pixels[photographs], options.encoder_steps, seed_for(seed, "reconstructions")
        )
        super().__init__(train, options, seed, device)

    def draws(
        self, train: Images, options: Options, seed: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for ever this process's inputs (N / processes, C, S, S) and all labels (N,)."""
        positions = data.balanced_batches(train, options.batch, seed_for(seed, "batches"))
        for step, batch in enumerate(positions):
            draw = np.random.default_rng(seed_for(seed, "treatment", step))
            is_fake = train.labels[batch] == 1
            reals, fakes = batch[~is_fake], train.pixels[batch[is_fake]]
            pixels = [*train.pixels[reals], *fakes]
            half = len(reals)
            for place in range(min(len(fakes), round(half * options.rebuilt_share))):
                way = draw.integers(len(self.rebuilt))
                pixels[half + place] = self.rebuilt[way, self.place[int(reals[place])]]
            plans = [(treatment(draw), int(draw.integers(2**31))) for _ in range(half)]
            plans += plans[: len(fakes)]
            flips = (draw.random(half) < 0.5).tolist() * 2
            treated = [
                treat(one[:, ::-1] if flip else one, *plan)
                for one, plan, flip in zip(pixels, plans, flips, strict=False)
            ]
            x = parallel.shard(data.to_input(data.to_tensor(np.stack(treated), device)))
            yield x, torch.tensor([0] * half + [1] * len(fakes), device=device)


class Block(nn.Module):
    """BN, Swish, conv 3x3, twice, and the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        return x + self.body(x)


class TraceD1(nn.Module):
    """Residuals of the components at full resolution; maps at a quarter of it."""

    def __init__(self, channels: int, width: int, components: Sequence[str], reach: float) -> None:
        super().__init__()
        self.components, self.reach = tuple(components), reach
        planes(torch.zeros(1, channels, 1, 1), self.components)  # refuses grey now, not in a step
        inputs = NEIGHBOURS * len(self.components)
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width // 2, 3, padding=1), nn.BatchNorm2d(width // 2), nn.SiLU(),
            nn.Conv2d(width // 2, width, 4, 2, 1), Block(width),
            nn.BatchNorm2d(width), nn.SiLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1), Block(2 * width), Block(2 * width),
        )  # fmt: skip
        self.head = nn.Linear(2 * width, FEATURES)
        self.outputs = 2 * width

    def maps(self, x: Tensor) -> Tensor:
        """Map pictures (N, C, S, S) in [-1, 1] to maps (N, 2 width, S / 4, S / 4)."""
        with torch.no_grad():
            x = residuals(planes(x, self.components), self.reach)
        return self.layers(x.contiguous(memory_format=torch.channels_last))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps and the softmaxed feature, float32 (N, 128)."""
        maps = self.maps(x)
        return maps, torch.softmax(self.head(maps.mean(dim=(2, 3))).float(), dim=1)


class TraceNetwork(Network):
    """`TraceD1` and D2 on its maps."""

    def __init__(
        self, channels: int, size: int, width: int = 24,
        components: Sequence[str] = (), reach: float = 16.0,
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)
        components = components or (("Y",) if channels == 1 else COMPONENTS)
        self.config = {
            "channels": channels, "size": size, "width": width,
            "components": list(components), "reach": reach,
        }  # fmt: skip
        self.d1 = TraceD1(channels, width, components, reach)
        self.d2 = D2(self.d1.outputs)


class DeepFDPairs(DeepFD):
    """`TraceNetwork` trained on pairs of a photograph and its reconstruction, and on fakes."""

    architecture = TraceNetwork
    arguments = ("components", "reach")
    objective = Pairs
