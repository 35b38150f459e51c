"""Compare likelihoods of grey images in one unit: bits per dimension of the grey levels.

    python benchmarks/bits_per_dim.py --data digits
    python benchmarks/bits_per_dim.py --data mnist --epochs 5

Likelihoods over the levels give the probability of a level k in 0, ..., L-1. Densities over the reals are trained and
tested on dequantised pixels x = (k + u) / L with u uniform on (0, 1). Then log P(k) >= E_u[log p(x)] - log L (Theis,
van den Oord and Bethge 2015, arXiv 1511.01844), so both kinds bound the same quantity: -ELBO / (pixels ln 2), plus
log2 L for densities. The mass of a density outside [0, 1] counts against it. Categorical is left out if its last layer
alone would have more than 20 million weights. Rows that ``--out`` already has are not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

from pyro_vae import average_elbo, build, data, fit
from pyro_vae.config import find

LIKELIHOODS = {
    "Categorical": {"class": "Categorical"},
    "DiscretizedLogistic": {"class": "DiscretizedLogistic", "scale": "per_element"},
    "DiscretizedLogisticMixture (5)": {"class": "DiscretizedLogisticMixture", "components": 5},
    "ContinuousBernoulli": {"class": "ContinuousBernoulli"},
    "Beta": {"class": "Beta"},
    "LogitNormal": {"class": "LogitNormal", "scale": "per_element"},
    "Normal, scale fixed at 1": {"class": "Normal", "scale": 1.0},
    "Normal, one learned scale": {"class": "Normal", "scale": "learned"},
    "Normal, optimal scale": {"class": "Normal", "scale": "optimal"},
    "Normal, scale per element": {"class": "Normal", "scale": "per_element"},
    "Laplace, scale per element": {"class": "Laplace", "scale": "per_element"},
    "StudentT, scale per element": {"class": "StudentT", "scale": "per_element"},
}


def row(name: str, data_name: str, epochs: int, hidden: int, seed: int) -> dict[str, float | str]:
    spec = dict(LIKELIHOODS[name])
    likelihood = find("likelihood", spec["class"])
    continuous = likelihood.data == "continuous"
    images = data.load(data_name, dequantize=continuous)
    levels, pixels = images.train.levels + 1, math.prod(images.event_shape)
    if not continuous:
        spec["levels"] = levels
    torch.manual_seed(seed)
    vae = build(images.event_shape, hidden=(hidden, hidden), likelihood=spec)
    fit(vae, images.train, valid=images.valid, epochs=epochs, lr=1e-3, seed=seed)
    found = average_elbo(vae, images.test, num_particles=10, seed=seed)
    bits = 1 / (pixels * math.log(2))
    return {
        "name": name,
        "bits": -found.elbo * bits + (math.log2(levels) if continuous else 0.0),
        "standard_error": found.standard_error * bits,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", choices=data.NAMES)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=512, help="width of the two hidden layers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bits_per_dim.jsonl"))
    options = parser.parse_args()

    settings = {"data_name": options.data, "epochs": options.epochs, "hidden": options.hidden, "seed": options.seed}
    levels = data.load(options.data).train.levels + 1
    pixels = math.prod(data.load(options.data).event_shape)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    kept = {r["name"]: r for r in done if all(r[k] == v for k, v in settings.items())}
    print("| likelihood | over | test bits per dimension |\n| --- | --- | ---: |")
    for name, spec in LIKELIHOODS.items():
        if name == "Categorical" and pixels * levels * options.hidden > 20e6:
            continue
        if name not in kept:
            kept[name] = {**settings, **row(name, **settings)}
            with options.out.open("a") as file:
                file.write(json.dumps(kept[name]) + "\n")
        over = "levels" if find("likelihood", spec["class"]).data == "levels" else "reals, dequantised"
        print(f"| {name} | {over} | {kept[name]['bits']:.3f} ± {kept[name]['standard_error']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
