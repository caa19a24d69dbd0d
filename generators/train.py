"""Train a generator on the photographs of the profile: `python -m generators.train <name>`.

Reads data/manifests/real_<collection> (train split only) and generators/params.yaml; writes
safetensors and a card into generators/runs/<faces>/<name>/. A run goes on from its last checkpoint,
bit for bit, because every random draw is named by the number of its step. Beside it, in
<name>.run/: the checkpoint, a contact sheet and `distance.csv`, how far samples are from the
photographs of the valid split (measuring/distance.py), so that the distance can be seen falling.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

from generators.measuring.distance import Distance, features, kernel_distance
from generators.measuring.quality import contact_sheet
from generators.training.differences import differences, network_of
from generators.training.trainer import MakeTrainer, Trainer
from pipeline import cores, folds, images, manifest
from pipeline import params as params_module
from pipeline.device import default_device
from pipeline.errors import UserError, one_line
from pipeline.seeds import seed_for
from pipeline.softness import soft

RECIPES = Path("generators/params.yaml")
CHECKPOINT_SECONDS = 120.0
SHEET = (2, 10)  # rows and columns of the contact sheet of a run
# Samples are looked at and measured every third checkpoint, less often where that would take more
# than a twentieth of the time.
LOOK_SECONDS, LOOK_SHARE = 3 * CHECKPOINT_SECONDS, 20
MEASURED = 256
SOFT_COPIES = 2


def recipe_options(faces: str, name: str, path: Path = RECIPES) -> dict[str, Any]:
    """Read how `name` is trained on `faces`.

    Raises:
        UserError: the file has no such faces or generator, or asks for other photographs than soft.
    """
    recipes = yaml.safe_load(path.read_text())
    seed = recipes.pop("seed")
    if faces not in recipes:
        raise UserError(f"{path} has no block {faces!r}; expected one of {', '.join(recipes)}")
    if name not in recipes[faces]:
        known = ", ".join(recipes[faces])
        raise UserError(f"{path}: {faces} has no generator {name!r}; expected one of {known}")
    options = {**recipes[faces][name], "seed": seed}
    if (photographs := options.get("photographs", "soft")) != "soft":
        raise UserError(
            f"{path}: {faces}.{name} has photographs {photographs!r}; expected soft or no line"
        )
    return options


def make_trainer(
    name: str, options: Mapping[str, Any], channels: int, size: int, device: torch.device
) -> Trainer:
    """Build the trainer of generator `name`, by the RECIPE of its network's module in networks/.

    Raises:
        UserError: no such module, or what the recipe refuses.
    """
    network = network_of(name, options)
    if find_spec(f"generators.networks.{network}") is None:
        raise UserError(f"generators/networks/{network}.py not found; expected a RECIPE there")
    make: MakeTrainer = import_module(f"generators.networks.{network}").RECIPE
    return make(options, channels, size, seed_for(int(options["seed"]), "train", network), device)


def load_faces(settings: params_module.Params, split: str = "train") -> torch.Tensor:
    """Read a split of all collections that may be trained on, as uint8 (N, C, H, W)."""
    found = []
    for name in settings.train_collections:
        folder = folds.MANIFESTS / folds.sources(settings)[name]
        frame = manifest.read(folder, columns=["image", "split"])
        found.append(manifest.pixels(frame[frame["split"] == split]))
    return torch.from_numpy(np.concatenate(found)).permute(0, 3, 1, 2).contiguous()


def made_soft(faces: torch.Tensor, seed: int) -> torch.Tensor:
    """Make photographs soft, each in `SOFT_COPIES` ways (pipeline/softness.py).

    Args:
        faces: uint8 (N, C, H, W).
        seed: of the draws.

    Returns:
        uint8 (SOFT_COPIES * N, C, H, W).
    """
    pictures = faces.permute(0, 2, 3, 1).numpy()

    def one(copy: int, place: int) -> np.ndarray:
        draw = np.random.default_rng([seed, copy, place])
        picture = soft(draw)(images.to_pil(pictures[place]), draw)
        return np.asarray(picture, dtype=np.uint8).reshape(pictures.shape[1:])

    copies, places = np.divmod(np.arange(SOFT_COPIES * len(pictures)), len(pictures))
    with ThreadPoolExecutor(cores.available()) as pool:  # Pillow frees the interpreter
        found = np.stack(list(pool.map(one, copies.tolist(), places.tolist())))
    return torch.from_numpy(found).permute(0, 3, 1, 2).contiguous()


def draw_batch(faces: torch.Tensor, count: int, random: torch.Generator) -> torch.Tensor:
    """Draw `count` photographs, each flipped or not: float32 (count, C, H, W) in [-1, 1]."""
    index = torch.randint(len(faces), (count,), generator=random)
    flip = torch.rand(count, 1, 1, 1, generator=random) < 0.5
    batch = faces[index]
    batch = torch.where(flip, batch.flip(3), batch).float() / 127.5 - 1.0
    return batch.contiguous(memory_format=torch.channels_last)


def save_checkpoint(path: Path, trainer: Trainer, step: int, options: Mapping[str, Any]) -> None:
    """Write the trainer's state atomically."""
    buffer = io.BytesIO()
    torch.save({"state": trainer.state(), "step": step, "options": dict(options)}, buffer)
    manifest.write_atomic(path, buffer.getvalue())


