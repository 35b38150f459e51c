"""Posteriors that are normalising flows."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import TorchToPyro, import_zuko, make_flow, positive
from pyro_vae.nets.shapes import Shape
from pyro_vae.parts import Posterior

__all__ = ["Flow", "InverseAutoregressiveFlow"]


class _FlowOfFeatures(Posterior):
    """Flows over real vectors, given features of x from a net; they have no mean in closed form."""

    support = constraints.real_vector
    has_mean = False

    def __init__(self, net: nn.Module, latent_dim: int, features: int) -> None:
        super().__init__()
        self.net = net
        self.latent_dim = at_least("latent_dim", latent_dim, 1)
        self.features = at_least("features", features, 1)


class Flow(_FlowOfFeatures):
    """One of Zuko's conditional normalising flows, given features of x from a net.

    (Rezende and Mohamed 2015, arXiv 1505.05770.)

    Args:
        net: maps x, and the context if there is any, to ``(batch, features)``.
        latent_dim: dimensions of z, at least 1.
        flow: name of a class in :mod:`zuko.flows`. Coupling flows such as ``"NICE"`` (arXiv 1605.08803) draw fast,
            which training needs; autoregressive flows (MAF, NSF) draw one dimension after the other.
        features: outputs of the net.
        transforms: number of maps; None for Zuko's default.
        hidden: widths of the maps' networks; None for Zuko's default.

    Raises:
        ValueError: if Zuko has no such flow, or the flow does not take these arguments.

    Example:
        >>> from pyro_vae import nets
        >>> q = Flow(nets.MLP((1, 8, 8), (64,), 32), latent_dim=5, features=32)
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    def __init__(
        self,
        net: nn.Module,
        latent_dim: int,
        flow: str = "NICE",
        features: int = 64,
        transforms: int | None = 4,
        hidden: Shape | None = (128,),
    ) -> None:
        super().__init__(net, latent_dim, features)
        self.flow = flow
        self.transforms = transforms
        self.hidden = hidden
        self.layers = make_flow(flow, latent_dim, features, transforms, hidden)

    @classmethod
    def net_shape(cls, latent_dim: int, /, features: int = 64, **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give: the features."""
        return (features,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return the flow, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        return TorchToPyro(self.layers(self.net(x, *context)))


class InverseAutoregressiveFlow(_FlowOfFeatures):
    """A normal whose draws pass through autoregressive maps, all dimensions of a draw at once.

    A draw and its density take one pass per map; the density at any other point takes one pass per dimension (Kingma et
    al. 2016, arXiv 1606.04934). Zuko makes the maps, z ← shift + scale · z: a masked network computes shift and scale
    from the dimensions before and from features of x. The order of the dimensions is reversed from map to map.

    Args:
        net: maps x, and the context if there is any, to ``(batch, 2 * latent_dim + features)``: the means and the
            raw scales of the normal at the start, which become softplus(raw) + 1e-6, and the features.
        latent_dim: dimensions of z, at least 1.
        transforms: number of maps, at least 1.
        hidden: widths of the masked networks.
        features: features of x that the maps see.

    Raises:
        ValueError: if a number is out of range, or the net gives another number of outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = InverseAutoregressiveFlow(nets.MLP((1, 8, 8), (64,), 2 * 5 + 32), latent_dim=5, features=32)
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    def __init__(
        self,
        net: nn.Module,
        latent_dim: int,
        transforms: int = 2,
        hidden: Shape = (256,),
        features: int = 64,
    ) -> None:
        super().__init__(net, latent_dim, features)
        self.transforms = at_least("transforms", transforms, 1)
        self.hidden = hidden
        make = import_zuko().flows.MaskedAutoregressiveTransform
        widths = (hidden,) if isinstance(hidden, int) else tuple(hidden)
        self.maps = nn.ModuleList()
        for i in range(transforms):
            order = torch.arange(latent_dim)
            order = order.flip(0) if i % 2 else order
            self.maps.append(make(latent_dim, features, order=order, hidden_features=widths, activation=nn.SiLU))
        for map_ in self.maps:
            # At the start close to the identity, so to the diagonal normal.
            *_, last = (m for m in map_.modules() if isinstance(m, nn.Linear))
            nn.init.zeros_(last.bias)
            with torch.no_grad():
                last.weight.mul_(0.1)

    @classmethod
    def net_shape(cls, latent_dim: int, /, features: int = 64, **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give: means, raw scales and features."""
        return (2 * latent_dim + features,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return the flow, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        zuko = import_zuko()
        out = self.net(x, *context)
        sizes = [self.latent_dim, self.latent_dim, self.features]
        if out.shape[-1] != sum(sizes):
            raise ValueError(
                f"posterior InverseAutoregressiveFlow needs a net whose last dimension is 2 * latent_dim + features = "
                f"{sum(sizes)}; got {out.shape[-1]}"
            )
        loc, raw_scale, features = out.split(sizes, dim=-1)
        chain = zuko.transforms.ComposedTransform(*(map_(features) for map_ in self.maps))
        # Zuko's flows map data to noise; here the fast direction is the inverse.
        start = zuko.distributions.DiagNormal(loc, positive(raw_scale))
        return TorchToPyro(zuko.distributions.NormalizingFlow(chain.inv, start))
