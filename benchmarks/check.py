"""Measure what a check costs: seconds per line, for a small VAE, a convolutional one and one of MNIST's size.

    python benchmarks/check.py                  # all of them, two threads
    python benchmarks/check.py --only small     # those with this in their name

The time of a line ends when the next one begins. If two lines need the same thing, its time counts for the first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from pyro.infer import Trace_ELBO

from pyro_vae import VAE, build
from pyro_vae.checks import check


def _small() -> tuple[VAE, torch.Tensor]:
    return build(8, 3, hidden=(8,)), torch.rand(32, 8).round()


def _convolutional() -> tuple[VAE, torch.Tensor]:
    return build((3, 64, 64), 16, nets="conv"), torch.rand(8, 3, 64, 64).round()


def _mnist() -> tuple[VAE, torch.Tensor]:
    return build((1, 28, 28), 50, hidden=(400,)), torch.rand(64, 1, 28, 28).round()


CASES: dict[str, tuple[Callable[[], tuple[VAE, torch.Tensor]], bool]] = {
    "small, 8 x 3, 32 examples": (_small, False),
    "small, 8 x 3, 32 examples, with an objective": (_small, True),
    "conv, 3 x 64 x 64, 8 examples": (_convolutional, False),
    "conv, 3 x 64 x 64, 8 examples, with an objective": (_convolutional, True),
    "784-400-50, 64 examples": (_mnist, False),
    "784-400-50, 64 examples, with an objective": (_mnist, True),
}


def seconds_by_line(vae: VAE, x: torch.Tensor, objective: Trace_ELBO | None) -> dict[str, float]:
    """Return the seconds of each line, in order, and of what comes before the first."""
    started: list[tuple[str, float]] = [("before the first line", time.perf_counter())]

    def begins(name: str) -> None:
        started.append((name, time.perf_counter()))

    check(vae, x, objective=objective, progress=begins)
    ends = [at for _, at in started[1:]] + [time.perf_counter()]
    return {name: end - at for (name, at), end in zip(started, ends, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.05, help="lines that took less seconds are not shown")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, (make, with_objective) in CASES.items():
        if options.only not in name:
            continue
        torch.manual_seed(0)
        vae, x = make()
        seconds = seconds_by_line(vae, x, Trace_ELBO() if with_objective else None)
        print(f"{name}: {sum(seconds.values()):.1f} s", flush=True)
        for line, took in sorted(seconds.items(), key=lambda item: -item[1]):
            if took >= options.least:
                print(f"  {took:7.2f}  {line}", flush=True)


if __name__ == "__main__":
    main()
