"""Sentences of the documents: who is better than whom, and where the numbers come from."""

from __future__ import annotations

import pandas as pd

from benchmarks.comparisons import MEAN
from benchmarks.page.tables import listed, p_text, percent, short, signed
from benchmarks.page.verdict import SIGNIFICANT, oriented
from benchmarks.publish.artefact import Kept
from benchmarks.publish.blocks import code, collections_unseen, means

OURS = "deepfd"
# Methods that learn, and yet are simpler: no contrast, no second phase.
SIMPLER = ("plain",)


def _on_mean(kept: Kept, metric: str) -> pd.DataFrame:
    rows = kept.comparisons
    return rows[(rows["held_out"] == MEAN) & (rows["metric"] == metric)]


def _told(row: pd.Series, scale: float, digits: int) -> str:
    """Write a difference: "+0.03 (+0.01 to +0.05; p = 0.01)"."""
    value, low, high = (
        signed(scale * row[key], digits) for key in ("difference", "low", "high")
    )  # fmt: skip
    return f"{value} ({low} to {high}; {p_text(row['p_corrected'])})"


def pairs(kept: Kept) -> str:
    """One sentence for each pair of `matrix.compare`: a - b, mean recall and AUC."""
    lines = []
    for a, b in kept.params.matrix.compare:
        found = {}
        for metric in ("recall", "auc"):
            rows = oriented(_on_mean(kept, metric), a)
            found[metric] = rows[rows["b"] == b]
        if any(rows.empty for rows in found.values()):
            continue
        recall, auc = (found[metric].iloc[0] for metric in ("recall", "auc"))
        lines.append(
            f"{code(a)} − {code(b)}, mean over {len(kept.params.train_generators)} generators "
            f"left out: recall {_told(recall, 1, 3)}, AUC {_told(auc, 1, 3)}; paired, 95 % "
            f"intervals, p corrected for {recall['comparisons']} comparisons (Holm)."
        )
    return "\n\n".join(lines) or "No pair of `matrix.compare` was fitted."


def simpler(kept: Kept) -> tuple[str, ...]:
    """Name the methods simpler than ours: what draws nothing (fixed features), and `plain`."""
    whole = kept.whole
    fixed = set(whole[whole["training_variance"] == "none"]["method"])
    methods = kept.params.methods
    return tuple(m for m in methods if m in fixed or methods[m].method in SIMPLER)


def verdict(kept: Kept) -> str:
    """Say whether a simpler rival beats ours on this profile, by how much, and what else counts.

    A rival beats ours whose mean recall over the generators left out is higher (paired, p < 0.05
    after Holm) and whose false positives agree with the rate that thresholds were set for, unless
    ours do not either.
    """
    order = means(kept)
    if OURS not in order.index or pd.isna(order.loc[OURS, "recall"]):
        return f"{code(OURS)} has no result on every generator left out: there is no verdict."
    rows = oriented(_on_mean(kept, "recall"), OURS).set_index("b")
    known = [m for m in order.index if m in simpler(kept) and m in rows.index]
    known = [m for m in known if pd.notna(order.loc[m, "recall"])]
    loud = [m for m in known if order.loc[OURS, "keeps"] and not order.loc[m, "keeps"]]
    rivals = [m for m in known if m not in loud]
    if not rivals:
        return f"No simpler rival of {code(OURS)} was measured that keeps to its false positives."
    won = [
        m for m in rivals
        if rows.loc[m, "difference"] < 0 and rows.loc[m, "p_corrected"] < SIGNIFICANT
    ]  # fmt: skip
    first = max(rivals, key=lambda m: order.loc[m, "recall"])
    if won:
        first = max(won, key=lambda m: order.loc[m, "recall"])
    row, ours = rows.loc[first], percent(order.loc[OURS, "recall"])
    more = row["difference"] < 0
    low, high = sorted((-100 if more else 100) * row[end] for end in ("low", "high"))
    size = (
        f"{abs(100 * row['difference']):.1f} points {'more' if more else 'less'} "
        f"({signed(low, 1)} to {signed(high, 1)}; paired, 95 %; {p_text(row['p_corrected'])} "
        f"after Holm over {row['comparisons']} comparisons)"
    )
    theirs = percent(order.loc[first, "recall"])
    if won:
        head = f"**A simpler rival beats {code(OURS)} on this profile: {code(first)}**"
    elif more:
        head = f"**No simpler rival is shown to beat {code(OURS)} on this profile**; {code(first)}"
    else:
        head = f"**No simpler rival beats {code(OURS)} on this profile**; the best, {code(first)},"
    lines = [
        f"{head} catches {theirs} of the fakes of generators never seen, {code(OURS)} {ours}: "
        f"{size}."
    ]
    if others := [m for m in won if m != first]:
        gains = [f"{code(m)} ({signed(-100 * rows.loc[m, 'difference'], 1)})" for m in others]
        lines.append(f"So {'do' if len(gains) > 1 else 'does'} {listed(gains)}.")
    auc = oriented(_on_mean(kept, "auc"), OURS).set_index("b").loc[first]
    lines.append(
        f"Over all thresholds, mean AUC: {auc['value_b']:.3f} and {auc['value_a']:.3f}, "
        f"{code(OURS)} − {code(first)} {_told(auc, 1, 3)}."
    )
    for m in loud:
        if order.loc[m, "recall"] > order.loc[OURS, "recall"]:
            lines.append(
                f"{code(m)} catches {percent(order.loc[m, 'recall'])}, but calls "
                f"{percent(order.loc[m, 'fpr'])} of the photographs fake, which does not agree "
                f"with the {percent(kept.params.matrix.threshold.fpr)} its thresholds were set for."
            )
    rates = [
        f"{code(short(name))} {percent(found.loc[first, 'fpr'])} and "
        f"{percent(found.loc[OURS, 'fpr'])}"
        for name, found in collections_unseen(kept).items()
        if {OURS, first} <= set(found.index)
    ]
    if rates:
        lines.append(
            f"Photographs of collections never seen that {code(first)} and {code(OURS)} call "
            f"fake: {', '.join(rates)}."
        )
    return " ".join(lines)


def _seconds(value: float) -> str:
    """Write a duration.

    >>> _seconds(0.52), _seconds(38.4), _seconds(600)
    ('0.5 s', '38 s', '10.0 min')
    """
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 100 else f"{value / 60:.1f} min"


def provenance(kept: Kept) -> str:
    """One paragraph: commit, machine, durations, command."""
    made = kept.provenance
    machine, versions = made["machine"], made["versions"]
    gpu = "no GPU" if machine["gpu"] == "none" else machine["gpu"]
    fits = ", ".join(
        f"{code(method)} {_seconds(fit['seconds_median'])} x {fit['fits']}"
        for method, fit in made["fits"].items()
    )
    total = sum(fit["seconds_total"] for fit in made["fits"].values())
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"`{made['command']}` at commit `{made['commit'][:12]}` made these numbers, kept on "
        f"{made['date']}: {machine['cpu']}, {machine['cores']} cores, {gpu}; {libraries}. "
        f"Fits (median, number): {fits}; together {_seconds(total)} of fitting, counted one after "
        f"the other. Everything lies in [docs/results/{kept.name}](/docs/results/{kept.name}); "
        "`python -m benchmarks.publish compare` says how far a run of your own is from it."
    )
