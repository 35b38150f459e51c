"""Measure what mixed precision brings: steps on MNIST with the networks in bfloat16 and in float32, in turns.

    python benchmarks/mixed_precision.py

Both take the same compiled steps on the same batches, so that other work on the machine affects both alike. The figures
are medians over the rounds. The gain depends on the instructions of the CPU (AMX, AVX512-BF16), or on the GPU. Reads
MNIST as ``pyro-vae train --data mnist`` does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO
from svi.machine import machine

from pyro_vae import CompiledSVI, build, data
from pyro_vae.objectives import IWAE
from pyro_vae.training.optimizer import adamw
from pyro_vae.training.precision import in_mixed_precision

PUBLISHED: dict[str, Any] = {"latent_dim": 50, "hidden": (200, 200), "activation": "Tanh"}
CONV: dict[str, Any] = {"latent_dim": 40, "nets": "conv", "hidden": (256,)}
ROWS: list[tuple[str, dict[str, Any], ELBO, int]] = [
    ("784-200-200-50, batch 100", PUBLISHED, Trace_ELBO(), 100),
    ("the same, IWAE with 5 particles", PUBLISHED, IWAE(num_particles=5), 100),
    ("784-512-512-40, batch 128", {"latent_dim": 40, "hidden": (512, 512)}, Trace_ELBO(), 128),
    ("convolutional, batch 128", CONV, Trace_ELBO(), 128),
    ("the same, flow (MAF) for a prior", CONV | {"prior": {"class": "Flow", "flow": "MAF"}}, Trace_ELBO(), 128),
]


class Training:
    """Steps of one VAE, as ``fit`` takes them."""

    def __init__(self, options: dict[str, Any], objective: ELBO, batch: torch.Tensor, mixed: bool) -> None:
        torch.manual_seed(0)
        self.vae, self.batch = build((1, 28, 28), **options), batch
        self.precision = ExitStack()  # kept open: its end would make a new graph
        if mixed:
            self.precision.enter_context(in_mixed_precision(self.vae))
        optimizer = adamw(list(self.vae.parameters()), lr=1e-3)
        self.svi = CompiledSVI(self.vae.model, self.vae.guide, optimizer, loss=objective)

    def milliseconds(self, steps: int) -> float:
        """Of one step, on average over so many."""
        start = time.perf_counter()
        for _ in range(steps):
            self.svi.step(self.batch)
        return (time.perf_counter() - start) / steps * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="of each VAE in a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    images = data.load("mnist", binarize="dynamic").train
    print(f"{machine(options.threads)}\n\n| network | float32, ms | mixed, ms | ratio |\n| --- | ---: | ---: | ---: |")
    for name, made, objective, size in ROWS:
        (batch,) = next(iter(data.batches(images, size)))
        trainings = [Training(made, objective, batch, mixed) for mixed in (False, True)]
        for training in trainings:
            training.milliseconds(3)
        times = [[training.milliseconds(options.steps) for training in trainings] for _ in range(options.rounds)]
        exact, mixed = (statistics.median(taken) for taken in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        print(f"| {name} | {exact:.2f} | {mixed:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
