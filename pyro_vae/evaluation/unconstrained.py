"""Codes as vectors of reals: what is integrated over, and where Hamiltonian trajectories run."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import SineBivariateVonMises, SineSkewed
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import VonMises, biject_to, constraints

from pyro_vae.distributions import base_constraint
from pyro_vae.model_guide import ModelGuide

__all__ = ["RealCodes", "support_of"]


class RealCodes:
    """The codes of some examples as vectors u of reals, by ``torch.distributions.biject_to`` of the prior's support.

    Codes that are real vectors already stay as they are; a proportion is the sigmoid of a real, a simplex of three
    two reals by stick breaking.

    Args:
        pair: model and guide on these examples.
        method: the function that asks, for its messages.

    Raises:
        ValueError: where codes are discrete, on a circle, or in a support that ``biject_to`` does not know.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> from pyro_vae.model_guide import ModelGuide
        >>> vae = build(4, 3, prior="Dirichlet", posterior="LogisticNormal")
        >>> RealCodes(ModelGuide(vae, torch.ones(2, 4)), "this").dim
        2
    """

    def __init__(self, pair: ModelGuide, method: str) -> None:
        self.pair = pair
        self.method = method
        self.prior = pair.prior()
        support = support_of(self.prior)
        if support.is_discrete:
            raise ValueError(
                f"{method} needs continuous codes; got discrete ones, of support {support}. Use enumeration, or "
                "importance_sampling where they have too many values"
            )
        if _on_circle(self.prior):
            raise ValueError(
                f"{method} needs codes that are vectors of reals; got codes on a circle, whose prior "
                f"{type(self.prior).__name__} says that its support is {support}. Use importance_sampling"
            )
        self.transform: Any = None if base_constraint(support) is constraints.real else self._bijection(support)
        shape = self.prior.event_shape
        self.shape = torch.Size(shape if self.transform is None else self._inverse_shape())

    def _bijection(self, support: Any) -> Any:
        try:
            return biject_to(support)
        except NotImplementedError as error:
            raise ValueError(
                f"{self.method} needs codes that torch.distributions.biject_to maps from real vectors; got the support "
                f"{support}. Use importance_sampling"
            ) from error

    def _inverse_shape(self) -> Any:
        shape = self.prior.batch_shape + self.prior.event_shape
        return self.transform.inverse_shape(shape)[len(self.prior.batch_shape) :]

    @property
    def dim(self) -> int:
        """The length of u."""
        return math.prod(self.shape)

    def constrain(self, u: Tensor) -> Tensor:
        """Z for u ``(..., batch, dim)``: ``(..., batch, *event)``."""
        u = u.reshape(u.shape[:-1] + self.shape)
        return u if self.transform is None else self.transform(u)

    def unconstrain(self, z: Tensor) -> Tensor:
        """U for z ``(..., batch, *event)``: ``(..., batch, dim)``."""
        lead = z.shape[: z.dim() - len(self.prior.event_shape)]
        return (z if self.transform is None else self.transform.inv(z)).reshape(*lead, self.dim)

    def log_volume(self, u: Tensor, z: Tensor) -> Tensor | float:
        """Log |dz/du|, ``(..., batch)``, which turns a density over z into one over u."""
        if self.transform is None:
            return 0.0
        jacobian = self.transform.log_abs_det_jacobian(u.reshape(u.shape[:-1] + self.shape), z)
        return sum_rightmost(jacobian, jacobian.dim() - (u.dim() - 1))


def support_of(distribution: Any) -> Any:
    """The support of a distribution; all real vectors where it does not say, as Zuko's flows do not.

    That of a mixture is its components', where it does not differ between them.
    """
    try:
        support = distribution.support
    except NotImplementedError:
        return constraints.independent(constraints.real, len(distribution.event_shape))
    if isinstance(support, constraints.MixtureSameFamilyConstraint) and not _has_limits(support.base_constraint):
        return support.base_constraint
    return support


def _has_limits(support: Any) -> bool:
    """Whether limits are tensors, which may differ between components."""
    inner = support.base_constraint if hasattr(support, "base_constraint") else None
    tensors = any(isinstance(value, Tensor) and value.dim() > 0 for value in vars(support).values())
    return tensors or (inner is not None and _has_limits(inner))


def _on_circle(distribution: Any) -> bool:
    """Whether a distribution is one over angles, which torch and Pyro say are real numbers."""
    if isinstance(distribution, VonMises | SineBivariateVonMises | SineSkewed):
        return True
    inner = [getattr(distribution, name, None) for name in ("base_dist", "base", "component_distribution")]
    return any(isinstance(d, torch.distributions.Distribution) and _on_circle(d) for d in inner)
