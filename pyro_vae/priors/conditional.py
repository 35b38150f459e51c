"""Priors whose parameters depend on the context."""

from __future__ import annotations

import inspect

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_vae.distributions import part_name
from pyro_vae.parts import Prior, as_prior
from pyro_vae.priors.flow import Flow

__all__ = ["Conditional"]


class Conditional(Prior):
    """Another prior with parameters from a net of the context: p(z | c).

    The net's output for each example is added to the parameters of the prior (for a normal: Sohn, Lee and Yan 2015,
    "Learning structured output representation using deep conditional generative models"). A ``Flow`` takes the context
    itself: give it its ``context_features``.

    Args:
        prior: a prior with parameters, such as :class:`Normal` or :class:`MixtureOfNormals`; its ``forward`` must work
            with parameters that have batch dimensions in front, ``(batch, ...)``, as those of this library do.
        net: maps the context, ``(batch, features)``, to one number for each of the prior's parameters.

    Raises:
        ValueError: if the prior has no parameters, or shares the posterior's; in ``forward`` if there is no context or
            the net gives another number of outputs.

    Example:
        >>> from pyro_vae import nets, priors
        >>> prior = Conditional(priors.Normal(5), nets.MLP(10, (32,), 2 * 5))
        >>> prior(torch.zeros(16, 10)).batch_shape
        torch.Size([16])
    """

    def __init__(self, prior: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.prior = prior
        self.net = net
        _check_conditional(prior)
        inner = as_prior(prior)
        self.support, self.classes, self.latent_dim = inner.support, inner.classes, inner.latent_dim

    @classmethod
    def net_shape(cls, latent_dim: int, prior: nn.Module) -> tuple[int, ...]:
        """Return the shape that the net must give: one number for each of the prior's parameters."""
        _check_conditional(prior)
        return (sum(p.numel() for p in prior.parameters()),)

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the prior of each example, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        if not context:
            raise ValueError(
                "prior Conditional needs the context: pass it to the prior, and after x to model and guide"
            )
        out = self.net(torch.cat(context, dim=-1))
        parameters = dict(self.prior.named_parameters())
        sizes = [p.numel() for p in parameters.values()]
        if out.shape[-1] != sum(sizes):
            raise ValueError(
                f"prior Conditional needs a net with {sum(sizes)} outputs, one for each parameter of "
                f"{part_name(self.prior)}; got {out.shape[-1]}"
            )
        pieces = zip(parameters.items(), out.split(sizes, dim=-1), strict=True)
        values = {name: p + piece.reshape(*out.shape[:-1], *p.shape) for (name, p), piece in pieces}
        return torch.func.functional_call(self.prior, values, ())


def _check_conditional(prior: nn.Module) -> None:
    if isinstance(prior, Flow):
        raise ValueError(
            "prior Conditional is not for flows, which take the context themselves: Flow(..., context_features=...)"
        )
    of_posterior = "posterior" in inspect.signature(type(prior)).parameters
    if not isinstance(prior, nn.Module) or of_posterior or not list(prior.parameters()):
        raise ValueError(
            f"prior Conditional needs a prior with parameters of its own, such as Normal, Laplace, StudentT, "
            f"MixtureOfNormals, Categorical, Dirichlet or LogisticNormal; got {part_name(prior)}"
        )
