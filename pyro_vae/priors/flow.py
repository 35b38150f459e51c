"""Priors that are normalising flows."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import TorchToPyro, make_flow
from pyro_vae.nets.shapes import Shape
from pyro_vae.parts import Prior

__all__ = ["Flow"]


class Flow(Prior):
    """One of Zuko's normalising flows: learned invertible maps that turn a normal into the distribution of the codes.

    (Rezende and Mohamed 2015, arXiv 1505.05770; as the prior of a VAE, Chen et al. 2016, arXiv 1611.02731.) A flow made
    with Zuko itself is a prior too; this class makes one by name.

    Args:
        latent_dim: dimensions of z, at least 1.
        flow: name of a class in :mod:`zuko.flows`: ``"MAF"`` (arXiv 1705.07057), ``"NSF"`` (arXiv 1906.04032),
            ``"NICE"`` (arXiv 1605.08803), ... Autoregressive flows (MAF, NSF) have a fast density and draw one
            dimension after the other.
        transforms: number of maps; None for Zuko's default.
        hidden: widths of the maps' networks; None for Zuko's default.
        context_features: number of features of the context, 0 for an unconditional prior.

    Raises:
        ValueError: if Zuko has no such flow, or the flow does not take these arguments.

    Example:
        >>> Flow(8, "MAF", transforms=2)().event_shape
        torch.Size([8])
    """

    support = constraints.real_vector

    def __init__(
        self,
        latent_dim: int,
        flow: str = "NSF",
        transforms: int | None = 3,
        hidden: Shape | None = (64, 64),
        context_features: int = 0,
    ) -> None:
        super().__init__()
        self.latent_dim = at_least("latent_dim", latent_dim, 1)
        self.flow = flow
        self.transforms = transforms
        self.hidden = hidden
        self.context_features = at_least("context_features", context_features, 0)
        self.layers = make_flow(flow, latent_dim, context_features, transforms, hidden)

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the flow, with batch shape ``()`` or that of the context, and event shape ``(latent_dim,)``."""
        if self.context_features and not context:
            raise ValueError(
                f"prior Flow was built for {self.context_features} context features; got none. Pass the context to the "
                "prior, and after x to model and guide"
            )
        return TorchToPyro(self.layers(torch.cat(context, dim=-1)) if self.context_features else self.layers())