def resume(path: Path, trainer: Trainer, options: Mapping[str, Any]) -> int:
    """Restore a checkpoint if there is one; return the number of steps already made.

    Raises:
        UserError: the checkpoint was made with other options.
    """
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True, map_location=trainer.device)
    differ = {
        key: (saved["options"].get(key), options.get(key))
        for key in sorted({*saved["options"], *options} - {"images"})  # longer or shorter is fine
        if saved["options"].get(key) != options.get(key)
    }
    if differ:
        listed = ", ".join(f"{key} was {was}, is {now}" for key, (was, now) in differ.items())
        raise UserError(
            f"{path} was made with other options ({listed}); set them back or delete it"
        )
    trainer.restore(saved["state"])
    return int(saved["step"])


def look(
    trainer: Trainer, shown: int, total: int, side: int, photographs: np.ndarray, floor: Distance,
    work: Path,
) -> None:  # fmt: skip
    """Write a contact sheet of the run, and a line more of its distance from photographs.

    Args:
        trainer: the run.
        shown: images shown so far.
        total: images of the whole training.
        side: pixels of the photographs.
        photographs: features of photographs that are not trained on, (N, D).
        floor: the distance of training photographs from these.
        work: folder of the run.
    """
    made = trainer.samples(MEASURED, shown / total, side)
    sheet = contact_sheet(made[: SHEET[0] * SHEET[1]], SHEET[1])
    manifest.write_atomic(work / "sheet.png", images.encode_png(sheet))
    found = kernel_distance(features(made), photographs)
    table = work / "distance.csv"
    old = table.read_text() if table.exists() else "images,distance,error,floor,floor_error\n"
    numbers = (f"{number:.5g}" for number in (*found, *floor))
    manifest.write_atomic(table, f"{old}{shown},{','.join(numbers)}\n".encode())


