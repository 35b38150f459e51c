"""Bounds from several weighted draws of the latent variables."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.objectives.gradients import gradients, parameters_of, trained, with_gradients
from pyro_vae.objectives.objective import Objective
from pyro_vae.objectives.terms import Draws

__all__ = ["CIWAE", "IWAE", "MIWAE", "PIWAE", "Renyi"]


class IWAE(Objective):
    """Log of the mean weight p(x, z) / q(z | x) of K draws (Burda, Grosse and Salakhutdinov 2015, arXiv 1509.00519).

    The more draws, the closer to log p(x), and the weaker the gradient of the posterior beside its noise (Rainforth et
    al. 2018, arXiv 1802.04537), for which :class:`DReG`, :class:`PIWAE` and the others are remedies.

    Args:
        num_particles: K; one is the ELBO.
        **options: see :class:`Objective`.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> loss = IWAE(num_particles=50).loss(vae.model, vae.guide, torch.ones(3, 4))
    """

    weighs_draws = True

    def __init__(self, num_particles: int = 50, **options: Any) -> None:
        super().__init__(num_particles, **options)

    @property
    def importance_particles(self) -> int | None:
        """K."""
        return self.num_particles

    def objective(self, draws: Draws) -> Tensor:
        """Log of the mean weight, a sum over the examples."""
        bound = draws.log_mean(draws.weight).sum()
        self.note(draws, bound=bound)
        return bound


class MIWAE(Objective):
    """The mean of M importance-weighted bounds of K draws each (Rainforth et al. 2018, arXiv 1802.04537).

    Args:
        groups: M.
        num_particles: K.
        **options: see :class:`Objective`.

    Example:
        >>> MIWAE(groups=8, num_particles=8).num_particles
        64
    """

    weighs_draws = True

    def __init__(self, groups: int = 8, num_particles: int = 8, **options: Any) -> None:
        groups, num_particles = at_least(1, "groups", groups), at_least(1, "num_particles", num_particles)
        super().__init__(groups * num_particles, **options)
        self.groups = groups
        self.num_particles = num_particles

    @property
    def importance_particles(self) -> int | None:
        """K."""
        return self.num_particles

    def objective(self, draws: Draws) -> Tensor:
        """The mean over the groups of log of the mean weight, a sum over the examples."""
        bound = self._bound_of_groups(draws)
        self.note(draws, bound=bound)
        return bound

    def _bound_of_groups(self, draws: Draws) -> Tensor:
        weight = draws.weight.unflatten(draws.dim, (self.groups, -1))
        dim = draws.dim  # of the draws in a group; the groups are further left
        return (weight.logsumexp(dim) - math.log(weight.shape[dim])).sum() / self.groups


class CIWAE(Objective):
    """β ELBO + (1 − β) IWAE of K draws (Rainforth et al. 2018, arXiv 1802.04537).

    Args:
        beta: the share of the ELBO, from 0 to 1.
        num_particles: K.
        **options: see :class:`Objective`.

    Example:
        >>> CIWAE(beta=0.05, num_particles=64).beta
        0.05
    """

    weighs_draws = True
    bounds_log_prob = True

    def __init__(self, beta: float = 0.05, num_particles: int = 64, **options: Any) -> None:
        finite_number("beta", beta, least=0, most=1)
        super().__init__(num_particles, **options)
        self.beta = beta

    def objective(self, draws: Draws) -> Tensor:
        """The mixture, a sum over the examples."""
        elbo, iwae = draws.mean(draws.weight).sum(), draws.log_mean(draws.weight).sum()
        self.note(draws, bound=iwae)
        return self.beta * elbo + (1 - self.beta) * iwae


class PIWAE(MIWAE):
    """The gradient of IWAE of M · K draws for the model, and of MIWAE (M, K) for the guide.

    A better bound trains the generative network, and a gradient with less noise the inference network (Rainforth et al.
    2018, arXiv 1802.04537). The loss is that of the model.

    Args:
        groups: M.
        num_particles: K.
        **options: see :class:`Objective`.

    Raises:
        ValueError: in a step, where model and guide share a parameter, such as those with a VampPrior.

    Example:
        >>> PIWAE(groups=8, num_particles=8).groups
        8
    """

    objective = IWAE.objective

    @property
    def importance_particles(self) -> int | None:
        """M · K."""
        return self.num_particles

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of the model, with the gradients of both, each by its parameters."""
        traces = list(self._get_traces(model, guide, args, kwargs))
        ours, theirs = (parameters_of([pair[i] for pair in traces]) for i in range(2))
        shared = ours.keys() & theirs.keys()
        if shared:
            raise ValueError(
                "PIWAE has one gradient for the model and another for the guide; both have the parameter "
                f"{theirs[min(shared)][0]!r}. Use MIWAE or DReG"
            )
        draws = self._read(traces)
        bound = self.objective(draws)
        found = [*gradients(bound, trained(ours)), *gradients(self._bound_of_groups(draws), trained(theirs))]
        return with_gradients(-draws.scale, bound, zip([*trained(ours), *trained(theirs)], found, strict=True))


class Renyi(Objective):
    """Rényi's bound log E_q[w^(1 − α)] / (1 − α) of the weights w (Li and Turner 2016, arXiv 1602.02311).

    With α = 0 it is IWAE, at α = 1 the ELBO, below 0 an estimate that tends to lie above log p(x).

    Args:
        alpha: α.
        num_particles: draws of the latent variables an example.
        **options: see :class:`Objective`.

    Example:
        >>> Renyi(alpha=0.5, num_particles=10).alpha
        0.5
    """

    weighs_draws = True

    def __init__(self, alpha: float = 0.5, num_particles: int = 10, **options: Any) -> None:
        finite_number("alpha", alpha)
        super().__init__(num_particles, **options)
        self.alpha = alpha

    @property
    def bounds_log_prob(self) -> bool:
        """From α = 0 on; below, it may lie above."""
        return self.alpha >= 0

    def objective(self, draws: Draws) -> Tensor:
        """Rényi's bound, a sum over the examples."""
        if self.alpha == 1:
            bound = draws.mean(draws.weight).sum()
        else:
            bound = draws.log_mean((1 - self.alpha) * draws.weight).sum() / (1 - self.alpha)
        self.note(draws, bound=bound)
        return bound
