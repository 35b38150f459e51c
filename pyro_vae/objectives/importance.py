"""Bounds from several weighted draws of the latent variables."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pyro_vae.objectives.draws import Draws
from pyro_vae.objectives.objective import Objective, at_least_one, checked

__all__ = ["CIWAE", "IWAE", "MIWAE", "PIWAE", "Renyi", "parameters_of"]


class IWAE(Objective):
    """Log of the mean weight p(x, z) / q(z | x) of K draws (Burda, Grosse and Salakhutdinov 2015, arXiv 1509.00519).

    The more draws, the closer to log p(x), and the weaker the gradient of the posterior beside its noise (Rainforth et
    al. 2018, arXiv 1802.04537), for which :class:`DReG`, :class:`PIWAE` and the others are remedies.

    Args:
        particles: K; one is the ELBO.
        **options: see :class:`Objective`.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> loss = IWAE(particles=50).loss(vae.model, vae.guide, torch.ones(3, 4))
    """

    weighs_draws = True

    def __init__(self, particles: int = 50, **options: Any) -> None:
        super().__init__(particles, **options)

    def objective(self, draws: Draws) -> Tensor:
        """Log of the mean weight, a sum over the examples."""
        bound = draws.log_mean(draws.weight).sum()
        self.note(draws, bound=bound)
        return bound


class MIWAE(Objective):
    """The mean of M importance-weighted bounds of K draws each (Rainforth et al. 2018, arXiv 1802.04537).

    Args:
        groups: M.
        particles: K.
        **options: see :class:`Objective`.

    Example:
        >>> MIWAE(groups=8, particles=8).num_particles
        64
    """

    weighs_draws = True

    def __init__(self, groups: int = 8, particles: int = 8, **options: Any) -> None:
        at_least_one(groups=groups, particles=particles)
        super().__init__(groups * particles, **options)
        self.groups = groups
        self.particles = particles

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
        particles: K.
        **options: see :class:`Objective`.

    Example:
        >>> CIWAE(beta=0.05, particles=64).beta
        0.05
    """

    weighs_draws = True

    def __init__(self, beta: float = 0.05, particles: int = 64, **options: Any) -> None:
        if isinstance(beta, bool) or not isinstance(beta, (int, float)) or not 0 <= beta <= 1:
            raise ValueError(f"beta must be a share from 0 to 1; got {beta!r}")
        super().__init__(particles, **options)
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
        particles: K.
        **options: see :class:`Objective`.

    Raises:
        ValueError: in a step, where model and guide share a parameter, such as those with a VampPrior.

    Example:
        >>> PIWAE(groups=8, particles=8).groups
        8
    """

    def objective(self, draws: Draws) -> Tensor:
        """Log of the mean weight of all draws, a sum over the examples."""
        bound = draws.log_mean(draws.weight).sum()
        self.note(draws, bound=bound)
        return bound

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of the model; adds the gradients, each to that of its parameters."""
        draws, parameters = self._draw_apart(model, guide, args, kwargs)
        loss = -draws.scale * self.objective(draws)
        of_guide = -draws.scale * self._bound_of_groups(draws)
        for bound, leaves in zip((loss, of_guide), parameters, strict=True):
            if leaves:
                bound.backward(retain_graph=True, inputs=leaves)
        self.state["steps"].add_(1)
        return checked(loss.detach())

    def check_on(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> None:
        """Raises a ValueError where model and guide share a parameter."""
        self._draw_apart(model, guide, args, kwargs)

    def _draw_apart(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Draws, list[list[Tensor]]]:
        """Draws, and the parameters of the model and of the guide."""
        traces = list(self._get_traces(model, guide, args, kwargs))
        found = [parameters_of([pair[i] for pair in traces]) for i in range(2)]
        shared = found[0].keys() & found[1].keys()
        if shared:
            raise ValueError(
                "PIWAE has one gradient for the model and another for the guide; both have the parameter "
                f"{found[1][min(shared)][0]!r}. Use MIWAE or DReG"
            )
        return self._read(traces), [[p for _, p in named.values() if p.requires_grad] for named in found]


class Renyi(Objective):
    """Rényi's bound log E_q[w^(1 − α)] / (1 − α) of the weights w (Li and Turner 2016, arXiv 1602.02311).

    With α = 0 it is IWAE, at α = 1 the ELBO, below 0 an estimate that tends to lie above log p(x).

    Args:
        alpha: α.
        particles: draws of the latent variables an example.
        **options: see :class:`Objective`.

    Example:
        >>> Renyi(alpha=0.5, particles=10).alpha
        0.5
    """

    weighs_draws = True

    def __init__(self, alpha: float = 0.5, particles: int = 10, **options: Any) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
            raise ValueError(f"alpha must be a finite number; got {alpha!r}")
        super().__init__(particles, **options)
        self.alpha = alpha

    def objective(self, draws: Draws) -> Tensor:
        """Rényi's bound, a sum over the examples."""
        if self.alpha == 1:
            bound = draws.mean(draws.weight).sum()
        else:
            bound = draws.log_mean((1 - self.alpha) * draws.weight).sum() / (1 - self.alpha)
        self.note(draws, bound=bound)
        return bound


def parameters_of(traces: list[Any]) -> dict[int, tuple[str, Tensor]]:
    """Name and leaf of each parameter that runs have used, by identity."""
    sites = [site for trace in traces for site in trace.nodes.values() if site["type"] == "param"]
    found = [(site["name"], site["value"].unconstrained()) for site in sites]
    return {id(leaf): (name, leaf) for name, leaf in found}
