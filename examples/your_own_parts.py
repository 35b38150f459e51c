"""Use your own prior, likelihood and posterior in place of ours.

    python examples/your_own_parts.py

Each is a module whose ``forward`` returns a distribution with declared event dimensions. Constructor arguments named
``latent_dim``, ``event_shape``, ``context_features``, ``posterior`` or ``net`` are filled in. By dotted path:
    cd examples && pyro-vae train --prior your_own_parts.Gumbel --likelihood your_own_parts.SoftLaplace
    pyro-vae evaluate runs/digits-1 --allow your_own_parts
"""

import pyro.distributions as dist
import torch
from torch import nn
from torch.nn.functional import softplus

from pyro_vae import average_elbo, build, data, fit


class Gumbel(nn.Module):
    """A skewed prior with a learned scale."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.raw_scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, *context: torch.Tensor) -> dist.Distribution:
        return dist.Gumbel(torch.zeros_like(self.raw_scale), softplus(self.raw_scale) + 1e-6).to_event(1)


class SoftLaplace(nn.Module):
    """Smooth in the middle, as robust as Laplace in the tails; one learned scale."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.raw_scale = nn.Parameter(torch.tensor(-1.0))

    def forward(self, z: torch.Tensor, *context: torch.Tensor) -> dist.Distribution:
        loc = self.net(z, *context)
        scale = softplus(self.raw_scale) + 1e-6
        return dist.SoftLaplace(loc, scale.expand_as(loc)).to_event(loc.dim() - z.dim() + 1)


class TwoNormals(nn.Module):
    """A posterior with two modes; Pyro's mixture lets gradients through its draws."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @staticmethod
    def net_shape(latent_dim: int) -> tuple[int, ...]:
        return (2, 2 * latent_dim)

    def forward(self, x: torch.Tensor, *context: torch.Tensor) -> dist.Distribution:
        loc, raw_scale = self.net(x, *context).chunk(2, dim=-1)
        return dist.MixtureOfDiagNormals(loc, softplus(raw_scale) + 1e-3, torch.zeros_like(loc[..., 0]))


def main(epochs: int = 30) -> dict[str, float]:
    digits = data.load("digits", dequantize=True)  # reals in (0, 1), not a grid
    results = {}
    for name, parts in {
        "ours: standard normal, Laplace, normal": {},
        "your prior": {"prior": "your_own_parts.Gumbel"},
        "your likelihood": {"likelihood": "your_own_parts.SoftLaplace"},
        "your posterior": {"posterior": "your_own_parts.TwoNormals"},
    }.items():
        torch.manual_seed(0)
        vae = build(digits.event_shape, 8, hidden=(128,), **{"likelihood": "laplace", **parts})
        fit(vae, digits.train, valid=digits.valid, epochs=epochs, lr=1e-3, progress=False)
        results[name] = average_elbo(vae, digits.test).elbo
        print(f"{name:39} test elbo {results[name]:7.2f} nats an image")
    return results


if __name__ == "__main__":
    main()
