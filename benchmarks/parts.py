"""Measure what each prior and each posterior costs: an epoch of MNIST beside the plain VAE's.

    python benchmarks/parts.py

All VAEs take the same steps in turns, so that other work on the machine affects all alike. The figures are medians over
the rounds. Reads MNIST as ``pyro-vae train --data mnist`` does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from pyro.infer import SVI

from pyro_vae import build, data
from pyro_vae.config import make_objective
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.training.optimizer import adamw
from pyro_vae.training.preparation import start_from_data
from pyro_vae.training.run import without_validation

NORMAL, STANDARD = "DiagonalNormal", "StandardNormal"
PAIRS = [
    (STANDARD, NORMAL),
    ("Normal", NORMAL),
    ("Laplace", NORMAL),
    ("StudentT", NORMAL),
    ({"class": "MixtureOfNormals", "components": 500}, NORMAL),
    ({"class": "VampPrior", "components": 500}, NORMAL),
    ({"class": "Exemplar", "components": 500}, NORMAL),
    ({"class": "Flow", "flow": "MAF"}, NORMAL),
    ({"class": "Flow", "flow": "NSF"}, NORMAL),
    (STANDARD, "FullNormal"),
    (STANDARD, "LowRankNormal"),
    (STANDARD, "Laplace"),
    (STANDARD, "Householder"),
    (STANDARD, "InverseAutoregressiveFlow"),
    (STANDARD, "Flow"),
    (STANDARD, "Delta"),
    ("UniformOnSphere", "PowerSpherical"),
    ("LogisticNormal", "LogisticNormal"),
    ("Dirichlet", "LogisticNormal"),
    ({"class": "RelaxedCategorical", "classes": 10}, {"class": "RelaxedCategorical", "classes": 10}),
    ({"class": "Categorical", "classes": 10}, {"class": "Categorical", "classes": 10}),
]


def named(spec: str | dict) -> str:
    if isinstance(spec, str):
        return spec
    return f"{spec['class']}({', '.join(str(v) for k, v in spec.items() if k != 'class')})"


class Training:
    """Steps of one VAE, as ``fit`` takes them."""

    def __init__(self, prior: str | dict, posterior: str | dict, images: data.Images) -> None:
        torch.manual_seed(0)
        self.vae = build((1, 28, 28), prior=prior, posterior=posterior)
        batches = data.batches(images, 128, shuffle=True)
        start_from_data(self.vae, batches)
        parameters = [p for p in self.vae.parameters() if p.requires_grad]
        optimizer = SharedOptim(adamw(parameters, lr=1e-3))
        self.svi = SVI(self.vae.model, self.vae.guide, optimizer, loss=make_objective("auto", self.vae))
        self.batches: Iterator[tuple[torch.Tensor, ...]] = batches.epoch(0)

    def seconds(self, steps: int) -> float:
        """Of one step, on average over so many."""
        start = time.perf_counter()
        for _ in range(steps):
            self.svi.step(*next(self.batches))
        return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="steps of each VAE in a round")
    options = parser.parse_args()

    images = data.load("mnist", binarize="dynamic").train
    trainings = [Training(prior, posterior, images) for prior, posterior in PAIRS]
    times: list[list[float]] = [[] for _ in trainings]
    with without_validation():
        for training in trainings:
            training.seconds(3)
        for _ in range(options.rounds):
            for training, taken in zip(trainings, times, strict=True):
                taken.append(training.seconds(options.steps))
    steps_an_epoch = len(data.batches(images, 128))
    plain = times[0]
    print("| prior | posterior | an epoch, s | against the first row |\n| --- | --- | ---: | ---: |")
    for (prior, posterior), taken in zip(PAIRS, times, strict=True):
        ratio = statistics.median(t / p for t, p in zip(taken, plain, strict=True))
        epoch = statistics.median(taken) * steps_an_epoch
        print(f"| {named(prior)} | {named(posterior)} | {epoch:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
