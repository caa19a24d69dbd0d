"""Pictures as files, and how others read them.

torchvision's `ImageFolder` does not import beside the torch of this project, which comes without
torchvision: `ImageFolder` here is the same in few lines. A folder is a class, Pillow opens a file,
the transforms are those of `ToTensor` and `Normalize(.5, .5)`.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline import images
from pipeline.folds import Images

MODES = {1: "L", 3: "RGB"}
CLASSES = ("0_real", "1_fake")
PER_SHARD = 1000


def to_tensor(picture: Image.Image, mode: str) -> Tensor:
    """Turn a Pillow picture into float32 (C, H, W) in [-1, 1]."""
    pixels = np.asarray(picture.convert(mode), dtype=np.uint8)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float().div(127.5).sub(1)


def write_folder(folder: Path, pictures: Images) -> None:
    """Write one PNG per picture, a folder per class."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (pixels, label) in enumerate(zip(pictures.pixels, pictures.labels, strict=True)):
        images.to_pil(pixels).save(folder / CLASSES[label] / f"{number:08d}.png")


def write_shards(folder: Path, pictures: Images) -> list[str]:
    """Write tar files as webdataset reads them: `<number>.png` and `<number>.cls`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for first in range(0, len(pictures), PER_SHARD):
        path = folder / f"shard-{first // PER_SHARD:05d}.tar"
        with tarfile.open(path, "w") as tar:
            for number in range(first, min(first + PER_SHARD, len(pictures))):
                label = str(int(pictures.labels[number])).encode()
                for suffix, content in (
                    ("png", images.encode_png(pictures.pixels[number])),
                    ("cls", label),
                ):
                    about = tarfile.TarInfo(f"{number:08d}.{suffix}")
                    about.size = len(content)
                    tar.addfile(about, io.BytesIO(content))
        paths.append(str(path))
    return paths


class ImageFolder(Dataset):
    """torchvision's `ImageFolder` with `ToTensor` and `Normalize`.

    Args:
        folder: a folder per class, a file per picture.
        mode: Pillow's.
    """

    def __init__(self, folder: Path, mode: str) -> None:
        self.samples = [
            (str(path), label)
            for label, name in enumerate(CLASSES)
            for path in sorted((folder / name).iterdir())
        ]
        self.mode = mode

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        with Image.open(path) as picture:
            return to_tensor(picture, self.mode), label


class Pairs(ImageFolder):
    """Two pictures, each a random crop, and whether they are of one class: half of them are.

    Args:
        folder: see `ImageFolder`.
        mode: Pillow's.
        crop: side of the crops.
        count: how many pairs there are.
    """

    def __init__(self, folder: Path, mode: str, crop: int, count: int) -> None:
        super().__init__(folder, mode)
        self.crop, self.count = crop, count
        self.of_class = [[s for s in self.samples if s[1] == label] for label in range(2)]

    def __len__(self) -> int:
        return self.count

    def _one(self, label: int, draw: np.random.Generator) -> Tensor:
        own = self.of_class[label]
        with Image.open(own[int(draw.integers(len(own)))][0]) as picture:
            left, top = (int(draw.integers(side - self.crop + 1)) for side in picture.size)
            return to_tensor(
                picture.crop((left, top, left + self.crop, top + self.crop)), self.mode
            )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int]:
        draw = np.random.default_rng(index)
        first, same = index % 2, index // 2 % 2
        second = first if same else 1 - first
        return self._one(first, draw), self._one(second, draw), first, second


def loader(dataset: Dataset, batch: int, workers: int) -> DataLoader:
    """Build the DataLoader of PyTorch's tutorials."""
    return DataLoader(
        dataset, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def hugging_face(
    paths: Sequence[Path], cache: Path, batch: int
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Read manifests with `datasets` in torch format; they are brought to Arrow once, here."""
    import datasets

    datasets.disable_progress_bars()
    whole = datasets.Dataset.from_parquet([str(path) for path in paths], cache_dir=str(cache))
    whole = whole.select_columns(["image", "label"]).with_format("torch")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for some in DataLoader(whole, batch, shuffle=True):
            yield some["image"].float() / 127.5 - 1, some["label"]

    return batches


def webdataset(
    shards: Sequence[str], mode: str, batch: int
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Read shards with webdataset, shuffled within its buffer."""
    import webdataset as wds

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        samples = wds.WebDataset(list(shards), shardshuffle=len(shards))
        samples = samples.shuffle(PER_SHARD).decode("pil").to_tuple("png", "cls")
        samples = samples.map_tuple(lambda picture: to_tensor(picture, mode), int)
        yield from DataLoader(samples.batched(batch), batch_size=None)

    return batches
