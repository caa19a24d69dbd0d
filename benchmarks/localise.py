"""Stage `localise`: how right the map is about *where* a picture is fake.

`python -m benchmarks.localise` reads the manifests and models/deepfd/<held_out>/<seed>, puts test
pictures together (`benchmarks.composites`) and writes benchmarks/localisation.parquet: per detector
that left a generator out, and per one that left out none, how well its map finds the fake part of
pictures made with that generator's fakes; beside it Grad-CAM (captum), a centre prior and a random
map; and the control, in which nothing is fake and a map that finds seams would find the seam.

A row is one (`held_out`, `generator`, `composite`, `region`, `seam`, `map`), the mean over pictures
and seeds, with a 95 % interval from resampling pairs of host and donor (all regions, seams and
seeds of a pair together). `all` stands for all regions or seams.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from captum.attr import LayerGradCam
from scipy.stats import rankdata
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import scores
from benchmarks.composites import CONTROL, FAKE_IN, REAL_IN, SEAMS, UNTOUCHED, Composite, composites
from benchmarks.fit import seeds_of
from benchmarks.localisation import ALL, MEASURES, OURS, OUT, SCHEMA, summary
from benchmarks.methods import load_method
from benchmarks.resample import draw_weights
from deepfd import backbone, data, faces
from deepfd.calibrate import logits
from deepfd.detector import Detector
from deepfd.localise import enlarged, smoothed
from deepfd.predict import Threshold
from pipeline import folds
from pipeline.errors import UserError, one_line
from pipeline.folds import Images
from pipeline.forked import mapped
from pipeline.images import finished
from pipeline.manifest import write_table
from pipeline.params import NONE, Params
from pipeline.params import load as load_params
from pipeline.seeds import seed_for

METHOD = "deepfd"
# Hosts of a kind and generator; each is put together 8 times (regions x seams).
HOSTS = 8


class _Head(nn.Module):
    """D2 by itself, with a place between D1's maps and it for Grad-CAM to look at."""

    def __init__(self, d2: nn.Module) -> None:
        super().__init__()
        self.cut, self.d2 = nn.Identity(), d2

    def forward(self, maps: Tensor) -> Tensor:
        """Map D1's maps to logits (N, 2)."""
        return self.d2(self.cut(maps))


@dataclass(frozen=True)
class Looked:
    """What a detector says of N pictures of side S, from one pass of D1.

    Attributes:
        scores: float64 (N,), P(fake), as `Detector.score` gives it.
        evidence: float32 (N, S, S), D2's map enlarged; smoothed it is `deepfd.localise.heat_maps`.
        grad_cam: float32 (N, S, S), >= 0, Grad-CAM of "fake" at D1's maps (Selvaraju et al. 2017).
    """

    scores: np.ndarray
    evidence: np.ndarray
    grad_cam: np.ndarray


