"""What the random treatment costs: the same fit with and without it, in turn, on one thread.

    python -m benchmarks.speed.treatment deepfd --rounds 2

Seconds are of CPU time, which neighbours on the machine hardly move. The treated copies are made
once for all fits of a method (`deepfd.treatment`), so their cost is shared out over these.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from threadpoolctl import threadpool_limits

from benchmarks.fit import seeds_of
from benchmarks.methods import load_method
from deepfd import treatment
from deepfd.options import OnCrops
from pipeline import folds, params
from pipeline.errors import UserError, one_line
from pipeline.folds import Corpus
from pipeline.params import NONE, Params
from pipeline.seeds import seed_for


def _cpu(call: Callable[[], object]) -> float:
    """Return the seconds of CPU time, of all threads, that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(name: str, run: Params, corpus: Corpus, rounds: int) -> dict[str, float]:
    """Time a method's fit on all that is to be trained on, treated and not.

    Args:
        name: an entry of `methods:` with a treatment.
        run: the checked params.yaml.
        corpus: its images.
        rounds: how often each is fitted; medians count.

    Returns:
        Seconds of CPU time: `untreated` and `treated` (a fit, its copies made), `copies` (all of
        them, once), `fits` (how many fits of a run share them), and `share`: by how much
        treatment lengthens a fit of a run.

    Raises:
        UserError: no such method, or one without a treatment.
    """
    options = run.methods.get(name)
    if not isinstance(options, OnCrops) or options.treatment is None:
        raise UserError(f"method {name!r} is no entry of `methods` with a treatment; name one")
    options = options.model_copy(update={"refit": None})  # it makes soft copies of its own
    method, fold, finish = load_method(options.method), corpus.fold(NONE), run.faces.finish
    treatment._made.clear()  # of another run in this process
    copies = _cpu(lambda: method.prepare(corpus, options, finish))
    ways = {"untreated": options.model_copy(update={"treatment": None}), "treated": options}
    seconds: dict[str, list[float]] = {way: [] for way in ways}

    def fit(one: OnCrops, turn: int) -> None:
        seed = seed_for(run.seed, "fit", NONE, turn)
        method.fit(fold.train, fold.valid, one, seed, finish=finish)

    for turn in range(rounds):
        for way, one in ways.items():
            seconds[way].append(_cpu(partial(fit, one, turn)))
    found = {way: statistics.median(taken) for way, taken in seconds.items()}
    fits = len(run.folds()) * len(seeds_of(run, name))
    more = found["treated"] - found["untreated"] + copies / fits
    return {**found, "copies": copies, "fits": fits, "share": more / found["untreated"]}


@one_line
def main() -> None:
    """Print the times and what the treatment adds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.treatment")
    parser.add_argument("name", help="an entry of `methods:` with a treatment")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    run = params.load()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = compare(args.name, run, folds.load(run), args.rounds)
    print(
        f"{args.name}, one thread: a fit {found['untreated']:.1f} s untreated, "
        f"{found['treated']:.1f} s treated; the copies {found['copies']:.1f} s, shared by "
        f"{found['fits']} fits: {found['share']:+.0%}"
    )


if __name__ == "__main__":
    main()
