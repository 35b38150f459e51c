"""Bring posterior collapse about, diagnose it, and cure it.

    python examples/posterior_collapse.py [figure.png]

A VAE of grey digits has a normal likelihood of scale 1, which is what a squared error means. It trains without an
error, but its codes carry nothing. The report says so, names the cause, and lists remedies. The example trains each
remedy and compares them by log p(x) of the test images. Here the scale is the cause. A warm-up of the KL does not help.
Free bits make codes that lower log p(x). A scale that follows the data helps.
"""

import sys

import torch
from matplotlib.figure import Figure

from pyro_vae import build, data, fit
from pyro_vae.evaluation import collapse, importance_sampling
from pyro_vae.objectives import BetaELBO, FreeBits, Linear

LATENT = 20
SHOWN = 12


def train(digits, epochs, scale=1.0, objective=None):
    torch.manual_seed(0)
    likelihood = {"class": "Normal", "scale": scale}
    vae = build(digits.event_shape, LATENT, hidden=(256,), likelihood=likelihood)
    fit(vae, digits.train, epochs=epochs, objective=objective, seed=0, progress=False)
    return vae


def main(path=None, epochs=150):
    digits = data.load("digits", dequantize=True)
    steps = epochs * len(data.batches(digits.train))
    (x,) = next(iter(data.batches(digits.test, len(digits.test), seed=0)))

    vaes = {"scale 1": train(digits, epochs)}
    report = collapse(vaes["scale 1"], x, steps=steps)
    print("collapsed:", report.kind)
    for line in report.evidence:
        print(" ", line)
    for remedy in report.remedies:
        print(f"  try {remedy}")

    warm_up = BetaELBO(Linear(steps=0.3 * steps))
    vaes["scale 1, warm-up"] = train(digits, epochs, objective=warm_up)
    vaes["scale 1, free bits"] = train(digits, epochs, objective=FreeBits(0.1))
    vaes["scale optimal"] = train(digits, epochs, scale="optimal")

    results = {}
    print("\n                    active units  I(x; z)   log p(x)")
    for name, vae in vaes.items():
        use = collapse(vae, x).use
        log_prob = importance_sampling(vae, x, num_particles=1000).mean
        results[name] = (use.active_units, use.mutual_information, log_prob)
        print(f"{name:20}  {use.active_units:2} of {use.size}   {use.mutual_information:7.2f}  {log_prob:9.2f}")
    if path:
        draw(vaes, x[:SHOWN]).savefig(path)
    return report, results


def draw(vaes, x):
    figure = Figure(figsize=(9, 0.85 * (1 + len(vaes))), dpi=150, layout="constrained")
    rows = {"test images": x, **{name: vae.reconstruct(x) for name, vae in vaes.items()}}
    for axis, (name, images) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        strip = torch.nn.functional.pad(images[:, 0], (1, 1, 1, 1)).transpose(0, 1).flatten(1)
        axis.imshow(strip.numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle("Reconstructions: where codes carry nothing, all are the mean image")
    return figure


if __name__ == "__main__":
    main(*sys.argv[1:2])
