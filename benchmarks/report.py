"""One self-contained HTML page from results.parquet, and the matrix as a picture.

`python -m benchmarks.report` reads benchmarks/results.parquet and the generators' manifests (for
the contact sheets: machine-made faces only, never a photograph), and writes index.html and
matrix.png into benchmarks/report/. Every number of the page stands in results.parquet, or is a mean
of such numbers.
"""

from __future__ import annotations

import base64
import io
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.fit import LIBRARIES
from benchmarks.matrix import RESULTS, RESULTS_SCHEMA, clean_cells, held_out_cells
from pipeline import images, manifest
from pipeline.errors import UserError, one_line
from pipeline.folds import MANIFESTS, REAL_PREFIX
from pipeline.manifest import write_atomic
from pipeline.params import Params
from pipeline.params import load as load_params

OUT = Path("benchmarks/report")
AUDITS = (Path("benchmarks/audit.parquet"), Path("benchmarks/reads.parquet"))
TEMPLATE = Path(__file__).with_name("report.html.j2")
MISSING = "X"
SHEET_COLUMNS, SHEET_ROWS = 8, 3
# Metrics of the table of cells, with their headings.
COLUMNS = {
    "recall": "recall",
    "fpr": "FPR",
    "auc": "AUC",
    "ap": "AP",
    "tpr_at_fpr_05": "TPR at 5 % FPR",
    "eer": "EER",
    "brier": "Brier",
}


@dataclass(frozen=True)
class Table:
    """A table of the page: headings and rows of text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Heat:
    """A heat map: recall (text and value) and AUC (text) of each method on each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float, str], ...]], ...]


def number(value: float, digits: int = 2) -> str:
    """Write a rate, or X where there is none."""
    return MISSING if pd.isna(value) else f"{value:.{digits}f}"


def with_interval(rows: pd.DataFrame, metric: str) -> str:
    """Write the mean over seeds and the widest bounds: "0.93 (0.88-0.97)"."""
    if rows.empty or rows[metric].isna().any():
        return MISSING
    low, high = rows[f"{metric}_low"].min(), rows[f"{metric}_high"].max()
    return f"{number(rows[metric].mean())} ({number(low)}\u2013{number(high)})"


def span(values: pd.Series) -> str:
    """Write a count that may differ between rows: "120" or "96 to 120"."""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def ranking(results: pd.DataFrame) -> pd.DataFrame:
    """Average recall and AUC of each method over seeds and held-out generators, best first."""
    rows = held_out_cells(results)
    # Unstacking leaves a gap where a cell is missing, so that no mean is made over the rest.
    cells = rows.pivot_table(index="method", columns="held_out", values=["recall", "auc"])
    table = pd.DataFrame({m: cells[m].mean(axis=1, skipna=False) for m in ("recall", "auc")})
    table = table.reindex(rows["method"].unique())
    return table.sort_values(["recall", "auc"], ascending=False, kind="stable")


def verdict(results: pd.DataFrame) -> list[str]:
    """Say in words which method catches unseen generators best, with numbers and n."""
    unseen = held_out_cells(results)
    order = ranking(results)
    best = str(order.index[0])
    mine = unseen[unseen["method"] == best]
    by_generator = mine.groupby("held_out", sort=False)["recall"].mean()
    worst = str(by_generator.idxmin())
    worst_rows = mine[mine["held_out"] == worst]
    rule = mine["threshold_rule"].iloc[0]
    lines = [
        f"{best} catches the most fakes of generators it never saw: mean recall "
        f"{number(order['recall'].iloc[0])} over {len(by_generator)} held-out generators "
        f"({span(mine['n_fake'])} fakes each), mean AUC {number(order['auc'].iloc[0])}.",
        f"Its weakest spot is {worst}: recall {with_interval(worst_rows, 'recall')} on "
        f"{span(worst_rows['n_fake'])} fakes (95 % bootstrap interval).",
        f"At its threshold (set on the valid split of its training generators: {rule}) it calls "
        f"{100 * mine['fpr'].mean():.1f} % of {span(mine['n_real'])} test photographs fake.",
    ]
    if order["recall"].notna().sum() > 1:
        second, gap = str(order.index[1]), order["recall"].iloc[0] - order["recall"].iloc[1]
        half = ((unseen["recall_high"] - unseen["recall_low"]) / 2).mean()
        lines.append(
            f"Its mean recall is {number(gap)} above that of the next, {second}; the recall of a "
            f"single cell is known to about \u00b1{number(half)}."
        )
    others = results[results["generator"].str.startswith(REAL_PREFIX)]
    if others.empty:
        lines.append(
            "No other collection of photographs is named in params.yaml (other_reals): how many "
            "photographs from elsewhere would be called fake is not known."
        )
    return lines


