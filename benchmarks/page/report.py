"""One self-contained HTML page from results.parquet, and the matrix as a picture.

`python -m benchmarks.page.report` writes index.html and matrix.png into benchmarks/report/. Its
tables and most of its figures are readings of benchmarks/results.parquet (`tables.py`); ROC and
reliability curves and the mistakes are readings of scores/, which results.parquet is made from.
Nothing is fitted and nothing is scored. The mistakes show photographs: the page is for whoever may
see them.
"""

from __future__ import annotations

import io
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from benchmarks import colour_study, readings
from benchmarks.comparisons import COMPARISONS, MEAN
from benchmarks.page import figures, heats, pictures, tables, verdict
from benchmarks.page.heats import MEAN as MEAN_COLUMN
from benchmarks.page.heats import Heat
from benchmarks.scores import (
    ALL_SEEDS,
    CLEAN,
    LIBRARIES,
    MODELS,
    SCORES,
    TEST,
    read_file,
    scores_path,
)
from pipeline import images
from pipeline.errors import one_line
from pipeline.folds import MANIFESTS, file_name
from pipeline.manifest import write_atomic
from pipeline.operate import history
from pipeline.params import Params
from pipeline.params import load as load_params

OUT = Path("benchmarks/report")
AUDITS = (Path("benchmarks/audit.parquet"), Path("benchmarks/reads.parquet"))
TEMPLATE = Path(__file__).with_name("report.html.j2")
SCORE_COLUMNS = [
    "image_id", "label", "generator", "split", "method", "held_out", "seed", "score", "threshold",
]  # fmt: skip


def matrix_png(heat: Heat) -> bytes:
    """Draw the heat map of recall as a PNG, for where a page cannot be shown."""
    from matplotlib.figure import Figure

    columns = [name for name, _ in heat.columns]
    values = np.array([[cell.value or 0.0 for cell in cells] for _, cells in heat.rows])
    plain = np.array([[cell.value is None for cell in cells] for _, cells in heat.rows])
    height = 1.4 + 0.55 * len(heat.rows)
    figure = Figure(figsize=(1.6 + 0.95 * len(columns), height), dpi=150)
    axes = figure.subplots()
    axes.imshow(np.ma.array(values, mask=plain), cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    for y, (_, cells) in enumerate(heat.rows):
        for x, cell in enumerate(cells):
            colour = "white" if values[y, x] > 0.55 else "black"
            axes.text(x, y - 0.12, cell.text, ha="center", va="center", color=colour, size=11)
            axes.text(x, y + 0.27, cell.small, ha="center", va="center", color=colour, size=6.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(heat.rows)), [method for method, _ in heat.rows])
    axes.axvline(columns.index(MEAN_COLUMN) - 0.5, color="white", linewidth=3)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Recall of fakes from the generator left out of training", size=10)
    buffer = io.BytesIO()
    # No software version in the file: the same results give the same bytes.
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def draw(
    cells: pd.DataFrame, params: Params, scores: pd.DataFrame, grown: pd.DataFrame
) -> dict[str, str]:
    """Draw every figure that there are numbers for: name -> SVG."""
    target = params.matrix.threshold.fpr
    seen = tables.seen_rates(cells, params)
    tested = scores[(scores["label"] == 1) | scores["seen"]]
    drawn = {
        "seen": figures.before_after(
            "seen", seen["recall_seen"], seen["recall_unseen"], ("seen", "unseen"), "recall"
        ),
        "recall_fpr": figures.recall_against_fpr(
            tables.recall_fpr_points(cells, params), list(params.methods), target
        ),
        "roc": figures.roc(tested),
        "reliability": figures.reliability(tested),
    }
    if len(params.perturbations) > 1:
        for metric, title, limit in (
            ("recall", "recall, generators never seen", None),
            ("fpr", "false positive rate", target),
        ):
            drawn[f"robust-{metric}"] = figures.over_categories(
                f"robust-{metric}", tables.robustness(cells, params, metric), title, limit
            )
    for name, rows in grown.groupby("held_out", sort=False):
        drawn[f"history-{name}"] = figures.over_images(
            f"history-{name}", rows, list(params.methods), str(name)
        )
    return drawn


