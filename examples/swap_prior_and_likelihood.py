"""Your own prior and your own likelihood in the place of ours.

    python examples/swap_prior_and_likelihood.py

A prior is anything that returns a distribution over z, a likelihood anything that takes z and returns one over x.
Here the prior is a Student t with a learned tail and the likelihood a Laplace with a learned scale, over grey digits.
"""

import pyro.distributions as dist
import torch
from torch import nn

from pyro_vae import VAE, average_elbo, data, fit, likelihoods, nets, posteriors, priors


class StudentTPrior(nn.Module):
    """A heavy-tailed prior whose degrees of freedom are learned."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.raw_df = nn.Parameter(torch.tensor(3.0))

    def forward(self) -> dist.Distribution:
        df = 2 + nn.functional.softplus(self.raw_df)
        return dist.StudentT(df, df.new_zeros(self.latent_dim), 1.0).to_event(1)


class LaplaceLikelihood(nn.Module):
    """Absolute instead of squared errors, with one learned scale."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.raw_scale = nn.Parameter(torch.tensor(0.0))

    def forward(self, z: torch.Tensor) -> dist.Distribution:
        scale = nn.functional.softplus(self.raw_scale) + 1e-6
        return dist.Laplace(self.net(z), scale).to_event(3)  # channels, height and width are one event


def main(epochs: int = 30) -> dict[str, float]:
    # Densities over the reals need grey values that fill the interval, not a grid: dequantize.
    digits = data.load("digits", dequantize=True)
    choices = {
        "standard normal prior, normal likelihood": (priors.StandardNormal, likelihoods.Normal),
        "standard normal prior, Laplace likelihood": (priors.StandardNormal, LaplaceLikelihood),
        "Student t prior,       normal likelihood": (StudentTPrior, likelihoods.Normal),
        "Student t prior,       Laplace likelihood": (StudentTPrior, LaplaceLikelihood),
    }
    results = {}
    for name, (prior, likelihood) in choices.items():
        torch.manual_seed(0)
        vae = VAE(
            prior=prior(8),
            likelihood=likelihood(nets.MLP(8, (128,), (1, 8, 8))),
            posterior=posteriors.DiagonalNormal(nets.MLP((1, 8, 8), (128,), 2 * 8)),
        )
        fit(vae, digits.train, valid=digits.valid, epochs=epochs, progress=False)
        results[name] = average_elbo(vae, digits.test).elbo
        print(f"{name}   test elbo {results[name]:6.2f} nats an image")
    return results


if __name__ == "__main__":
    main()
