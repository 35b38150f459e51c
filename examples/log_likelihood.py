"""Estimate log p(x) of digits under a trained VAE in independent ways, which agree within their errors.

    python examples/log_likelihood.py [figure.png]

With two latent dimensions, quadrature gives log p(x) to six digits. Importance sampling from q comes close. So does
annealed importance sampling, from below and, on simulated digits, above. These two also work in more dimensions.
"""

import math
import sys

import torch
from matplotlib.figure import Figure

from pyro_vae import build, data, fit
from pyro_vae.evaluation import Annealing, importance_sampling, quadrature, sandwich

BOUNDS = (1, 10, 100, 1000, 5000)


def trained(epochs, hidden, seed):
    digits = data.load("digits", binarize="dynamic")
    torch.manual_seed(seed)
    vae = build(digits.event_shape, latent_dim=2, hidden=hidden)
    fit(vae, digits.train, valid=digits.valid, epochs=epochs, seed=seed, progress=False)
    test = torch.cat([x for (x,) in data.batches(digits.test, 300, seed=seed)])
    return vae.double(), test.double()  # in float32 rounding alone is 1e-5 nats


def compare(vae, x, temperatures=150, chains=8, num_particles=5000, seed=0):
    """Estimates beside quadrature: (data, method, quadrature's, the method's)."""
    simulated = sandwich(vae, x, num_particles=chains, annealing=Annealing(temperatures, start="posterior"), seed=seed)
    rows, bounds = [], [k for k in BOUNDS if k <= num_particles]
    for name, each in (("test digits", x), ("simulated digits", simulated.x)):
        exact = quadrature(vae, each)
        found = importance_sampling(vae, each, num_particles=num_particles, bounds=bounds, seed=seed)
        rows.append((name, "importance sampling", exact, found))
    rows.append((name, "annealed, from below", exact, simulated.lower))
    return [*rows, (name, "annealed, from above", exact, simulated.upper)]


def figure(rows):
    picture = Figure(figsize=(11, 4), dpi=150, layout="constrained")
    each, rise = picture.subplots(1, 2, width_ratios=(5, 3))
    for i, (_, method, exact, found) in enumerate(rows[1:]):
        place, colour = torch.arange(len(exact.log_prob)) + 0.75 + i / 4, ("#0b6e99", "#d9822b", "#a23b72")[i]
        off, error = found.log_prob - exact.log_prob, 2 * found.standard_error
        each.errorbar(place, off, error, fmt="o", ms=4, lw=1.3, color=colour, label=method)
    each.axhline(0, color="black", lw=1, zorder=0, label="quadrature")
    each.set(xlabel="digit simulated from the model", ylabel="nats from quadrature", xticks=range(1, len(place) + 1))
    exact, found = rows[0][2:]
    means = [bound.mean() for bound in found.bounds.values()]
    rise.semilogx(list(found.bounds), means, "o-", color="#0b6e99", label="bound of k draws (1: ELBO)")
    rise.axhline(exact.mean, color="black", lw=1, zorder=0, label="quadrature")
    rise.set(xlabel="draws k", ylabel="log p(x), nats per test digit", xlim=(0.7, 8000))
    each.set_title("Estimates of log p(x), with two standard errors", fontsize=11, pad=24)
    rise.set_title("Bounds rise to log p(x)", fontsize=11, pad=24)
    for axis in (each, rise):
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return picture


def main(path=None, images=16, epochs=60, hidden=(128, 128), seed=0, **settings):
    vae, test = trained(epochs, hidden, seed)
    rows, scores = compare(vae, test[:images], seed=seed, **settings), {}
    print(f"{'':40}{'mean log p(x)':>14}{'error':>10}{'quadrature':>12}{'error':>10}{'z':>7}")
    for name, method, exact, found in rows:
        error = math.hypot(found.mean_standard_error, exact.error.mean().item())
        scores[name, method] = z = (found.mean - exact.mean) / error
        numbers = f"{found.mean:14.4f}{error:10.1e}{exact.mean:12.4f}{exact.error.mean():10.1e}{z:7.2f}"
        print(f"{name:18}{method:22}{numbers}")
    if path is not None:
        figure(rows).savefig(path)
    return rows, scores


if __name__ == "__main__":
    main(*sys.argv[1:2])
