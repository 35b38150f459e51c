"""Compute the ELBO of one VAE on one batch in four ways that share no code, and print the differences.

    python examples/cross_check_elbo.py

Weights, data and noise are fixed, in float64. Under the same noise, elbo(recon, kl) with the sampled kl equals Pyro's
Trace_ELBO. With the analytic kl it equals TraceMeanField_ELBO.
"""

import numpy as np
import pyro
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from pyro_vae import VAE, elbo, elbo_terms, likelihoods, nets, posteriors, priors

SEED = 1


def by_hand(vae: VAE, x: torch.Tensor) -> tuple[float, float, float]:
    """recon, sampled kl and analytic kl in NumPy, from the outputs of the two networks alone."""
    torch.manual_seed(SEED)
    noise = torch.randn(len(x), 2, dtype=torch.float64).numpy()
    out = vae.posterior.net(x).detach().numpy()
    mean, scale = out[:, :2], np.log1p(np.exp(out[:, 2:])) + 1e-6
    z = mean + scale * noise
    logits, pixels = vae.likelihood.net(torch.from_numpy(z)).detach().numpy(), x.numpy()
    recon = (pixels * logits - np.log1p(np.exp(logits))).sum()
    sampled = (-np.log(scale) - noise**2 / 2 + z**2 / 2).sum()  # log q - log p; the constants cancel
    analytic = ((mean**2 + scale**2 - 1) / 2 - np.log(scale)).sum()
    return recon, sampled, analytic


def main() -> float:
    torch.manual_seed(0)
    vae = VAE(
        prior=priors.StandardNormal(2),
        likelihood=likelihoods.Bernoulli(nets.MLP(2, (16,), (1, 8, 8))),
        posterior=posteriors.DiagonalNormal(nets.MLP((1, 8, 8), (16,), 2 * 2)),
    ).double()
    x = torch.rand(32, 1, 8, 8, dtype=torch.float64).round()
    recon, sampled, analytic = by_hand(vae, x)

    largest = 0.0
    for kl, loss, hand in (
        ("sampled", Trace_ELBO(), elbo(recon, sampled)),
        ("analytic", TraceMeanField_ELBO(), elbo(recon, analytic)),
    ):
        terms = elbo_terms(vae, x, kl=kl, seed=SEED)
        ours = elbo(terms.recon.sum().item(), terms.kl.sum().item())
        pyro.set_rng_seed(SEED)
        pyros = -loss.loss(vae.model, vae.guide, x)
        print(f"\n{kl} kl: elbo in nats, summed over {len(x)} images   relative difference from NumPy")
        for name, value in (("NumPy, by hand", hand), ("elbo(recon, kl)", ours), (type(loss).__name__, pyros)):
            difference = abs(value / hand - 1)
            largest = max(largest, difference)
            print(f"  {name:20} {value:.12f}   {difference:.1e}")
    print(f"\nlargest relative difference {largest:.1e}")
    return largest


if __name__ == "__main__":
    main()
