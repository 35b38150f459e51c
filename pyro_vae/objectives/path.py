"""Gradients of the guide along the draws alone, without the score of log q, whose mean is zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.enum import get_importance_trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.objectives.draws import Draws
from pyro_vae.objectives.importance import IWAE, parameters_of
from pyro_vae.objectives.objective import Objective, checked

__all__ = ["DReG", "StickingTheLanding"]


class _AlongTheDraws(Objective):
    """Runs the guide a second time at its draws, cut off from where they come from.

    The derivative by a draw then goes to the guide's parameters by way of that draw alone. What the model shares with
    the guide, such as the encoder in a VampPrior, is a parameter of the model there.
    """

    def __init__(self, particles: int, **options: Any) -> None:
        if not options.get("vectorize_particles", True):
            raise ValueError(f"{type(self).__name__} needs vectorize_particles=True; got False")
        super().__init__(particles, **options)

    def shares(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """How much each draw counts in the gradient of the model, and how much less in that of the guide.

        Args:
            draws: whose weights have no gradient.
        """
        raise NotImplementedError

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The loss, whose gradient is added to that of the parameters; a step of the schedules."""
        if self.num_particles > 1:
            if self.max_plate_nesting == float("inf"):
                self._guess_max_plate_nesting(model, guide, args, kwargs)
            model, guide = self._vectorized_num_particles(model), self._vectorized_num_particles(guide)
        drawn = poutine.trace(guide).get_trace(*args, **kwargs)
        cut, leaves = _cut_off(drawn)
        traces = get_importance_trace(
            "flat", self.max_plate_nesting, model, poutine.replay(guide, trace=cut), args, kwargs
        )
        self.check(traces[1])
        draws = self._read([traces])
        with torch.no_grad():
            loss = -draws.scale * self.objective(draws)
            share, factor = self.shares(draws)
        of_model = [p for _, p in parameters_of([traces[0]]).values() if p.requires_grad]
        joint = (share * (draws.recon + draws.prior)).sum()
        up = _gradients(joint, [*leaves.values(), *of_model])
        down = _gradients((share * draws.posterior).sum(), list(leaves.values()))
        found = list(zip(of_model, up[len(leaves) :], strict=True))
        for name, above, below in zip(leaves, up, down, strict=False):
            factors = factor[0] if self.num_particles == 1 else factor  # as a draw is laid out
            factors = factors[(..., *[None] * drawn.nodes[name]["fn"].event_dim)]
            found.append((drawn.nodes[name]["value"], factors * (above - below)))
        surrogate = sum((value * gradient.detach()).sum() for value, gradient in found)
        if isinstance(surrogate, Tensor) and surrogate.requires_grad:
            (-draws.scale * surrogate).backward()
        self.state["steps"].add_(1)
        return checked(loss)


class StickingTheLanding(_AlongTheDraws):
    """The ELBO, with a gradient whose variance vanishes where q is the true posterior.

    (Roeder, Wu and Duvenaud 2017, arXiv 1703.09194.) Runs the guide twice a step.

    Args:
        particles: draws of the latent variables an example.
        **options: see :class:`Objective`.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), StickingTheLanding())
        >>> loss = svi.step(torch.ones(3, 4))
    """

    def __init__(self, particles: int = 1, **options: Any) -> None:
        super().__init__(particles, **options)

    def objective(self, draws: Draws) -> Tensor:
        """Recon − kl, a sum over the examples."""
        self.note(draws)
        return draws.mean(draws.weight).sum()

    def shares(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Every draw counts alike, in both."""
        one = torch.ones_like(draws.weight)
        return one / draws.particles, one


class DReG(_AlongTheDraws):
    """IWAE, with the guide's gradient doubly reparametrised (Tucker et al. 2018, arXiv 1810.04152).

    Its signal does not drown in noise as K grows. Runs the guide twice a step.

    Args:
        particles: K; one is :class:`StickingTheLanding`.
        **options: see :class:`Objective`.

    Example:
        >>> DReG(particles=20).num_particles
        20
    """

    def __init__(self, particles: int = 50, **options: Any) -> None:
        super().__init__(particles, **options)

    objective = IWAE.objective
    weighs_draws = True

    def shares(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """The share of a draw's weight, for the guide once more."""
        share = torch.softmax(draws.weight, draws.dim)
        return share, share


def _cut_off(drawn: Any) -> tuple[Any, dict[str, Tensor]]:
    """A trace to replay whose draws have no past, and these draws; points that follow from others are left out."""
    cut, leaves = poutine.Trace(), {}
    for name, site in drawn.nodes.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        if not site_is_subsample(site):
            if isinstance(_inner(site["fn"]), Delta):
                continue
            leaves[name] = site["value"].detach().requires_grad_(site["value"].is_floating_point())
        cut.add_node(name, **{**site, "value": leaves.get(name, site["value"])})
    return cut, leaves


def _inner(distribution: Any) -> Any:
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def _gradients(of: Tensor, by: list[Tensor]) -> list[Tensor]:
    if not by or not of.requires_grad:
        return [torch.zeros_like(t) for t in by]
    found = torch.autograd.grad(of, by, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(by, found, strict=True)]
