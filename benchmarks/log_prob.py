"""Measure what log p(x) by importance sampling costs: ours, pythae's get_nll, and the matrix products alone.

    python benchmarks/log_prob.py

5,000 draws per image, medians over rounds in which all take turns. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from svi.machine import machine  # noqa: E402

from pyro_vae import VAE, data, likelihoods, nets, priors  # noqa: E402
from pyro_vae.evaluation import importance_sampling  # noqa: E402

DRAWS, LATENT, PIXELS = 5000, 50, 784
NETWORKS = {"784-200-200-50": ((200, 200), "Tanh"), "784-512-50": ((512,), "ReLU")}
OURS, EAGER, PYTHAE, FLOOR = "ours", "ours, not compiled", "pythae's get_nll", "the decoder's matrix products alone"
IMAGES = {OURS: 64, EAGER: 64, PYTHAE: 3, FLOOR: 64}


class LogVariances(nn.Module):
    """q(z | x) with log variances, as pythae has it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        """q(z | x)."""
        loc, log_variance = self.net(x).chunk(2, -1)
        return dist.Normal(loc, (log_variance / 2).exp()).to_event(1)


def pythaes(vae: VAE) -> Any:
    """The same networks in pythae's VAE, which wants probabilities from its decoder."""
    from pythae import models
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def forward(self, x: Tensor) -> ModelOutput:
            loc, log_variance = vae.posterior.net(x).chunk(2, -1)
            return ModelOutput(embedding=loc, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=vae.likelihood.net(z).sigmoid())

    config = models.VAEConfig(input_dim=(PIXELS,), latent_dim=LATENT, reconstruction_loss="bce")
    return models.VAE(config, Encoder(), Decoder()).eval()


def products(weights: list[Tensor], rows: int) -> None:
    z = torch.randn(1024, LATENT)
    for _ in range(rows // 1024):
        h = z
        for weight in weights:
            h = h @ weight.T


def measure(hidden: tuple[int, ...], activation: str, x: Tensor, rounds: int) -> dict[str, list[float]]:
    """Milliseconds an image in each round."""
    torch.manual_seed(0)
    encoder = nets.MLP((PIXELS,), hidden, 2 * LATENT, activation=activation)
    decoder = nets.MLP(LATENT, hidden[::-1], (PIXELS,), activation=activation)
    vae = VAE(priors.StandardNormal(LATENT), likelihoods.Bernoulli(decoder), LogVariances(encoder)).eval()
    theirs, weights = pythaes(vae), [m.weight.detach() for m in decoder.modules() if isinstance(m, nn.Linear)]
    estimates: dict[str, float] = {}

    def ours(name: str) -> None:
        found = importance_sampling(vae, x[: IMAGES[name]], num_particles=DRAWS, compiled=name == OURS)
        estimates[name] = found.log_prob[: IMAGES[PYTHAE]].mean().item()

    def get_nll(name: str) -> None:
        estimates[name] = theirs.get_nll(x[: IMAGES[name]], n_samples=DRAWS, batch_size=100)

    ways = {OURS: ours, EAGER: ours, PYTHAE: get_nll, FLOOR: lambda name: products(weights, DRAWS * IMAGES[name])}
    ms: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for number in range(rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way(name)
                if number:  # the first round warms up
                    ms[name].append((time.perf_counter() - start) / IMAGES[name] * 1000)
    print(f"\nlog p of the first {IMAGES[PYTHAE]} images: {', '.join(f'{k} {v:.2f}' for k, v in estimates.items())}\n")
    return ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with MNIST; by default $PYRO_VAE_DATA")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    images = data.load("mnist", options.root, binarize="threshold").test[: max(IMAGES.values())]
    x = next(iter(data.batches(images, len(images))))[0].flatten(1)
    print(machine(torch.get_num_threads()))
    for title, (hidden, activation) in NETWORKS.items():
        ms = measure(hidden, activation, x, options.rounds)
        print(
            f"| {title} | ms an image | range | times the products | times ours |\n| --- | ---: | ---: | ---: | ---: |"
        )
        for name, values in ms.items():
            floor, ours = (np.median(np.array(values) / np.array(ms[other])) for other in (FLOOR, OURS))
            spread = f"{min(values):.1f}-{max(values):.1f}"
            print(f"| {name} | {np.median(values):.1f} | {spread} | {floor:.2f} | {ours:.2f} |")


if __name__ == "__main__":
    main()
