"""Tables about origins: what probes tell apart, what a finish costs, what is unseen together."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks import readings
from benchmarks.page.tables import MISSING, number, short, span
from benchmarks.publish.artefact import Kept
from benchmarks.publish.blocks import DIGITS, code, rate_with_interval, table
from benchmarks.scores import CLEAN
from pipeline.folds import test_only
from pipeline.images import Jpeg
from pipeline.params import TOGETHER

# Probes of the audit that look at what is nobody's content (docs/audit.md).
PROBES = ("bands", "grid", "blockiness")
# Beside them: ours, and the rival that lives on spectra alone.
BESIDE = ("deepfd", "spectrum")


def probes(kept: Kept) -> str:
    """AUC of the audit's probes on each generator, recall on it beside; and between collections."""
    aucs = kept.audit[kept.audit["gate"].isin(PROBES)].pivot(
        index="subject", columns="gate", values="value"
    )
    cells = readings.unseen(kept.whole).set_index(["method", "generator"])["recall"]
    methods = [method for method in BESIDE if method in kept.params.methods]

    def row(subject: str, name: str, recalls: Sequence[str]) -> list[str]:
        known = aucs.loc[subject] if subject in aucs.index else pd.Series(dtype=float)
        # A thousandth below 1 is not 1.
        return [name, *(number(known.get(probe), DIGITS) for probe in PROBES), *recalls]

    rows = [
        row(name, code(name), [number(cells.get((method, name))) for method in methods])
        for name in kept.params.generators
    ]
    none = [""] * len(methods)
    for pair in (subject for subject in aucs.index if " and " in subject):
        rows.append(row(pair, " and ".join(code(short(one)) for one in pair.split(" and ")), none))
    head = [*(f"AUC of {code(probe)}" for probe in PROBES), *(f"recall {code(m)}" for m in methods)]
    return table(["told from the photographs, or each other", *head], rows)


def _named(finish: Jpeg | None) -> str:
    """Write a finish: "none", or "JPEG 90, 4:2:0"."""
    if finish is None:
        return "none"
    moved = f", moved by {finish.grid}" if any(finish.grid) else ""
    return f"JPEG {finish.jpeg}, {':'.join(str(finish.subsampling))}{moved}"


def _at_test(kept: Kept, perturbation: str) -> pd.DataFrame:
    """Sum every method up under one perturbation of the test images.

    Returns:
        by method: `recall`, `auc`, `fpr` (means over the generators left out), `worst` and
        `worst_name`, and `real:<name>`, the false-positive rate on a collection never seen, written
        with its interval.
    """
    rows = readings.whole(kept.results, perturbation)
    left = readings.left_out(rows, perturbation=perturbation)
    found = pd.DataFrame(
        {m: readings.mean_over(left, kept.params, m) for m in ("recall", "auc", "fpr")}
    )
    lowest = readings.worst(left, "recall")
    found["worst"] = lowest["recall"].where(found["recall"].notna())
    found["worst_name"] = lowest["generator"]
    alien = readings.unseen(rows, "collections", perturbation)
    for name, cells in alien.groupby("generator", sort=False):
        by_method = cells.set_index("method")
        found[name] = [rate_with_interval(by_method, str(method)) for method in found.index]
    return found


def finish(*runs: Kept) -> str:
    """Every method by the finish of the run and what was done to its test images.

    Args:
        runs: of the same photographs and generators; they differ in `faces.finish`. A method may be
            in one of them alone.
    """
    sums = [(run, name, _at_test(run, name)) for run in runs for name in run.params.perturbations]
    alien = pd.concat([readings.unseen(run.whole, "collections") for run in runs])
    counts = {name: span(cells["n_real"]) for name, cells in alien.groupby("generator", sort=False)}
    rows = []
    for method in dict.fromkeys(m for run in runs for m in run.params.methods):
        for run, perturbation, found in sums:
            if method not in found.index:
                continue
            one, worst = found.loc[method], MISSING
            if pd.notna(one["worst"]):
                worst = f"{number(one['worst'])} {code(str(one['worst_name']))}"
            rows.append(
                [code(method), _named(run.params.faces.finish),
                 "as they are" if perturbation == CLEAN else perturbation,
                 number(one["recall"]), worst, number(one["auc"]), number(one["fpr"], DIGITS),
                 *(one.get(name, MISSING) for name in counts)]
            )  # fmt: skip
    head = ["method", "finish", "at the test", "recall, mean", "recall, worst", "AUC, mean"]
    rates = [f"FPR {code(short(name))}, n = {count}" for name, count in counts.items()]
    return table([*head, "FPR, mean", *rates], rows)


def together(kept: Kept) -> str:
    """Every method where each generator was left out together with each collection.

    A row: recall on the generator, and false positives on the collection left out and on those for
    testing only, over the generators; a sentence where the run left out none together.
    """
    rows = kept.whole[kept.whole["held_out"].str.contains(TOGETHER, regex=False)]
    if rows.empty:
        return "This run left out no generator together with a collection."
    left = rows["held_out"].str.split(TOGETHER, regex=False, expand=True)
    rows = rows.assign(fake=left[0], origin=left[1])
    alien = [name for name in kept.params.collections if test_only(kept.params, name)]
    counts = {name: span(rows.loc[rows["generator"] == name, "n_real"]) for name in alien}
    lines = []
    for method in kept.params.methods:
        for origin, cells in rows[rows["method"] == method].groupby("origin", sort=False):
            recall = cells[cells["generator"] == cells["fake"]].set_index("generator")["recall"]
            worst = f"{number(recall.min())} {code(recall.idxmin())}"
            rates = [cells.loc[cells["generator"] == name, "fpr"] for name in (origin, *alien)]
            lines.append(
                [code(method), code(short(origin)), number(recall.mean()), worst]
                + [_mean_and_range(one) for one in rates]
            )
    head = ["method", "left out with each generator", "recall on it, mean", "recall, worst"]
    last = [f"FPR {code(short(name))}, n = {counts[name]}" for name in alien]
    return table([*head, "FPR on the collection left out", *last], lines)


def _mean_and_range(values: pd.Series) -> str:
    low, high = (number(one, DIGITS) for one in (values.min(), values.max()))
    mean = number(values.mean(), DIGITS)
    return mean if low == high else f"{mean} ({low}–{high})"
