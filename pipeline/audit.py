"""Gates: what must hold of the data before anything is fitted, and of the fits before the matrix.

`python -m pipeline.audit` (stage `audit`) reads the manifests that params.yaml names and writes
benchmarks/audit.parquet; `python -m pipeline.audit reads` (stage `audit-reads`) reads what every
fit recorded in models/<method>/<held_out>/<seed>/reads.json and writes benchmarks/reads.parquet.
One row per gate and subject. A hard gate that fails stops the run with its evidence, unless
`audit.warn` names it; a soft one is only reported.

Three kinds of gates:
- leaks: a logistic regression tries to tell each generator from the photographs by what must not
  matter. Container, size and naming have to be equal (hard). File size, brightness, borders,
  blockiness and sharpness are reported (soft): every picture is a lossless PNG of one encoder, so
  its file size is a function of its content, and there a generator may really differ;
- splits: no image, near-duplicate or person in two splits, nor an image in two generators;
- generators: constant images, collapse, copies of training photographs, ids and counts.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from pipeline import images, manifest
from pipeline.errors import UserError, one_line
from pipeline.folds import MANIFESTS, file_name, ids_digest, sources
from pipeline.params import Audit, Params
from pipeline.params import load as load_params
from pipeline.seeds import seed_for

TABLE = Path("benchmarks/audit.parquet")
READS_TABLE = Path("benchmarks/reads.parquet")
MODELS = Path("models")
HARD, SOFT = "hard", "soft"

HARD_PROBES = ("container", "size", "naming")
SOFT_PROBES = ("file_size", "moments", "border", "blockiness", "sharpness")
PROBE_FOLDS = 5
# A 16x16 perceptual hash: on the ORL faces and on 3,000 CelebA faces at 64x64, two pictures of
# different persons differ in 52 bits or more (of 4.6 million pairs), the same picture after JPEG
# 50, noise of 4 grey levels or resizing to 56 px and back in 16 or fewer, after a shift by one
# pixel mostly in 32 to 42. `audit.near_bits` lies between.
BITS = 256  # of images.perceptual_hash
# Copies are sought in grey, standardised thumbnails: brightness and contrast do not hide one.
THUMB_SIDE = 32
COPY_QUANTILE = 0.05
FLAT = 1.0  # an image whose grey levels deviate by less than this (in grey levels) is constant
CHUNK = 1024

SCHEMA = pa.schema(
    [
        ("gate", pa.string()),
        ("subject", pa.string()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
        ("passed", pa.bool_()),
        ("severity", pa.string()),
        ("evidence", pa.string()),
    ]
)
COLUMNS = ["image_id", "label", "generator", "split", "identity", "sha256"]


@dataclass(frozen=True)
class Gate:
    """One finding: `value` passes where it is at most `limit`.

    Attributes:
        gate: which gate.
        subject: the generator, `real`, or `<method>/<held_out>/<seed>`.
        value: what was measured (an AUC, a count or a share).
        limit: the largest value that passes.
        passed: whether it does.
        severity: `hard` gates stop a run, `soft` ones report.
        evidence: one line that says what was found.
    """

    gate: str
    subject: str
    value: float
    limit: float
    passed: bool
    severity: str
    evidence: str


def judge(
    gate: str, subject: str, value: float, limit: float, evidence: str, severity: str = HARD
) -> Gate:
    """Make a finding; NaN never passes."""
    return Gate(gate, subject, float(value), float(limit), bool(value <= limit), severity, evidence)


@dataclass(frozen=True)
class Traces:
    """What the gates know of the images of one source.

    Attributes:
        rows: one row per image: the manifest's columns, `digest` of the pixels as they are, `std`,
            and a column `<probe>: <feature>` for every feature of the probes.
        hashes: float32 (N, 256), bits of the perceptual hash as -1 and 1.
        thumbs: float32 (N, 1024), grey thumbnails of zero mean and unit norm.
    """

    rows: pd.DataFrame
    hashes: np.ndarray
    thumbs: np.ndarray


# ---------------------------------------------------------------------------------------- features


def _header(picture: Image.Image) -> str:
    """Format, mode and header fields of an encoded picture, as one category."""
    return " ".join([str(picture.format), picture.mode, *sorted(map(str, picture.info))])


def _borders(pixels: np.ndarray) -> dict[str, float]:
    """Mean of each border, and how much it differs from its inner neighbour."""
    found = {}
    for side, lines in {
        "top": pixels[:2],
        "bottom": pixels[:-3:-1],
        "left": pixels[:, :2].swapaxes(0, 1),
        "right": pixels[:, :-3:-1].swapaxes(0, 1),
    }.items():
        found[f"border: {side} mean"] = lines[0].mean()
        found[f"border: {side} step"] = np.abs(lines[0] - lines[1]).mean()
    return found


def _blockiness(grey: np.ndarray) -> dict[str, float]:
    """Step across each of the 8 phases of an 8x8 grid, relative to the mean step, both ways."""
    found = {}
    for axis, name in ((0, "row"), (1, "column")):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        phases = np.arange(len(steps)) % 8
        means = np.bincount(phases, steps) / np.bincount(phases) / (steps.mean() + 1e-6)
        found |= {f"blockiness: {name} {phase}": mean for phase, mean in enumerate(means)}
    return found


def trace(row: Mapping[str, Any], channels: int) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Describe one image of a manifest: its row, hash bits (256,) and thumbnail (1024,).

    Raises:
        UserError: the bytes are no picture.
    """
    data, path = row["image"]["bytes"], row["image"]["path"] or ""
    try:
        picture = Image.open(io.BytesIO(data))
        header = _header(picture)
        picture.load()
    except Exception as error:  # whatever Pillow raises on damaged bytes
        raise UserError(
            f"{row['image_id']} is no picture ({error}); delete its manifest and run dvc repro"
        ) from None
    found = np.asarray(picture, dtype=np.uint8)
    native = found[..., None] if found.ndim == 2 else found
    pixels = np.asarray(images.to_mode(picture, channels), dtype=np.float64)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    grey = pixels.mean(axis=2)
    small = picture.convert("L")
    thumb = np.asarray(
        small.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX), dtype=np.float32
    ).ravel()
    thumb = thumb - thumb.mean()
    # The encoder's own choices (level, filters, extra chunks) show as bytes more or less than the
    # project's encoder needs for the same pixels.
    excess = len(data) - len(images.encode_png(native)) if native.shape[2] in (1, 3) else -1
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1]
    laplacian -= grey[1:-1, :-2] + grey[1:-1, 2:]
    described = {
        **{name: row[name] for name in COLUMNS},
        "digest": images.pixel_sha256(native),
        "std": grey.std(),
        "container": header,
        "container: excess bytes": excess,
        "container: other encoder": float(excess != 0),
        "size": f"{picture.width}x{picture.height}",
        "naming": f"suffix {Path(path).suffix or 'none'}"
        + ("" if Path(path).stem == row["image_id"] else ", stem is not the id"),
        "file_size: log bytes": np.log(len(data)),
        **{f"moments: mean {c}": pixels[..., c].mean() for c in range(channels)},
        **{f"moments: deviation {c}": pixels[..., c].std() for c in range(channels)},
        **_borders(grey),
        **_blockiness(grey),
        "sharpness: log energy": np.log((laplacian**2).mean() + 1e-6),
    }
    bits = images.perceptual_hash(picture)
    norm = np.linalg.norm(thumb)
    return described, np.where(bits, 1, -1).astype(np.float32), thumb / (norm if norm else 1)


