"""A model as a folder for others: weights, config, threshold and card; on the Hub, or shipped.

`python -m deepfd.hub models/deepfd/none/0 deepfd/models/orl` writes such a folder from a fitted
detector, with the figures of benchmarks/results.parquet in its card: how models get into the
package.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.constants import CONFIG_NAME, REPOCARD_NAME

from pipeline.errors import UserError, one_line
from pipeline.folds import MANIFESTS
from pipeline.manifest import is_real, write_atomic

if TYPE_CHECKING:
    from deepfd.predict import Predictor

# Beside the weights and their card (deepfd/detector.py): what a verdict and a card are made from.
READS = "reads.json"
BESIDE = ("threshold.json", READS)
TEMPLATE = Path(__file__).with_name("card.md.j2")
# The method whose figures stand in the card, if the model does not name its own.
METHOD = "deepfd"


class OnHub(
    ModelHubMixin,
    library_name="deepfd",
    license="mit",
    pipeline_tag="image-classification",
    tags=["deepfake-detection", "generated-image-detection", "faces"],
    paper_url="https://arxiv.org/abs/1809.08754",
    model_card_template=TEMPLATE.read_text(),
):
    """`save_pretrained`, `push_to_hub` and `from_pretrained` of a `deepfd.predict.Predictor`."""

    def _save_pretrained(self: Predictor, save_directory: Path) -> None:
        self.detector.save(save_directory)
        for name in BESIDE:
            if self.folder is not None and (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, save_directory / name)
        # The Hub counts downloads by this file; what the weights are stands in model.json.
        config = {"model_type": "deepfd", "size": self.detector.size}
        config["channels"] = self.detector.channels
        write_atomic(save_directory / CONFIG_NAME, (json.dumps(config, indent=2) + "\n").encode())

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,
    ) -> Self:
        folder = model_id
        if not Path(model_id).is_dir():
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                # Nothing else of a repository is fetched, pickles least of all.
                allow_patterns=["*.safetensors", "*.json", REPOCARD_NAME],
            )
        return cls.load(folder, name=model_id)

    def generate_model_card(self: Predictor, **kwargs: Any) -> ModelCard:
        """Write the card from the model's own records.

        Args:
            kwargs: further fields of the template, among them `figures` (see `figures`).
        """
        fields = {
            "size": self.detector.size,
            "channels": self.detector.channels,
            "threshold": self.threshold.probability,
            "rule": self.threshold.rule,
            "calibrated": self.threshold.calibration is not None,
            "trained_on": trained_on(self.folder),
        }
        return super().generate_model_card(**(fields | kwargs))


def trained_on(folder: Path | None) -> list[dict[str, Any]]:
    """Return the sources a model was fitted on: `source`, `kind` and `images`, from reads.json."""
    path = folder / READS if folder else None
    if path is None or not path.is_file():
        return []
    try:
        counts = json.loads(path.read_text())["fit"]["counts"]
        return [
            {
                "source": name,
                "kind": "photographs" if is_real(name) else "generator",
                "images": sum(splits.values()),
            }
            for name, splits in counts.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no record of reads ({type(error).__name__}: {error}); run the fit again"
        ) from None


def figures(results: Path | None, method: str = METHOD) -> list[dict[str, Any]]:
    """Return what a method reached on each generator it never saw, from results.parquet.

    Args:
        results: that file, None for benchmarks/results.parquet.
        method: whose figures.

    Returns:
        Per generator `held_out`, `recall` and `fpr` (in words, with 95 % intervals), `n_fake` and
        `n_real`; [] where there are no results.
    """
    # The benchmark's own modules take a second to import, and only shipping needs them.
    import pandas as pd

    from benchmarks.readings import RESULTS, left_out, whole

    results = results or RESULTS
    if not results.is_file():
        return []

    table = left_out(whole(pd.read_parquet(results)))
    unseen = table[table["method"] == method]

    def words(row: Any, name: str) -> str:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return f"{row[name]:.2f} ({low:.2f}-{high:.2f})"

    return [
        {
            "held_out": row["held_out"],
            "recall": words(row, "recall"),
            "fpr": words(row, "fpr"),
            "n_fake": int(row["n_fake"]),
            "n_real": int(row["n_real"]),
        }
        for _, row in unseen.iterrows()
    ]


def framing(model: Path, folder: Path = MANIFESTS) -> tuple[float, float, float, float] | None:
    """Say where the face lies in the photographs a model was trained on (`deepfd.faces`).

    None where their manifests do not lie here, or without the extra `face`.
    """
    from deepfd import faces
    from pipeline import manifest

    parts = []
    for entry in trained_on(model):
        path = folder / entry["source"].replace(":", "_")
        if is_real(entry["source"]) and path.is_dir():
            rows = manifest.read(path, ["image", "split"])
            parts.append(manifest.pixels(rows[rows["split"] == "train"]))
    return faces.framing_of(np.concatenate(parts)) if parts else None


def ship(model: Path, target: Path, results: Path | None = None, terms: str | None = None) -> None:
    """Write a fitted detector's folder as others get it; `target` appears whole or not at all.

    Args:
        model: as `models/deepfd/none/0`.
        target: the folder to write.
        results: where the card's figures come from, None for benchmarks/results.parquet.
        terms: of the photographs it was trained on, where they bind the weights; the card's licence
            is then not MIT.

    Raises:
        UserError: the model cannot be read.
    """
    from deepfd.predict import Predictor
    from pipeline.manifest import swap_in

    predictor = Predictor.load(model)
    about = predictor.detector.about
    about["framing"] = about.get("framing") or framing(model)
    method = about.get("method", METHOD)
    fresh = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        kwargs = {"figures": figures(results, method), "terms": terms}
        predictor.save_pretrained(fresh, model_card_kwargs=kwargs)
        if terms:
            card = ModelCard.load(fresh / REPOCARD_NAME)
            card.data.license = "other"
            card.save(fresh / REPOCARD_NAME)
        swap_in(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@one_line
def main(arguments: list[str] | None = None) -> None:
    """Run `python -m deepfd.hub MODEL TARGET`."""
    parser = argparse.ArgumentParser(description="write a model as others get it, with its card")
    parser.add_argument("model", type=Path, help="a fitted detector, as models/deepfd/none/0")
    parser.add_argument("target", type=Path, help="the folder to write, as deepfd/models/orl")
    parser.add_argument("--results", type=Path, help="default: benchmarks/results.parquet")
    parser.add_argument("--terms", help="terms of the training photographs that bind the weights")
    options = parser.parse_args(arguments)
    ship(options.model, options.target, options.results, options.terms)


if __name__ == "__main__":
    main()