def heat(results: pd.DataFrame, params: Params) -> Heat:
    """Lay out the matrix: methods by held-out generators, and the mean over them."""
    unseen = held_out_cells(results)
    names = tuple(params.generators)
    rows = []
    for method in params.methods:
        mine = unseen[unseen["method"] == method].groupby("held_out")[["recall", "auc"]].mean()
        mine = mine.reindex(names)
        cells = [*mine.itertuples(index=False), mine.mean(skipna=False)]
        rows.append(
            (
                method,
                tuple(
                    (number(cell.recall), 0.0 if pd.isna(cell.recall) else cell.recall,
                     number(cell.auc))
                    for cell in cells
                ),
            )
        )  # fmt: skip
    return Heat((*names, "mean"), tuple(rows))


def cells_table(results: pd.DataFrame, params: Params) -> Table:
    """Every method on every held-out generator, with n and intervals."""
    unseen = held_out_cells(results)
    rows = []
    for method in params.methods:
        for held_out in params.generators:
            cell = unseen[(unseen["method"] == method) & (unseen["held_out"] == held_out)]
            n = (span(cell["n_fake"]), span(cell["n_real"])) if len(cell) else (MISSING, MISSING)
            rows.append((method, held_out, *n, *(with_interval(cell, m) for m in COLUMNS)))
    return Table(("method", "held out", "fakes", "photographs", *COLUMNS.values()), tuple(rows))


def seen_table(results: pd.DataFrame, params: Params) -> Table:
    """Recall and AUC on generators seen in training against the held-out one, means over cells."""
    clean = clean_cells(results)
    names = list(params.generators)
    clean = clean[clean["generator"].isin(names) & clean["held_out"].isin(names)]
    rows = []
    for method in params.methods:
        mine = clean[clean["method"] == method]
        seen, unseen = mine[mine["seen"]], held_out_cells(mine)
        rows.append(
            (
                method,
                *(number(part[m].mean()) for m in ("recall", "auc") for part in (seen, unseen)),
                number(seen["recall"].mean() - unseen["recall"].mean()),
            )
        )
    head = ("method", "recall, seen", "recall, unseen", "AUC, seen", "AUC, unseen", "recall lost")
    return Table(head, tuple(rows))


def fpr_table(results: pd.DataFrame, params: Params) -> Table:
    """False-positive rates on the test photographs and on other collections."""
    clean = clean_cells(results)
    rows = []
    for method in params.methods:
        for held_out in params.held_outs():
            fit = clean[(clean["method"] == method) & (clean["held_out"] == held_out)]
            own = fit[fit["generator"].isin(list(params.generators))]
            own = own[own["generator"] == own["generator"].iloc[0]] if len(own) else own
            others = (fit[fit["generator"] == REAL_PREFIX + name] for name in params.other_reals)
            n = span(own["n_real"]) if len(own) else MISSING
            rows.append((method, held_out, n, *(with_interval(p, "fpr") for p in (own, *others))))
    head = ("method", "held out", "photographs", "own collection", *params.other_reals)
    return Table(head, tuple(rows))


def cross_tables(results: pd.DataFrame, params: Params) -> dict[str, Table]:
    """Recall of each method, trained without the row, tested on the column; * = never seen."""
    clean = clean_cells(results)
    tables = {}
    for method in params.methods:
        mine = clean[clean["method"] == method]
        rows = []
        for held_out in params.held_outs():
            row = [held_out]
            for generator in params.generators:
                cell = mine[(mine["held_out"] == held_out) & (mine["generator"] == generator)]
                mark = "*" if held_out == generator else ""
                row.append(number(cell["recall"].mean()) + mark)
            rows.append(tuple(row))
        tables[method] = Table(("trained without", *params.generators), tuple(rows))
    return tables