def traces_of(name: str, folder: Path, channels: int) -> Traces:
    """Describe every image of the manifest in `folder`, a part at a time.

    Raises:
        UserError: a missing or damaged manifest.
    """
    found = []
    with (
        ThreadPoolExecutor() as pool,
        tqdm(desc=f"audit: {name}", unit=" images", mininterval=2) as bar,
    ):
        for part in manifest.parts(folder):
            for one in pool.map(lambda row: trace(row, channels), part.to_pylist()):
                found.append(one)
                bar.update()
    rows, hashes, thumbs = zip(*found, strict=True)
    return Traces(pd.DataFrame(rows), np.stack(hashes), np.stack(thumbs))


# ------------------------------------------------------------------------------------------- leaks


def probe_features(probe: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the features of a probe: numbers as they are, categories as one column each."""
    features = rows[[name for name in rows if name.startswith(f"{probe}: ")]].astype(float)
    if probe in rows:
        features = features.join(pd.get_dummies(rows[probe], prefix=probe, prefix_sep=": ") * 1.0)
    return features


def leak_gates(
    name: str, real: pd.DataFrame, fake: pd.DataFrame, audit: Audit, seed: int
) -> Iterator[Gate]:
    """Yield one gate per probe: its cross-validated AUC of telling `fake` from `real`.

    The AUC is the mean over 5 folds (a pooled one is biased where nothing can be told); all
    photographs of a person stand in one fold.

    Args:
        name: the generator's name.
        real: rows of the photographs.
        fake: rows of the generator.
        audit: limits, and how many images of each a probe looks at.
        seed: of the choice of images and of the folds.

    Raises:
        UserError: fewer images than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(real), len(fake)) < PROBE_FOLDS:
        raise UserError(
            f"{len(real)} photographs and {len(fake)} images of {name}; expected at least "
            f"{PROBE_FOLDS} of each: raise `images` in params.yaml"
        )
    seed = seed_for(seed, "probe", name) % 2**32
    rows = pd.concat(
        [
            part.sample(min(len(part), audit.probe_images), random_state=seed)
            for part in (real, fake)
        ],
        ignore_index=True,
    )
    labels = rows["label"].to_numpy()
    groups = rows["identity"].where(rows["identity"].notna(), rows["image_id"])
    splitter = StratifiedGroupKFold(PROBE_FOLDS, shuffle=True, random_state=seed)
    folds = list(splitter.split(rows, labels, groups))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    for probe in (*HARD_PROBES, *SOFT_PROBES):
        features = probe_features(probe, rows)
        aucs = cross_val_score(model, features.to_numpy(), labels, cv=folds, scoring="roc_auc")
        means = features.groupby(labels).mean()
        apart = ((means.loc[1] - means.loc[0]).abs() / (features.std() + 1e-12)).idxmax()
        was, now = means.loc[0, apart], means.loc[1, apart]
        hard = probe in HARD_PROBES
        yield judge(
            probe, name, aucs.mean(), audit.hard_auc if hard else audit.soft_auc,
            f"AUC {aucs.mean():.3f}; most apart: {apart}, {was:.4g} in photographs and {now:.4g} "
            f"in {name}",
            HARD if hard else SOFT,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------ splits


def closest(
    queries: np.ndarray, keys: np.ndarray, skip_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest inner product of each query with a key, and the position of that key.

    Args:
        queries: float32 (N, D).
        keys: float32 (M, D), M >= 1 (2 with `skip_self`).
        skip_self: `keys` are the queries themselves; an image is not its own neighbour.

    Returns:
        float32 (N,) and int (N,).
    """
    best = np.empty(len(queries), np.float32)
    where = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), CHUNK):
        products = queries[start : start + CHUNK] @ keys.T  # (chunk, M)
        if skip_self:
            own = np.arange(len(products))
            products[own, start + own] = -np.inf
        where[start : start + CHUNK] = products.argmax(axis=1)
        best[start : start + CHUNK] = products.max(axis=1)
    return best, where


def bits_apart(products: np.ndarray) -> np.ndarray:
    """Turn inner products of hashes into Hamming distances, 0..256."""
    return (BITS - products) / 2


def repeated(hashes: np.ndarray, audit: Audit, count: int) -> float:
    """Return the share of images with a near-duplicate among `count` of them, evenly picked."""
    picked = hashes[np.linspace(0, len(hashes) - 1, min(count, len(hashes))).astype(int)]
    return float((bits_apart(closest(picked, picked, skip_self=True)[0]) <= audit.near_bits).mean())


def _some(ids: Iterable[str], most: int = 3) -> str:
    """List the first few of some names."""
    ids = list(ids)
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def together(sources: Iterable[Traces]) -> Traces:
    """Put the images of several sources, at least one, behind each other."""
    parts = list(sources)
    return Traces(
        pd.concat([one.rows for one in parts], ignore_index=True),
        np.concatenate([one.hashes for one in parts]),
        np.concatenate([one.thumbs for one in parts]),
    )


def split_gates(found: Mapping[str, Traces], real: Traces, audit: Audit) -> Iterator[Gate]:
    """Yield the gates on images, near-duplicates and persons in two places.

    The place of a photograph is its split: it is compared with those of other splits, of its own
    and of other collections (one that is in two collections is in the same split of both, unless
    one of them is for testing only). The place of a fake is its generator and its split, so that an
    image of the held-out generator cannot stand in training under another name.

    Args:
        found: the images of every source.
        real: those of the collections that are trained on.
        audit: the limits.
    """
    for real_kind in (True, False):
        kind = {name: one for name, one in found.items() if manifest.is_real(name) == real_kind}
        if not kind:
            continue
        rows = pd.concat(
            [one.rows.assign(source=name) for name, one in kind.items()], ignore_index=True
        )
        home = rows["split"] if real_kind else rows["source"] + "/" + rows["split"]
        hashes = np.concatenate([one.hashes for one in kind.values()])
        place = rows["source"] + "/" + rows["split"]
        homes = home.groupby(rows["digest"]).transform("nunique")
        for name in kind:
            limit = audit.near_duplicate
            if not real_kind:
                limit = audit.collapse + repeated(real.hashes, audit, len(kind[name].hashes))
            own = (rows["source"] == name).to_numpy()
            twice = rows[own & (homes > 1).to_numpy()]
            evidence = f"{len(twice)} images stand in another split or source too"
            if len(twice):
                first = twice.iloc[0]
                same = rows[(rows["digest"] == first["digest"]) & (home != home[first.name])]
                evidence += (
                    f": {first['image_id']} ({place[first.name]}) is {same.iloc[0]['image_id']} "
                    f"({place[same.index[0]]})"
                )
            yield judge("sha256", name, len(twice), 0, evidence)

            # The nearest image of another place, for each image of this source.
            bits = np.full(len(rows), np.inf)
            other = np.zeros(len(rows), np.int64)
            for here in home[own].unique():
                mine, theirs = own & (home == here).to_numpy(), np.flatnonzero(home != here)
                if len(theirs):
                    best, where = closest(hashes[mine], hashes[theirs])
                    bits[mine], other[mine] = bits_apart(best), theirs[where]
            share = (bits[own] <= audit.near_bits).mean()
            evidence = f"{(bits[own] <= audit.near_bits).sum()} of {own.sum()} images have a "
            evidence += f"near-duplicate (<= {audit.near_bits} of {BITS} bits) elsewhere"
            if np.isfinite(bits[own]).any():
                at = int(np.where(own, bits, np.inf).argmin())
                evidence += (
                    f"; nearest: {rows['image_id'][at]} ({place[at]}) and "
                    f"{rows['image_id'][other[at]]} ({place[other[at]]}), {bits[at]:.0f} bits"
                )
            yield judge("near_duplicate", name, share, limit, evidence)

    for name, one in found.items():
        if not manifest.is_real(name):
            continue
        known = one.rows[one.rows["identity"].notna()]
        splits = known.groupby("identity")["split"].agg(lambda s: sorted(set(s)))
        torn = splits[splits.map(len) > 1]
        evidence = f"{len(splits)} persons known, of {len(known)} of {len(one.rows)} photographs"
        if len(torn):
            evidence += "; in two splits: " + _some(f"{i} ({'+'.join(s)})" for i, s in torn.items())
        yield judge("identity", name, len(torn), 0, evidence)


# -------------------------------------------------------------------------------------- generators


def source_gates(found: Mapping[str, Traces], params: Params) -> Iterator[Gate]:
    """Yield the gates on every source for itself: digests, labels, ids, counts, constant images."""
    every = pd.concat([one.rows["image_id"] for one in found.values()])
    times = every.value_counts()
    for name, one in found.items():
        rows = one.rows
        wrong = rows.loc[rows["digest"] != rows["sha256"], "image_id"]
        yield judge(
            "digest", name, len(wrong), 0,
            f"{len(wrong)} images are not those of their sha256" + _named(wrong),
        )  # fmt: skip
        label = int(not manifest.is_real(name))
        wrong = rows.loc[(rows["label"] != label) | (rows["generator"] != name), "image_id"]
        yield judge(
            "label", name, len(wrong), 0,
            f"{len(wrong)} images are not labelled {label} of {name}" + _named(wrong),
        )  # fmt: skip
        wrong = rows.loc[rows["image_id"].map(times) > 1, "image_id"]
        yield judge("ids", name, len(wrong), 0, f"{len(wrong)} images share an id" + _named(wrong))
        flat = rows.loc[rows["std"] < FLAT, "image_id"]
        yield judge(
            "constant", name, len(flat), 0,
            f"{len(flat)} images are constant (what NaN becomes too)" + _named(flat),
        )  # fmt: skip
        if name in params.generators:
            asked = params.generators[name].images
            yield judge(
                "counts", name, abs(len(rows) - asked), 0,
                f"{len(rows)} images; params.yaml asks for {asked}",
            )  # fmt: skip


def _named(ids: pd.Series) -> str:
    return f": {_some(ids)}" if len(ids) else ""


def generator_gates(name: str, fake: Traces, real: Traces, audit: Audit) -> Iterator[Gate]:
    """Yield collapse and copying of one generator.

    Collapse is the share of its images that have a near-duplicate among its images, beyond that of
    the photographs: those show the same person in the same pose twice too. Copying is the
    share of its images that are nearer to a training photograph than 95 % of the training
    photographs are to their nearest other one (so photographs themselves would have 5 %); distance
    is ||a - b|| of standardised thumbnails, sqrt(2 - 2 correlation).
    """
    # The more pictures, the more of them have a neighbour: as many of either.
    count = min(len(fake.hashes), len(real.hashes))
    share, usual = (repeated(one.hashes, audit, count) for one in (fake, real))
    best, where = closest(fake.hashes, fake.hashes, skip_self=True)
    at, ids = int(best.argmax()), fake.rows["image_id"]
    yield judge(
        "collapse", name, share, audit.collapse + usual,
        f"{share:.1%} of {count} images have a near-duplicate among them (<= {audit.near_bits} of "
        f"{BITS} bits), {usual:.1%} of as many photographs; nearest: {ids[at]} and "
        f"{ids[where[at]]}, {bits_apart(best[at]):.0f} bits",
    )  # fmt: skip

    train = (real.rows["split"] == "train").to_numpy()
    thumbs, photographs = real.thumbs[train], real.rows.loc[train, "image_id"].to_numpy()
    if len(thumbs) < 2:
        raise UserError(f"{len(thumbs)} training photographs; expected 2 or more: mend faces.split")
    among = _distance(closest(thumbs, thumbs, skip_self=True)[0])
    near = float(np.quantile(among, COPY_QUANTILE))
    best, where = closest(fake.thumbs, thumbs)
    distance = _distance(best)
    share, at = (distance < near).mean(), int(distance.argmin())
    yield judge(
        "copying", name, share, audit.copying,
        f"{share:.1%} of the images are nearer than {near:.3f} to a training photograph; median "
        f"distance {np.median(distance):.3f}, among photographs {np.median(among):.3f}; nearest: "
        f"{ids[at]} and {photographs[where[at]]}, {distance[at]:.3f}",
    )  # fmt: skip


def _distance(products: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(2 - 2 * products, 0, None))


def audit_data(params: Params, folder: Path = MANIFESTS) -> list[Gate]:
    """Run every gate on the manifests that `params` names.

    Raises:
        UserError: a manifest is missing or damaged, or holds too few images to judge.
    """
    found = {
        name: traces_of(name, folder / source, params.faces.channels)
        for name, source in sources(params).items()
    }
    real = together(found[name] for name in params.train_collections)
    gates = [*source_gates(found, params), *split_gates(found, real, params.audit)]
    for name in params.generators:
        gates += generator_gates(name, found[name], real, params.audit)
        gates += leak_gates(name, real.rows, found[name].rows, params.audit, params.seed)
    return gates


# ------------------------------------------------------------------------------------------- reads


def reads_gate(
    subject: str, held_out: str, reads: Mapping[str, Any], params: Params,
    ids: Mapping[tuple[str, str], list[str]],
) -> Gate:  # fmt: skip
    """Judge what one fit says that it read: how many images it should never have seen.

    Args:
        subject: `<method>/<held_out>/<seed>`.
        held_out: the generator or family left out.
        reads: content of reads.json: step -> `digest`, `n` and `counts` (generator -> split -> n).
        params: the checked params.yaml.
        ids: (generator, split) -> image ids of the manifests.

    Returns:
        A gate whose value is the number of forbidden images; where the record does not describe
        the manifests (its digest is of other images), all images of that step count.
    """
    allowed = {*params.training(held_out)}
    splits = {"fit": "train", "selection": "valid", "threshold": "valid"}
    bad, findings = 0, []
    for step in sorted({*splits, *reads}):
        record = reads.get(step)
        if record is None or step not in splits:
            bad += 1
            findings.append(f"{step}: {'no record' if record is None else 'an unknown step'}")
            continue
        cells = [(g, s, n) for g, counts in record["counts"].items() for s, n in counts.items()]
        for generator, split, n in cells:
            if generator not in allowed or split != splits[step]:
                bad += n
                findings.append(f"{step}: {n} images of {generator}/{split}")
        known = [one for g, s, _ in cells for one in ids.get((g, s), ())]
        if ids_digest(np.array(known)) != record["digest"] or record["n"] != len(known):
            bad += record["n"]
            findings.append(f"{step}: {record['n']} images that are not those of the manifests")
    evidence = "; ".join(findings) or "read " + ", ".join(
        f"{reads[step]['n']} images for {step}" for step in splits
    )
    return judge("reads", subject, bad, 0, evidence)


def manifest_ids(params: Params, folder: Path = MANIFESTS) -> dict[tuple[str, str], list[str]]:
    """Return the image ids of every (generator, split) of the manifests."""
    ids = {}
    for name, source in sources(params).items():
        rows = manifest.read(folder / source, ["image_id", "split"])
        for split, part in rows.groupby("split"):
            ids[name, str(split)] = part["image_id"].tolist()
    return ids


def audit_reads(
    params: Params, models: Path = MODELS, folder: Path = MANIFESTS
) -> list[Gate]:  # fmt: skip
    """Judge the records of every fit that `params` names.

    Raises:
        UserError: a fit or its record is missing, or a manifest.
    """
    ids = manifest_ids(params, folder)
    gates = []
    for method in params.methods:
        for held_out in params.folds():
            home = models / method / file_name(held_out)
            records = sorted(home.glob("[0-9]*/reads.json"))
            if not records:
                raise UserError(f"{home} holds no <seed>/reads.json; run the fit (dvc repro)")
            for path in records:
                try:
                    reads = json.loads(path.read_text())
                except ValueError as error:
                    raise UserError(
                        f"{path} is not JSON ({error}); delete it and fit again"
                    ) from None
                subject = f"{method}/{held_out}/{path.parent.name}"
                gates.append(reads_gate(subject, held_out, reads, params, ids))
    return gates


# ------------------------------------------------------------------------------------------- stage


def table_of(gates: Iterable[Gate]) -> pa.Table:
    """Turn findings into the table that the report reads."""
    return pa.Table.from_pylist([asdict(gate) for gate in gates], SCHEMA)


def enforce(gates: Iterable[Gate], warn: Iterable[str]) -> None:
    """Stop where a hard gate failed that `warn` does not name; print the others that failed.

    Raises:
        UserError: with the evidence of every such gate.
    """
    warn, stop = set(warn), []
    for gate in gates:
        if gate.passed:
            continue
        line = f"{gate.gate} of {gate.subject}: {gate.evidence} (limit {gate.limit:g})"
        if gate.severity == HARD and gate.gate not in warn:
            stop.append((gate.gate, line))
        else:
            print(
                f"audit: {'warning' if gate.severity == HARD else 'note'}: {line}", file=sys.stderr
            )
    if stop:
        names = list(dict.fromkeys(name for name, _ in stop))
        lines = [line for _, line in stop]
        raise UserError(
            f"{len(stop)} gate{'s' * (len(stop) > 1)} failed: {'; '.join(lines[:3])}"
            + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
            + f"; mend the data, or go on with a red mark: audit.warn: [{', '.join(names)}]"
        )


@one_line
def main(argv: list[str] | None = None) -> None:
    """Write benchmarks/audit.parquet (or, after the fits, reads.parquet) and judge it."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.audit", description=__doc__)
    parser.add_argument("what", nargs="?", default="data", choices=["data", "reads"])
    what = parser.parse_args(argv).what
    params = load_params()
    gates = audit_data(params) if what == "data" else audit_reads(params)
    manifest.write_table(TABLE if what == "data" else READS_TABLE, table_of(gates))
    enforce(gates, params.audit.warn)
    print(f"audit: {sum(gate.passed for gate in gates)} of {len(gates)} gates passed")


if __name__ == "__main__":
    main()