def train(
    name: str, faces_name: str, options: Mapping[str, Any], faces: torch.Tensor, out: Path,
    unseen: torch.Tensor | None = None,
) -> None:  # fmt: skip
    """Train generator `name` to `options["images"]`, going on from a checkpoint if there is one.

    Args:
        name: of the weights; a module in networks/, or `options` name one as `network`.
        faces_name: what the photographs are called.
        options: of `recipe_options`.
        faces: photographs to train on, uint8 (N, C, H, W).
        out: folder for weights and card; the run works in `<out>.run`.
        unseen: other photographs, to measure the samples against; nothing is learned from them.
    """
    # What is shown: photographs as they are, or made soft.
    kind = "photographs"
    if "photographs" in options:
        kind, faces = "soft copies of photographs", made_soft(faces, options["seed"])
        unseen = None if unseen is None else made_soft(unseen, options["seed"] + 1)

    # Begin, or go on from the checkpoint of a run with the same options on the same photographs.
    _, channels, size, _ = faces.shape
    trainer = make_trainer(name, options, channels, size, default_device())
    work = out.with_name(f"{out.name}.run")
    work.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(faces.numpy().tobytes()).hexdigest()
    options = {**options, "faces_sha256": digest}
    step = resume(work / "checkpoint.pt", trainer, options)
    per_step, total = trainer.images_per_step, int(options["images"])

    # What samples are measured against.
    if unseen is not None:
        photographs = features(unseen[:MEASURED].permute(0, 2, 3, 1).numpy())
        same = features(faces[:MEASURED].permute(0, 2, 3, 1).numpy())
        floor = kernel_distance(same, photographs)

    # Train; now and then write a checkpoint, and look at samples.
    saved = time.monotonic()
    due, losses = saved + LOOK_SECONDS, {}
    bar = tqdm(total=total, initial=min(step * per_step, total), unit="image", desc=name,
               smoothing=0.1, mininterval=5.0)  # fmt: skip
    with bar:
        while step * per_step < total:
            random = torch.Generator().manual_seed(seed_for(int(options["seed"]), "faces", step))
            losses = trainer.step(
                lambda random=random: draw_batch(faces, trainer.batch, random),
                step,
                step * per_step / total,
            )
            if not all(np.isfinite(value) for value in losses.values()):
                raise UserError(f"{name}: a loss is not finite at step {step} ({losses}); lower lr")
            step += 1
            bar.update(per_step)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                bar.set_postfix({key: f"{value:.3f}" for key, value in losses.items()})
                save_checkpoint(work / "checkpoint.pt", trainer, step, options)
                start = saved = time.monotonic()
                if unseen is not None and start >= due:
                    look(trainer, step * per_step, total, size, photographs, floor, work)
                    saved = time.monotonic()
                    due = saved + max(LOOK_SECONDS, LOOK_SHARE * (saved - start))
    save_checkpoint(work / "checkpoint.pt", trainer, step, options)
    if unseen is not None:
        look(trainer, step * per_step, total, size, photographs, floor, work)

    # Write weights and card.
    out.mkdir(parents=True, exist_ok=True)
    card = {
        "name": name,
        "adapter": network_of(name, options),
        "source": f"trained by this repository: python -m generators.train {name}",
        "training": options,
        "differences": differences(name, options),
        "licence": LICENCES.get(faces_name, "the licence of the photographs it was trained on"),
        "training_data": f"{len(faces)} {kind} of {faces_name} (train split)",
        "faces_sha256": digest,
        "resolution": size,
        "channels": channels,
    }
    trainer.save(out, name, card)


LICENCES = {
    "orl": "MIT for the weights; trained on the AT&T/ORL faces (credit to AT&T Laboratories "
    "Cambridge), research use",
    "celeba": "trained on CelebA: non-commercial research only, no redistribution of its images",
}


@one_line
def main() -> None:
    """Read argv, params and faces; train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help=f"an entry of the profile in {RECIPES}")
    parser.add_argument("--out", type=Path, help="folder (generators/runs/<profile>/<name>)")
    parser.add_argument("--profile", help="refuse to train on the photographs of another profile")
    args = parser.parse_args()
    settings = params_module.load()
    profile = settings.profile
    if args.profile not in (None, profile):
        raise UserError(
            f"params.yaml is profile {profile}, expected {args.profile}: its photographs are "
            f"needed; switch: python -m pipeline.operate.profile {args.profile}"
        )
    options = recipe_options(profile, args.name)
    out = args.out or Path("generators/runs") / profile / args.name
    train(args.name, profile, options, load_faces(settings), out, load_faces(settings, "valid"))


if __name__ == "__main__":
    main()
