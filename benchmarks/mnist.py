"""Compare priors and posteriors on dynamically binarised MNIST, with the same networks and epochs.

    python benchmarks/mnist.py

Prints -ELBO and the negative log-likelihood of the 10,000 test images in nats for each pair. The latter is by
importance sampling (Burda et al. 2015, arXiv 1509.00519). Rows that ``--out`` already has are not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

from pyro_vae import VAE, average_elbo, build, data, fit
from pyro_vae.data.arrays import repeat_rows
from pyro_vae.seeds import seeded
from pyro_vae.vae import evaluating

ROWS = {
    "standard normal prior, normal posterior": ("StandardNormal", "DiagonalNormal"),
    "mixture prior (500), normal posterior": ({"class": "MixtureOfNormals", "components": 500}, "DiagonalNormal"),
    "VampPrior (500), normal posterior": ({"class": "VampPrior", "components": 500}, "DiagonalNormal"),
    "flow prior (MAF), normal posterior": ({"class": "Flow", "flow": "MAF"}, "DiagonalNormal"),
    "standard normal prior, inverse autoregressive posterior": ("StandardNormal", "InverseAutoregressiveFlow"),
}


def log_likelihood(vae: VAE, images: data.Images, num_particles: int, seed: int) -> torch.Tensor:
    """Log p(x) of each image in nats, estimated from ``particles`` draws of z: log mean p(x, z) / q(z | x)."""
    found = []
    with evaluating(vae), seeded(seed):
        for (x,) in data.batches(images, max(1, 20_000 // num_particles), seed=seed):
            posterior, prior = vae.encode(x), vae.prior_of()
            z = posterior.rsample((num_particles,))
            likelihood = (
                vae.decode(z.flatten(0, 1)).log_prob(repeat_rows(x, num_particles)).unflatten(0, (num_particles, -1))
            )
            weights = likelihood + prior.log_prob(z) - posterior.log_prob(z)
            found.append(torch.logsumexp(weights, dim=0) - math.log(num_particles))
    return torch.cat(found)


def row(name: str, epochs: int, num_particles: int, seed: int) -> dict[str, float | str]:
    prior, posterior = ROWS[name]
    images = data.load("mnist", binarize="dynamic")
    torch.manual_seed(seed)
    vae = build(images.event_shape, prior=prior, posterior=posterior)
    fit(vae, images.train, valid=images.valid, epochs=epochs, seed=seed)
    bound = average_elbo(vae, images.test, seed=seed)
    log_x = log_likelihood(vae, images.test, num_particles, seed)
    return {
        "name": name,
        "epochs": epochs,
        "seed": seed,
        "num_particles": num_particles,
        "elbo": bound.elbo,
        "kl": bound.kl,
        "log_likelihood": log_x.mean().item(),
        "standard_error": (log_x.std() / math.sqrt(len(log_x))).item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--num_particles", type=int, default=200, help="draws of z a test image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/mnist.jsonl"))
    options = parser.parse_args()

    settings = {"epochs": options.epochs, "seed": options.seed, "num_particles": options.num_particles}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    kept = {r["name"]: r for r in done if all(r[k] == v for k, v in settings.items())}
    for name in ROWS:
        if name not in kept:
            kept[name] = row(name, **settings)
            with options.out.open("a") as file:
                file.write(json.dumps(kept[name]) + "\n")
    plain = kept[next(iter(ROWS))]
    print("| | test -ELBO | test -log p(x) | better by |\n| --- | ---: | ---: | ---: |")
    for name in ROWS:
        r = kept[name]
        better = r["log_likelihood"] - plain["log_likelihood"]
        print(f"| {name} | {-r['elbo']:.2f} | {-r['log_likelihood']:.2f} ± {r['standard_error']:.2f} | {better:.2f} |")


if __name__ == "__main__":
    main()
