"""Leaks: whether a logistic regression can tell two sources by what must not matter.

Each generator is told from the photographs, and each collection of photographs from every other:
what tells two collections apart says nothing about fakes, and a detector may take it for that.

Container, size and naming have to be equal (hard). File size, brightness, borders, blockiness,
sharpness, energy by band and grid are reported (soft): every picture is a lossless PNG of one
encoder, so its file size is a function of its content, and there a generator may really differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.errors import UserError
from pipeline.gates.gate import HARD, SOFT, Gate, judge
from pipeline.gates.options import Audit
from pipeline.seeds import seed_for

# How photographs came, see pipeline.gates.sources: only two collections can be compared by it.
CAME_AS = "came_as"
HARD_PROBES = ("container", "size", "naming")
SOFT_PROBES = (
    "file_size", "moments", "border", "blockiness", "sharpness", "bands", "grid", CAME_AS,
)  # fmt: skip
PROBE_FOLDS = 5


def probe_features(probe: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the features of a probe: numbers as they are, categories as one column each."""
    features = rows[[name for name in rows if name.startswith(f"{probe}: ")]].astype(float)
    if probe in rows:
        features = features.join(pd.get_dummies(rows[probe], prefix=probe, prefix_sep=": ") * 1.0)
    return features.fillna(0.0)  # of one format or the other


def leak_gates(
    subject: str, sides: Mapping[str, pd.DataFrame], audit: Audit, seed: int
) -> Iterator[Gate]:
    """Yield one gate per probe: its cross-validated AUC of telling one side from the other.

    The AUC is the mean over 5 folds (a pooled one is biased where nothing can be told); all
    photographs of a person stand in one fold.

    Args:
        subject: what the gates are called after: the generator, or two collections.
        sides: two names, each with its rows: the photographs and a generator, or two collections.
        audit: limits, and how many images of each a probe looks at.
        seed: of the choice of images and of the folds.

    Raises:
        UserError: fewer images than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    few = [f"{len(rows)} images of {name}" for name, rows in sides.items()]
    if min(map(len, sides.values())) < PROBE_FOLDS:
        raise UserError(
            f"{' and '.join(few)}; expected at least {PROBE_FOLDS} of each: raise `images` or add "
            "photographs"
        )
    seed = seed_for(seed, "probe", subject) % 2**32
    rows = pd.concat(
        [
            part.sample(min(len(part), audit.probe_images), random_state=seed).assign(side=side)
            for side, part in enumerate(sides.values())
        ],
        ignore_index=True,
    )
    labels = rows["side"].to_numpy()
    persons = rows["generator"] + " " + rows["identity"].astype(str)
    groups = persons.where(rows["identity"].notna(), rows["image_id"])
    splitter = StratifiedGroupKFold(PROBE_FOLDS, shuffle=True, random_state=seed)
    folds = list(splitter.split(rows, labels, groups))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    first, second = sides
    for probe in (*HARD_PROBES, *SOFT_PROBES):
        features = probe_features(probe, rows)
        if probe == CAME_AS and rows["source"].isna().any():
            continue  # fakes did not come in a file
        with threadpool_limits(1):  # several threads wait for each other over so little
            aucs = cross_val_score(model, features.to_numpy(), labels, cv=folds, scoring="roc_auc")
        means = features.groupby(labels).mean()
        apart = ((means.loc[1] - means.loc[0]).abs() / (features.std() + 1e-12)).idxmax()
        was, now = means.loc[0, apart], means.loc[1, apart]
        hard = probe in HARD_PROBES
        yield judge(
            probe, subject, aucs.mean(), audit.hard_auc if hard else audit.soft_auc,
            f"AUC {aucs.mean():.3f}; most apart: {apart}, {was:.4g} in {first} and {now:.4g} in "
            f"{second}",
            HARD if hard else SOFT,
        )  # fmt: skip
