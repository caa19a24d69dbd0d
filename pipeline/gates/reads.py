"""Reads: no fit read what it must not see, by what every fit recorded of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.errors import UserError
from pipeline.folds import MANIFESTS, file_name, ids_digest, sources
from pipeline.gates.gate import Gate, judge
from pipeline.params import Params

MODELS = Path("models")


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