def look(
    detector: Detector, pixels: np.ndarray, statistics: Tensor | None = None,
    places: Tensor | None = None,
) -> Looked:  # fmt: skip
    """Score pictures, uint8 (N, S, S, C), and say where, by both maps.

    Args:
        detector: of any seed.
        pixels: the pictures.
        statistics: what the backbone says of them, (N, K); None where it has no part.
        places: what each of their places adds by the detector's weights (`deepfd.backbone.Seen`),
            (N, S, S); None where it has no part.
    """
    network = detector.network
    head = _Head(network.d2)
    cam = LayerGradCam(head, head.cut)
    found: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(pixels), detector.batch):
        part = slice(start, start + detector.batch)
        x = data.to_input(data.to_tensor(pixels[part], detector.device))
        with torch.no_grad():
            maps = network.d1.maps(x)
            numbers = None if statistics is None else statistics[part].cpu().numpy()
            scores_ = detector.scores(network.d2(maps), numbers)
            evidence = detector.evidence_of(maps, None if places is None else places[part])
        found_by = cam.attribute(maps.requires_grad_(), target=1, relu_attributions=True).detach()
        large = (enlarged(one.cpu().numpy(), detector.size) for one in (evidence, found_by[:, 0]))
        found.append((scores_, *large))
    return Looked(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def looked_by(detectors: Sequence[Detector], pixels: np.ndarray) -> list[Looked]:
    """Let several detectors look at pictures, which the backbone reads once for all of them.

    A seed whose refit left D2 as it was does not read the backbone; another may.
    """
    readers = [one for one in detectors if one.backbone is not None]
    seen = None
    if readers:
        first = readers[0]
        weights = torch.stack([one.network.beside for one in readers])
        seen = backbone.look(first.backbone, pixels, weights, first.size, first.device)
    found, place = [], 0
    for one in detectors:
        beside = ()
        if one.backbone is not None:
            beside, place = (seen.statistics, seen.places[:, place]), place + 1
        found.append(look(one, pixels, *beside))
    return found


def centre(size: int) -> np.ndarray:
    """Return a map that looks at the middle of every picture, float (size, size)."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    return -np.hypot(x, y)


def pixel_auc(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Area under the ROC curve over the pixels of each picture; ties count half.

    Args:
        maps: float (N, S, S).
        masks: bool (N, S, S), some True and some False in each.

    Returns:
        float (N,), the Mann-Whitney statistic over n_in n_out.
    """
    ranks = rankdata(maps.reshape(len(maps), -1), axis=1)
    inside = masks.reshape(len(masks), -1)
    n = inside.sum(axis=1)
    above = (ranks * inside).sum(axis=1) - n * (n + 1) / 2
    return above / (n * (inside.shape[1] - n))


def overlap(found: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Intersection over union of bool (N, S, S) each, float (N,)."""
    both, either = ((op(found, masks)).sum(axis=(1, 2)) for op in (np.logical_and, np.logical_or))
    return both / either


def highest(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mark as many of the highest places of each map as its mask has pixels; first of equals."""
    flat = maps.reshape(len(maps), -1)
    order = np.argsort(-flat, axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(flat.shape[1])[None].repeat(len(flat), 0), axis=1)
    return (place < masks.sum(axis=(1, 2))[:, None]).reshape(maps.shape)


def measure(maps: np.ndarray, masks: np.ndarray, threshold: float | None) -> dict[str, np.ndarray]:
    """Measure maps against masks, picture by picture: `MEASURES` without `called_fake`."""
    top = maps.reshape(len(maps), -1).argmax(axis=1)
    nothing = np.full(len(maps), np.nan)
    return {
        "pixel_auc": pixel_auc(maps, masks),
        "iou": nothing if threshold is None else overlap(maps >= threshold, masks),
        "iou_of_area": overlap(highest(maps, masks), masks),
        "pointing": masks.reshape(len(masks), -1)[np.arange(len(maps)), top].astype(float),
    }


def maps_of(looked: Looked) -> dict[str, np.ndarray]:
    """Return each kind of map of a detector, float (N, S, S)."""
    ours = zip(OURS, (smoothed(looked.evidence), looked.evidence), strict=True)
    return {**dict(ours), "grad_cam": looked.grad_cam}


def fixed_maps(made: Sequence[Composite], seed: int) -> dict[str, np.ndarray]:
    """Return the maps that know of no detector, float (N, S, S); `seed` draws the random one."""
    size = made[0].pixels.shape[0]
    names = [f"{one.pair} {one.shape} {one.seam}" for one in made]
    draws = (np.random.default_rng(seed_for(seed, "random map", name)) for name in names)
    return {
        "centre": np.broadcast_to(centre(size), (len(made), size, size)),
        "random": np.stack([draw.random((size, size)) for draw in draws]),
    }


def masks_of(made: Sequence[Composite]) -> np.ndarray:
    """Return what a map is to find, bool (N, S, S).

    In the control nothing is fake: what is measured is whether the map finds the *donor's* part.
    """
    return np.stack([one.fake if one.fake.any() else one.region for one in made])


def pixels_of(made: Sequence[Composite]) -> np.ndarray:
    """Return the pictures, uint8 (N, S, S, C)."""
    return np.stack([one.pixels for one in made])


def rows_of(
    looked: Looked, threshold: Threshold, made: Sequence[Composite],
    fixed: Mapping[str, dict[str, np.ndarray]],
) -> pd.DataFrame:  # fmt: skip
    """Measure what a detector says: a row per picture and map, `MEASURES` and what it is.

    Args:
        looked: what it says of the pictures.
        threshold: its own.
        made: the pictures.
        fixed: what `measure` says of each of `fixed_maps`.
    """
    masks = masks_of(made)
    about = {
        "pair": [one.pair for one in made],
        "region": [one.shape for one in made],
        "seam": [one.seam for one in made],
        "area": masks.mean(axis=(1, 2)),
        "called_fake": (looked.scores >= threshold.score).astype(float),
    }
    # A place is called fake where it alone, as the whole picture, would be.
    limit = float(logits(np.array(threshold.score)))
    measured = {
        name: measure(maps, masks, limit if name in OURS else None)
        for name, maps in maps_of(looked).items()
    }
    tables = [
        pd.DataFrame(about | {"map": name} | found) for name, found in (measured | fixed).items()
    ]
    return pd.concat(tables, ignore_index=True)


def summed_up(table: pd.DataFrame, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """Average over pictures and seeds, per map, region and seam and over all of these.

    Args:
        table: rows of `rows_of`, with `fit`, the seed of the detector.
        resamples: of the interval.
        seed: of the resamples.
    """
    for region, seam in product((ALL, *table["region"].unique()), (ALL, *table["seam"].unique())):
        part = table[table["region"].isin([region]) | (region == ALL)]
        part = part[part["seam"].isin([seam]) | (seam == ALL)]
        for name, rows in part.groupby("map", sort=False):
            by_pair = rows.groupby("pair")[list(MEASURES)].mean()
            weights = draw_weights(len(by_pair), resamples, seed, "localise")
            drawn = (weights.T @ by_pair.to_numpy()) / len(by_pair)
            low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
            fits = rows["fit"].nunique()
            out = {
                "region": region, "seam": seam, "map": name, "n": len(rows) // fits,
                "pairs": len(by_pair), "seeds": fits, "area": float(rows["area"].mean()),
            }  # fmt: skip
            for metric, value, *ends in zip(MEASURES, by_pair.mean(), low, high, strict=True):
                names = (metric, f"{metric}_low", f"{metric}_high")
                out |= zip(names, map(float, (value, *ends)), strict=True)
            yield out


def some(images: Images, count: int, seed: int, name: str) -> Images:
    """Choose up to `count` of some images by their ids, the same whatever else there is."""
    rank = [seed_for(seed, "host", name, str(one)) for one in images.ids]
    return images.subset(np.sort(np.argsort(rank)[:count]))


def load_detectors(params: Params, held_out: str) -> Iterator[tuple[int, Detector, Threshold]]:
    """Load the detector of every seed.

    Raises:
        UserError: one is missing or damaged.
    """
    method = load_method(params.methods[METHOD].method)
    for seed in seeds_of(params, METHOD):
        folder = scores.model_path(METHOD, held_out, seed)
        yield seed, method.load(folder), Threshold.read(folder)


def _nothing(why: str) -> pd.DataFrame:
    print(f"localise: nothing to measure: {why}", file=sys.stderr)
    return SCHEMA.empty_table().to_pandas()


def study(params: Params, held_outs: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure the maps of every fold.

    Args:
        params: the checked params.yaml.
        held_outs: the folds, by default each generator and `none`.

    Returns:
        Rows of `SCHEMA`; none where there is nothing to measure (no method `deepfd`, no face in the
        photographs, which eyes and mouth are placed by); of photographs of one person no control.

    Raises:
        UserError: a model or manifest is missing, or the face finder.
    """
    if METHOD not in params.methods:
        return _nothing(f"no method {METHOD!r} in params.yaml")
    digest = folds.data_digest(params)
    test = folds.load(params).fold(NONE).test
    photographs = test.subset(np.isin(test.generators, params.train_collections))
    if not faces.available():
        raise UserError(
            "eyes and mouth cannot be found: the extra `face` is not installed; "
            'pip install "deepfd-benchmark[face]"'
        )
    framing = faces.framing_of(photographs.pixels)
    if framing is None:
        return _nothing(f"no face was found in {len(photographs)} test photographs")
    hosts = some(photographs, HOSTS, params.seed, "photographs")

    def finish(made: Iterator[Composite]) -> list[Composite]:
        return [replace(one, pixels=finished(one.pixels, params.faces.finish)) for one in made]

    control = finish(composites(CONTROL, hosts, photographs, framing, params.seed))
    host_of = dict(zip(hosts.ids.tolist(), hosts.pixels, strict=True))
    untouched = [
        replace(one, pixels=host_of[one.pair], seam=NONE) for one in control if one.seam == SEAMS[0]
    ]
    made: dict[str, dict[str, list[Composite]]] = {}
    for name in tqdm(params.generators, desc="composites", unit=" generators"):
        fakes = some(test.subset(test.generators == name), HOSTS, params.seed, name)
        made[name] = {
            FAKE_IN: finish(composites(FAKE_IN, hosts, fakes, framing, params.seed)),
            REAL_IN: finish(composites(REAL_IN, fakes, photographs, framing, params.seed)),
        }
    wanted = held_outs or (NONE, *params.train_generators)
    fits = {held_out: list(load_detectors(params, held_out)) for held_out in wanted}
    # What is looked at, and by the detectors of which folds: each picture is read once for all,
    # first what all look at, which takes longest.
    groups: list[tuple[str, str, list[Composite], list[str]]] = []
    if control:
        groups += [("", CONTROL, control, [*wanted]), ("", UNTOUCHED, untouched, [*wanted])]
    for name, kinds in made.items():
        lookers = [held_out for held_out in wanted if held_out in (NONE, name)]
        groups += [(name, kind, pictures, lookers) for kind, pictures in kinds.items() if lookers]

    def one(number: int) -> dict[str, list[dict[str, Any]]]:
        name, kind, pictures, lookers = groups[number]
        return {
            held_out: [{"generator": name, "composite": kind} | row for row in rows]
            for held_out, rows in _measured(params, pictures, {h: fits[h] for h in lookers})
        }

    found = mapped(one, len(groups), "localise", "groups of pictures")
    rows = []
    for held_out in wanted:
        about = {"method": METHOD, "held_out": held_out, "data": digest}
        seen = params.training_generators(held_out)
        for by_fold in found:
            for row in by_fold.get(held_out, ()):
                name = row["generator"]
                rows.append(about | row | {"seen": name in seen if name else None})
    return pa.Table.from_pylist(rows, SCHEMA).to_pandas()


def _measured(
    params: Params,
    pictures: Sequence[Composite],
    fits: dict[str, list[tuple[int, Detector, Threshold]]],
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Measure the detectors of some folds on the same pictures: a fold, its rows."""
    every = [detector for several in fits.values() for _, detector, _ in several]
    looked = iter(looked_by(every, pixels_of(pictures)))
    masks, others = masks_of(pictures), fixed_maps(pictures, params.seed)
    fixed = {name: measure(maps, masks, None) for name, maps in others.items()}
    for held_out, several in fits.items():
        tables = [
            rows_of(next(looked), threshold, pictures, fixed).assign(fit=seed)
            for seed, _, threshold in several
        ]
        yield held_out, [*summed_up(pd.concat(tables), params.matrix.bootstrap, params.seed)]


@one_line
def main() -> None:
    """Write localisation.parquet."""
    torch.manual_seed(0)  # nothing draws from it; captum is not ours
    table = study(load_params())
    write_table(OUT, pa.Table.from_pandas(table, SCHEMA, preserve_index=False))
    print(summary(table).round(2).to_string(index=False))
    print(f"localise: {len(table)} rows in {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main()
