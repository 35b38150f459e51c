"""Codes as unconstrained real vectors, for quadrature and Hamiltonian Monte Carlo."""

from __future__ import annotations

import math

import torch
from pyro.distributions import SineBivariateVonMises, SineSkewed
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import Transform, VonMises, biject_to, constraints
from torch.distributions.constraints import Constraint

from pyro_vae.distributions import base_constraint, support_of
from pyro_vae.evaluation.estimates import check_exact
from pyro_vae.model_guide import ModelGuide

__all__ = ["UnconstrainedCodes"]


class UnconstrainedCodes:
    """The codes of some examples as real vectors u, by ``torch.distributions.biject_to`` of the prior's support.

    Real vectors stay as they are; a proportion is the sigmoid of a real number; a simplex of three numbers comes from
    two real numbers by stick breaking.

    Args:
        pair: model and guide on these examples.
        method: the calling function, for error messages.

    Raises:
        ValueError: if codes are discrete, on a circle, or in a support that ``biject_to`` does not know; or if log
            p(x | z) has noise, since missing values are drawn for a model of the mask.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> from pyro_vae.model_guide import ModelGuide
        >>> vae = build(4, 3, prior="Dirichlet", posterior="LogisticNormal")
        >>> UnconstrainedCodes(ModelGuide(vae, torch.ones(2, 4)), "this").dim
        2
    """

    def __init__(self, pair: ModelGuide, method: str) -> None:
        check_exact(pair, method)
        self.pair = pair
        self.method = method
        self.prior = pair.prior()
        support = support_of(self.prior)
        if support.is_discrete:
            raise ValueError(
                f"{method} needs continuous codes; got discrete ones, of support {support}. Use enumeration, or "
                "importance_sampling if they have too many values"
            )
        if _on_circle(self.prior):
            raise ValueError(
                f"{method} needs codes that are real vectors; got codes on a circle, although the prior "
                f"{type(self.prior).__name__} states the support {support}. Use importance_sampling"
            )
        self.transform = None if base_constraint(support) is constraints.real else self._bijection(support)
        batch_shape, shape = self.prior.batch_shape, self.prior.event_shape
        if self.transform is not None:
            shape = self.transform.inverse_shape(batch_shape + shape)[len(batch_shape) :]
        self.shape = torch.Size(shape)

    def _bijection(self, support: Constraint) -> Transform:
        try:
            return biject_to(support)
        except NotImplementedError as error:
            raise ValueError(
                f"{self.method} needs codes that torch.distributions.biject_to maps from real vectors; got the support "
                f"{support}. Use importance_sampling"
            ) from error

    @property
    def dim(self) -> int:
        """The length of u."""
        return math.prod(self.shape)

    def constrain(self, u: Tensor) -> Tensor:
        """Map u ``(..., batch, dim)`` to z ``(..., batch, *event)``."""
        u = u.reshape(u.shape[:-1] + self.shape)
        return u if self.transform is None else self.transform(u)

    def unconstrain(self, z: Tensor) -> Tensor:
        """Map z ``(..., batch, *event)`` to u ``(..., batch, dim)``."""
        lead = z.shape[: z.dim() - len(self.prior.event_shape)]
        return (z if self.transform is None else self.transform.inv(z)).reshape(*lead, self.dim)

    def log_volume(self, u: Tensor, z: Tensor) -> Tensor | float:
        """Return log |dz/du|, ``(..., batch)``, which turns a log-density over z into one over u."""
        if self.transform is None:
            return 0.0
        jacobian = self.transform.log_abs_det_jacobian(u.reshape(u.shape[:-1] + self.shape), z)
        return sum_rightmost(jacobian, jacobian.dim() - (u.dim() - 1))


def _on_circle(distribution: torch.distributions.Distribution) -> bool:
    """Return True for distributions over angles, whose support torch and Pyro state as real numbers."""
    if isinstance(distribution, VonMises | SineBivariateVonMises | SineSkewed):
        return True
    return any(_on_circle(d) for d in vars(distribution).values() if isinstance(d, torch.distributions.Distribution))