def contact_sheet(name: str, folder: Path = MANIFESTS) -> bytes:
    """Lay out the first fakes of a generator as one PNG.

    Raises:
        UserError: the manifest holds anything but fakes of this generator.
    """
    frame = manifest.read(folder / name, ["image", "label", "generator"])
    if set(frame["label"]) != {1} or set(frame["generator"]) != {name}:
        raise UserError(
            f"{folder / name} holds images that are not fakes of {name}; only those may be shown: "
            "delete the folder and run dvc repro"
        )
    faces = manifest.pixels(frame.head(SHEET_COLUMNS * SHEET_ROWS))
    size, channels = faces.shape[1], faces.shape[3]
    rows = -(-len(faces) // SHEET_COLUMNS)
    sheet = np.full((rows * SHEET_COLUMNS, size, size, channels), 255, np.uint8)
    sheet[: len(faces)] = faces
    sheet = sheet.reshape(rows, SHEET_COLUMNS, size, size, channels).transpose(0, 2, 1, 3, 4)
    return images.encode_png(sheet.reshape(rows * size, SHEET_COLUMNS * size, channels))


def data_uri(png: bytes) -> str:
    """Write a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def matrix_png(heat: Heat) -> bytes:
    """Draw the heat map as a PNG for the README."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    values = np.array([[value for _, value, _ in cells] for _, cells in heat.rows])
    height = 1.4 + 0.55 * len(heat.rows)
    figure, axes = plt.subplots(figsize=(1.6 + 0.95 * len(heat.columns), height), dpi=150)
    axes.imshow(values, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    for y, (_, cells) in enumerate(heat.rows):
        for x, (recall, value, auc) in enumerate(cells):
            colour = "white" if value > 0.55 else "black"
            axes.text(x, y - 0.12, recall, ha="center", va="center", color=colour, size=11)
            axes.text(x, y + 0.27, f"AUC {auc}", ha="center", va="center", color=colour, size=6.5)
    axes.set_xticks(range(len(heat.columns)), heat.columns)
    axes.set_yticks(range(len(heat.rows)), [method for method, _ in heat.rows])
    axes.axvline(len(heat.columns) - 1.5, color="white", linewidth=3)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Recall of fakes from the generator left out of training", size=10)
    buffer = io.BytesIO()
    # No software version in the file: the same results give the same bytes.
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def gates_table(audit: pd.DataFrame) -> list[dict[str, Any]]:
    """List the gates that did not hold, hard ones first: gate, subject, evidence, hard or not."""
    failed = audit[~audit["passed"]].sort_values("severity", kind="stable")
    return [
        {"gate": row.gate, "subject": row.subject, "evidence": row.evidence,
         "hard": row.severity == "hard"}
        for row in failed.itertuples()
    ]  # fmt: skip


def page(
    results: pd.DataFrame,
    params: Params,
    sheets: dict[str, bytes],
    made: dict[str, Any],
    audit: pd.DataFrame,
) -> str:
    """Render the page.

    Args:
        results: rows of results.parquet.
        params: the checked params.yaml.
        sheets: generator -> contact sheet (PNG).
        made: how it was made: heading -> text.
        audit: rows of audit.parquet and reads.parquet.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    clean = held_out_cells(results)
    return environment.from_string(TEMPLATE.read_text()).render(
        profile=params.profile,
        size=params.faces.size,
        colours="grey" if params.faces.channels == 1 else "colour",
        verdict=verdict(results),
        heat=heat(results, params),
        rule=clean["threshold_rule"].iloc[0],
        cells=cells_table(results, params),
        seen=seen_table(results, params),
        fpr=fpr_table(results, params),
        cross=cross_tables(results, params),
        sheets={name: data_uri(png) for name, png in sheets.items()},
        families={name: generator.family for name, generator in params.generators.items()},
        bootstrap=params.matrix.bootstrap,
        seeds=len(params.fit.seeds),
        made=made,
        gates=gates_table(audit),
        gates_total=len(audit),
    )


def provenance(results: pd.DataFrame, params: Params) -> dict[str, str]:
    """Say how the numbers were made: params, digests, versions."""
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return {
        "Digest of the data (data/folds.json)": ", ".join(sorted(set(results["data"]))),
        "Digests of the fits' code": ", ".join(
            f"{method} {', '.join(sorted({code[:12] for code in rows['code']}))}"
            for method, rows in results.groupby("method", sort=False)
        ),
        "Versions": f"Python {platform.python_version()}, {versions}",
        "params.yaml": yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False),
    }


def read_results(path: Path = RESULTS) -> pd.DataFrame:
    """Read results.parquet.

    Raises:
        UserError: it is missing, damaged, empty or of other columns.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; run dvc repro matrix")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); run dvc repro matrix") from None
    if table.column_names != RESULTS_SCHEMA.names or not len(table):
        raise UserError(
            f"{path} holds {len(table)} rows of columns {table.column_names}; expected rows of "
            f"{RESULTS_SCHEMA.names}: delete it and run dvc repro matrix"
        )
    return table.to_pandas()


@one_line
def main() -> None:
    """Write the page and the picture."""
    params = load_params()
    results = read_results()
    sheets = {name: contact_sheet(name) for name in params.generators}
    audit = pd.concat([pd.read_parquet(path) for path in AUDITS], ignore_index=True)
    html = page(results, params, sheets, provenance(results, params), audit)
    write_atomic(OUT / "matrix.png", matrix_png(heat(results, params)))
    write_atomic(OUT / "index.html", html.encode())
    print(f"report: {OUT / 'index.html'}, {len(html) / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