def page(
    cells: pd.DataFrame,
    params: Params,
    *,
    comparisons: pd.DataFrame,
    scores: pd.DataFrame,
    audit: pd.DataFrame,
    study: pd.DataFrame,
    rounds: pd.DataFrame,
    timings: pd.DataFrame,
    sheets: dict[str, str],
    mistakes: dict[str, dict[str, list[pictures.Picture]]],
    made: dict[str, str],
) -> str:
    """Render the page.

    Args:
        cells: the rows of results.parquet that sum up all seeds.
        params: the checked params.yaml.
        comparisons: rows of comparisons.parquet.
        scores: see `read_scores`.
        audit: rows of audit.parquet and reads.parquet.
        study: rows of colour_study.parquet; none on grey faces.
        rounds: rows of history.parquet.
        timings: rows of `method`, `seconds`, `device`.
        sheets: generator -> data URI of its contact sheet.
        mistakes: see `pictures.mistake_pictures`.
        made: how it was made: heading -> text.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    gates = tables.gates_table(audit)
    grown = tables.history_rows(rounds, params)
    points = tables.recall_fpr_points(cells, params)
    mean = comparisons["held_out"] == MEAN
    return environment.from_string(TEMPLATE.read_text()).render(
        params=params,
        target=tables.percent(params.matrix.threshold.fpr),
        rule=cells["threshold_rule"].iloc[0],
        seeds=tables.span(cells["seeds"]),
        verdict=verdict.verdict(cells, params, comparisons),
        gates=gates,
        failed=[gate for gate in gates if not gate["passed"]],
        heat=heats.matrix_heat(cells, params),
        cells=tables.cells_table(cells, params),
        cross=tables.cross_tables(cells, params),
        pairs=tables.comparison_table(comparisons[mean]),
        chosen_pairs=tables.comparison_table(comparisons[~mean]),
        seen=tables.seen_table(cells, params),
        families=heats.family_heat(cells, params),
        fpr=tables.fpr_table(cells, params),
        robustness=tables.robustness_table(cells, params),
        components=heats.component_heats(study),
        others=[name for name in dict.fromkeys(points["collection"]) if name],
        needs_colour=colour_study.NEEDS_COLOUR,
        history=tables.history_table(grown),
        timing=tables.timing_table(timings),
        figures={n: Markup(text) for n, text in draw(cells, params, scores, grown).items()},
        legend=[(m, *figures.place(i)) for i, m in enumerate(params.methods)],
        sheets=sheets,
        mistakes=mistakes,
        made=made,
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


def read_scores(params: Params, folder: Path = SCORES) -> pd.DataFrame:
    """Read the scores of clean test images by the fits that left a generator out.

    Of the fakes only those of the generator left out: no fit has seen any image of these.

    Returns:
        `SCORE_COLUMNS`, and `seen`: of a photograph, whether its collection was in training.

    Raises:
        UserError: scores are missing or damaged.
    """
    parts = []
    for method in params.methods:
        for held_out in params.train_generators:
            path = scores_path(method, held_out, folder)
            rows = read_file(path, SCORE_COLUMNS, perturbation=CLEAN).to_pandas()
            # Named columns come as categories, which differ from file to file.
            rows = rows.astype({"method": str, "held_out": str, "generator": str})
            rows = rows[(rows["label"] == 0) | (rows["generator"] == held_out)]
            test = rows["split"] == TEST
            parts.append(
                rows[test].assign(seen=rows["generator"].isin(set(rows["generator"][~test])))
            )
    return pd.concat(parts, ignore_index=True)


def read_timings(params: Params, folder: Path = MODELS) -> pd.DataFrame:
    """Read how long the fits took: a row of `method`, `seconds`, `device` for each."""
    rows = [
        {"method": method, **json.loads(path.read_text())}
        for method in params.methods
        for held_out in params.folds()
        for path in sorted((folder / method / file_name(held_out)).glob("*/timing.json"))
    ]
    return pd.DataFrame(rows, columns=["method", "seconds", "device"])


@one_line
def main() -> None:
    """Write the page and the picture."""
    params = load_params()
    results, scores = readings.read(), read_scores(params)
    cells = results[results["seed"] == ALL_SEEDS]
    html = page(
        cells,
        params,
        comparisons=pd.read_parquet(COMPARISONS),
        scores=scores,
        audit=pd.concat([pd.read_parquet(path) for path in AUDITS], ignore_index=True),
        study=pd.read_parquet(colour_study.TABLE),
        rounds=history.read(),
        timings=read_timings(params),
        sheets={
            name: pictures.data_uri(images.to_pil(pictures.contact_sheet(name, MANIFESTS)))
            for name in params.generators
        },
        mistakes=pictures.mistake_pictures(scores, params),
        made=provenance(results, params),
    )
    write_atomic(OUT / "matrix.png", matrix_png(heats.matrix_heat(cells, params)))
    write_atomic(OUT / "index.html", html.encode())
    print(f"report: {OUT / 'index.html'}, {len(html) / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
