"""Sampling of a diffusers entry: this project's stage against the loop that diffusers documents.

    python -m benchmarks.speed.sampling ddpm --images 50 --rounds 3

Both make `images` pictures in batches of the entry's `batch`, with the same weights, scheduler,
steps and dtype on the same device, in turns. The plain loop is `pipe(batch_size=n).images`,
pictures in memory. The stage also loads the weights, brings pictures to the profile's size, and
writes them as PNG into Parquet, each from a random generator of its own. The bare forward pass is
the network alone, on noise, as often as the steps ask for: what no sampler can be faster than.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import diffusers
import torch

import generators
from benchmarks.speed.turns import OURS, Race, alike, rows
from generators import sample
from generators.adapters.diffusion import fetch
from generators.adapters.options import DiffusersGenerator
from pipeline import params
from pipeline.device import default_device
from pipeline.errors import UserError, one_line
from pipeline.params import Params

TARGET = 1.0
PLAIN = "pipe(batch_size=n)"
FORWARD = "the bare forward pass"


def _pipe(options: DiffusersGenerator) -> diffusers.DiffusionPipeline:
    """Load the pipeline of an entry as diffusers documents it."""
    folder = Path(options.weights)
    folder = folder if folder.is_dir() else fetch(folder)[0]
    dtype = getattr(torch, options.dtype)
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=dtype).to(default_device())
    scheduler = getattr(diffusers, str(generators.load(options).spec()["scheduler"]))
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _batches(options: DiffusersGenerator) -> Iterator[int]:
    for first in range(0, options.images, options.batch):
        yield min(options.batch, options.images - first)


def plain_loop(options: DiffusersGenerator) -> Callable[[], None]:
    """Build the loop of diffusers' documentation for an entry without prompts."""
    pipe = _pipe(options)

    def run() -> None:
        for count in _batches(options):
            pipe(batch_size=count, num_inference_steps=options.steps).images  # noqa: B018

    return run


def forward(options: DiffusersGenerator) -> Callable[[], None]:
    """Build the network's part of that loop alone."""
    pipe = _pipe(options)
    network, shape = pipe.unet, (pipe.unet.config.in_channels, *[pipe.unet.config.sample_size] * 2)
    pipe.scheduler.set_timesteps(options.steps)
    times = pipe.scheduler.timesteps

    @torch.no_grad()
    def run() -> None:
        for count in _batches(options):
            x = torch.randn(count, *shape, dtype=network.dtype, device=network.device)
            for time in times:
                network(x, time)

    return run


def stage(name: str, run: Params) -> Callable[[], None]:
    """Build a call of the sample stage into a fresh folder."""

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sample.sample(name, run, Path(folder))

    return call


def races(name: str, run: Params, images: int) -> list[Race]:
    """Build the comparison.

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
    ways = {OURS: stage(name, run), PLAIN: plain_loop(entry), FORWARD: forward(entry)}
    note = (
        f"`{name}`, {entry.steps} steps, batches of {entry.batch}; the target is that of the loop"
    )
    return [
        Race(f"sampling, {default_device()}", ways, alike(ways, "images", images), note, TARGET)
    ]


@one_line
def main() -> None:
    """Print the rates and their ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.sampling")
    parser.add_argument("name", help="an entry of `generators:` with adapter diffusers")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for race in races(args.name, params.load(), args.images):
        for row in rows(race, args.rounds):
            print(
                f"{default_device()}, {torch.get_num_threads()} threads, {row['way']}: "
                f"{row['rate_median']:.2f} images/s, ours {row['ratio_median']:.2f} times as fast"
            )


if __name__ == "__main__":
    main()
