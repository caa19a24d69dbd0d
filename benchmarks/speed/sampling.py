"""Sampling of a diffusers entry: this project's stage against the loop that diffusers documents.

    python -m benchmarks.speed.sampling ddpm --images 50 --rounds 3

Both make `images` pictures in batches of the entry's `batch`, with the same weights, scheduler,
steps and dtype on the same device, in turn. The plain loop is `pipe(batch_size=n).images`, pictures
in memory. The stage also brings them to the profile's size, and writes them as PNG into Parquet,
each from a random generator of its own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch

import generators
from generators import sample
from generators.adapters.diffusion import fetch
from generators.adapters.options import DiffusersGenerator
from pipeline import params
from pipeline.device import default_device
from pipeline.errors import UserError, one_line
from pipeline.params import Params


def plain_loop(options: DiffusersGenerator, images: int) -> Callable[[], None]:
    """Build the loop of diffusers' documentation for an entry without prompts."""
    folder = Path(options.weights)
    folder = folder if folder.is_dir() else fetch(folder)[0]
    dtype = getattr(torch, options.dtype)
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=dtype).to(default_device())
    scheduler = getattr(diffusers, str(generators.load(options).spec()["scheduler"]))
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def run() -> None:
        for first in range(0, images, options.batch):
            count = min(options.batch, images - first)
            pipe(batch_size=count, num_inference_steps=options.steps).images  # noqa: B018

    return run


def stage(name: str, run: Params) -> Callable[[], None]:
    """Build a call of the sample stage into a fresh folder."""

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sample.sample(name, run, Path(folder))

    return call


def compare(name: str, run: Params, images: int, rounds: int) -> dict[str, float]:
    """Return the median images per second of `plain` and `stage` over `rounds`, taken in turn.

    Raises:
        UserError: the entry is no unconditional pipeline of diffusers.
    """
    options = run.generators.get(name)
    if not isinstance(options, DiffusersGenerator) or options.prompts:
        raise UserError(f"generator {name!r} is no unconditional diffusers entry of params.yaml")
    # Whole batches: the stage samples no others.
    images = -(-images // options.batch) * options.batch
    entry = options.model_copy(update={"images": images})
    run = run.model_copy(update={"generators": {**run.generators, name: entry}})
    ways = {"plain": plain_loop(entry, images), "stage": stage(name, run)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, call in ways.items():
            start = time.perf_counter()
            call()
            if turn:  # the first warms up
                seconds[way].append(time.perf_counter() - start)
    return {way: images / statistics.median(taken) for way, taken in seconds.items()}


@one_line
def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.sampling")
    parser.add_argument("name", help="an entry of `generators:` with adapter diffusers")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rates = compare(args.name, params.load(), args.images, args.rounds)
    print(
        f"{default_device()}, {torch.get_num_threads()} threads: "
        f"plain loop {rates['plain']:.2f} images/s, "
        f"sample stage {rates['stage']:.2f} images/s, ratio {rates['stage'] / rates['plain']:.2f}"
    )


if __name__ == "__main__":
    main()
