"""Bounds from several weighted draws of the latent variables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ParamSpec, Unpack

from torch import Tensor

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.objectives.gradients import gradients, parameters_of, trained, with_gradients
from pyro_vae.objectives.objective import Objective, Options
from pyro_vae.terms import Terms

__all__ = ["CIWAE", "IWAE", "MIWAE", "PIWAE", "Renyi"]

_P = ParamSpec("_P")


class IWAE(Objective):
    """The logarithm of the mean weight p(x, z) / q(z | x) of K draws (Burda et al. 2015, arXiv 1509.00519).

    With more draws, the bound is closer to log p(x), but the gradient of the posterior becomes small beside its noise
    (Rainforth et al. 2018, arXiv 1802.04537). :class:`DReG`, :class:`PIWAE` and the others are remedies.

    Args:
        num_particles: K; with one, this is the ELBO.
        **options: see :class:`Objective`.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> loss = IWAE(num_particles=50).loss(vae.model, vae.guide, torch.ones(3, 4))
    """

    weighs_draws = True

    def __init__(self, num_particles: int = 50, **options: Unpack[Options]) -> None:
        super().__init__(num_particles, **options)

    @property
    def importance_particles(self) -> int | None:
        """K."""
        return self.num_particles

    def objective(self, terms: Terms) -> Tensor:
        """Return the logarithm of the mean weight, a sum over the examples."""
        bound = terms.log_mean(terms.weight).sum()
        self.note(terms, bound=bound)
        return bound


class MIWAE(Objective):
    """The mean of M importance-weighted bounds of K draws each (Rainforth et al. 2018, arXiv 1802.04537).

    Args:
        groups: M.
        group_size: K.
        **options: see :class:`Objective`.

    Example:
        >>> MIWAE(groups=8, group_size=8).num_particles
        64
    """

    weighs_draws = True

    def __init__(self, groups: int = 8, group_size: int = 8, **options: Unpack[Options]) -> None:
        groups, group_size = at_least("groups", groups, 1), at_least("group_size", group_size, 1)
        super().__init__(groups * group_size, **options)
        self.groups = groups
        self.group_size = group_size

    @property
    def importance_particles(self) -> int | None:
        """K."""
        return self.group_size

    def objective(self, terms: Terms) -> Tensor:
        """Return the mean over the groups of the logarithm of the mean weight, a sum over the examples."""
        bound = self._bound_of_groups(terms)
        self.note(terms, bound=bound)
        return bound

    def _bound_of_groups(self, terms: Terms) -> Tensor:
        weight = terms.weight.unflatten(terms.dim, (self.groups, -1))
        dim = terms.dim  # of the draws in a group; the groups are further left
        return (weight.logsumexp(dim) - math.log(weight.shape[dim])).sum() / self.groups


class CIWAE(Objective):
    """β ELBO + (1 − β) IWAE of K draws (Rainforth et al. 2018, arXiv 1802.04537).

    Args:
        beta: the weight of the ELBO, from 0 to 1.
        num_particles: K.
        **options: see :class:`Objective`.

    Example:
        >>> CIWAE(beta=0.05, num_particles=64).beta
        0.05
    """

    weighs_draws = True
    bounds_log_prob = True

    def __init__(self, beta: float = 0.05, num_particles: int = 64, **options: Unpack[Options]) -> None:
        finite_number("beta", beta, least=0, most=1)
        super().__init__(num_particles, **options)
        self.beta = beta

    def objective(self, terms: Terms) -> Tensor:
        """Return the weighted mean of the two bounds, a sum over the examples."""
        elbo, iwae = terms.mean(terms.weight).sum(), terms.log_mean(terms.weight).sum()
        self.note(terms, bound=iwae)
        return self.beta * elbo + (1 - self.beta) * iwae


class PIWAE(MIWAE):
    """The gradient of IWAE of M · K draws for the model, and of MIWAE (M, K) for the guide.

    The generative network trains on a tighter bound, the inference network with a less noisy gradient (Rainforth et
    al. 2018, arXiv 1802.04537). The loss is the model's.

    Args:
        groups: M.
        group_size: K.
        **options: see :class:`Objective`.

    Raises:
        ValueError: in a step, if model and guide share a parameter, as with a VampPrior.

    Example:
        >>> PIWAE(groups=8, group_size=8).importance_particles
        64
    """

    objective = IWAE.objective

    @property
    def importance_particles(self) -> int | None:
        """M · K."""
        return self.num_particles

    def differentiable_loss(
        self, model: Callable[_P, object], guide: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> Tensor:
        """Return the model's loss; its gradient is IWAE's by the model's parameters and MIWAE's by the guide's."""
        traces = list(self._get_traces(model, guide, args, kwargs))
        of_model, of_guide = (parameters_of([pair[i] for pair in traces]) for i in range(2))
        shared = of_model.keys() & of_guide.keys()
        if shared:
            raise ValueError(
                "PIWAE has one gradient for the model and another for the guide; both have the parameter "
                f"{of_guide[min(shared)][0]!r}. Use MIWAE or DReG"
            )
        terms = self._read(traces)
        bound = self.objective(terms)
        by_model, by_guide = trained(of_model), trained(of_guide)
        found = [*gradients(bound, by_model), *gradients(self._bound_of_groups(terms), by_guide)]
        return with_gradients(-terms.scale, bound, zip([*by_model, *by_guide], found, strict=True))


class Renyi(Objective):
    """Rényi's bound log E_q[w^(1 − α)] / (1 − α) of the weights w (Li and Turner 2016, arXiv 1602.02311).

    With α = 0 it is IWAE, with α = 1 the ELBO. Below 0, the estimate tends to lie above log p(x).

    Args:
        alpha: α.
        num_particles: draws of the latent variables per example.
        **options: see :class:`Objective`.

    Example:
        >>> Renyi(alpha=0.5, num_particles=10).alpha
        0.5
    """

    weighs_draws = True

    def __init__(self, alpha: float = 0.5, num_particles: int = 10, **options: Unpack[Options]) -> None:
        finite_number("alpha", alpha)
        super().__init__(num_particles, **options)
        self.alpha = alpha

    @property
    def bounds_log_prob(self) -> bool:
        """True if α is at least 0; below, the estimate may lie above log p(x)."""
        return self.alpha >= 0

    def objective(self, terms: Terms) -> Tensor:
        """Return Rényi's bound, a sum over the examples."""
        if self.alpha == 1:
            bound = terms.mean(terms.weight).sum()
        else:
            bound = terms.log_mean((1 - self.alpha) * terms.weight).sum() / (1 - self.alpha)
        self.note(terms, bound=bound)
        return bound
