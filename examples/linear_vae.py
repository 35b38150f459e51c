"""Train a linear VAE by stochastic gradients and compare it with the exact maximum likelihood: PCA.

    python examples/linear_vae.py

With linear networks and one learned noise scale, a VAE is probabilistic PCA. Its best weights come from an
eigendecomposition (Tipping and Bishop 1999). At these weights, the ELBO with a diagonal posterior equals the
log-likelihood (Lucas et al. 2019, arXiv 1911.02469). So we can see how near to the optimum the training comes. The
training does not use the optimum.
"""

import time

import torch

from pyro_vae import VAE, data, fit, likelihoods, nets, posteriors, priors
from pyro_vae.closed_forms import LinearGaussian
from pyro_vae.distributions import positive

# Of the first ten eigenvalues of the digits' covariance, the fourth stands out most from the one after it (1.45 times).
# Where two are nearly equal, a subspace with either direction is nearly as likely, and the angle would say little.
LATENT_DIM = 4


def digits() -> torch.Tensor:
    """The training digits, (1297, 64), with the noise of dequantisation drawn once: both are to see the same data."""
    images = data.load("digits", dequantize=True).train
    return images.to_x(images.pixels, torch.float64, torch.Generator().manual_seed(0)).flatten(1)


def train(x: torch.Tensor, latent_dim: int, epochs: int, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    vae = VAE(
        prior=priors.StandardNormal(latent_dim),
        likelihood=likelihoods.Normal(nets.MLP(latent_dim, (), x.shape[1]), scale="learned"),
        posterior=posteriors.DiagonalNormal(nets.MLP(x.shape[1], (), 2 * latent_dim)),
    ).to(x.dtype)
    fit(vae, x, epochs=epochs, batch_size=256, lr=0.1, seed=seed, progress=False)
    return vae


@torch.no_grad()
def compare(vae: VAE, x: torch.Tensor) -> dict[str, float]:
    """The trained VAE and the maximum likelihood, both on the data that they were fitted to, in nats an example."""
    layer = vae.likelihood.net.layers[0]
    trained = LinearGaussian(layer.weight, layer.bias, positive(vae.likelihood.raw_scale))
    best = LinearGaussian.maximum_likelihood(x, trained.latent_dim)
    log_p, optimum = (model.log_prob(x).mean().item() for model in (trained, best))
    return {
        "log-likelihood, optimum": optimum,
        "log-likelihood, VAE": log_p,
        "short of it, per cent": 100 * (optimum - log_p) / abs(optimum),
        "ELBO, VAE": trained.elbo(x, vae.encode(x)).mean().item(),  # in closed form, without draws
        "angle of the subspaces, degrees": best.subspace_angle(trained.weight).rad2deg().item(),
        "scale of the noise, optimum": best.scale.item(),
        "scale of the noise, VAE": trained.scale.item(),
    }


def main(epochs: int = 300) -> dict[str, float]:
    x = digits()
    start = time.perf_counter()
    vae = train(x, LATENT_DIM, epochs)
    results = compare(vae, x) | {"seconds of training": time.perf_counter() - start}
    for name, value in results.items():
        print(f"{name:32} {value:8.4f}")
    return results


if __name__ == "__main__":
    main()
