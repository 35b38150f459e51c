"""Gradients of the guide along the draws alone, without the score of log q, whose mean is zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.enum import get_importance_trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.distributions import check_inverse, innermost
from pyro_vae.objectives.gradients import gradients, parameters_of, trained, with_gradients
from pyro_vae.objectives.importance import IWAE
from pyro_vae.objectives.objective import Objective
from pyro_vae.objectives.terms import Draws
from pyro_vae.value_checks import holds

__all__ = ["DReG", "StickingTheLanding"]


class _AlongTheDraws(Objective):
    """Runs the guide a second time at its draws, cut off from where they come from.

    The derivative by a draw then goes to the guide's parameters by way of that draw alone. What the model shares with
    the guide, such as the encoder in a VampPrior, is a parameter of the model there.
    """

    def __init__(self, num_particles: int, **options: Any) -> None:
        if not options.get("vectorize_particles", True):
            raise ValueError(f"{type(self).__name__} needs vectorize_particles=True; got False")
        super().__init__(num_particles, **options)

    def shares(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """How much each draw counts in the gradient of the model, and how much less in that of the guide.

        Args:
            draws: whose weights have no gradient.
        """
        raise NotImplementedError

    @property
    def importance_particles(self) -> int | None:
        """As many as particles."""
        return self.num_particles

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss, with the gradient along the draws."""
        if not torch.is_grad_enabled():
            return super().differentiable_loss(model, guide, *args, **kwargs)
        if self.num_particles > 1:
            if self.max_plate_nesting == math.inf:
                self._guess_max_plate_nesting(model, guide, args, kwargs)
            model, guide = self._vectorized_num_particles(model), self._vectorized_num_particles(guide)
        drawn = poutine.trace(guide).get_trace(*args, **kwargs)
        cut, leaves = _cut_off(drawn)
        for name in leaves:
            what = f"{type(self).__name__} asks for densities a second time, as BetaELBO and IWAE do not: site {name!r}"
            check_inverse(drawn.nodes[name]["fn"], f"{what} of the guide")
        again = poutine.replay(guide, trace=cut)
        traces = get_importance_trace("flat", self.max_plate_nesting, model, again, args, kwargs)
        self.check(traces[1])
        self._check_second_run(drawn, traces[1], leaves)
        draws = self._read([traces])
        with torch.no_grad():
            bound = self.objective(draws)
            share, factor = self.shares(draws)
        of_model = trained(parameters_of([traces[0]]))
        up = gradients((share * (draws.recon + draws.prior)).sum(), [*leaves.values(), *of_model])
        down = gradients((share * draws.posterior).sum(), list(leaves.values()))
        found = list(zip(of_model, up[len(leaves) :], strict=True))
        for name, above, below in zip(leaves, up, down, strict=False):
            site = drawn.nodes[name]
            factors = factor[0] if self.num_particles == 1 else factor  # laid out as a draw
            factors = factors[(..., *[None] * site["fn"].event_dim)]
            found.append((site["value"], factors * (above - below)))
        return with_gradients(-draws.scale, bound, found)

    def _check_second_run(self, drawn: Any, again: Any, leaves: dict[str, Tensor]) -> None:
        name = type(self).__name__
        parameters = trained(parameters_of([again]))
        for site in again.nodes.values():
            if site["type"] != "sample" or site["is_observed"]:
                continue
            log_q = site["unscaled_log_prob"]
            if site["name"] not in leaves:
                if _depends(site["value"], parameters) or _depends(log_q, parameters):
                    raise ValueError(
                        f"{name} takes gradients along draws; site {site['name']!r} of the guide is a point (Delta) "
                        "that depends on parameters beside them, as in AutoDelta and AutoStructured. Use BetaELBO or "
                        "IWAE"
                    )
                continue
            with torch.no_grad():
                before = drawn.nodes[site["name"]]["fn"].log_prob(site["value"])
                apart = (log_q - before).abs() > 1e-3 * (1 + before.abs())
            if not holds(~apart.any()):
                raise ValueError(
                    f"{name} runs the guide twice, and at site {site['name']!r} it had another distribution the second "
                    "time, as dropout makes it. Leave dropout out of the guide, or use BetaELBO or IWAE"
                )


class StickingTheLanding(_AlongTheDraws):
    """The ELBO, with a gradient whose variance vanishes where q is the true posterior.

    (Roeder, Wu and Duvenaud 2017, arXiv 1703.09194.) Runs the guide twice a step, which must come to the same both
    times.

    Args:
        num_particles: draws of the latent variables an example.
        **options: see :class:`Objective`.

    Example:
        >>> import pyro, torch
        >>> from pyro.infer import SVI
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), StickingTheLanding())
        >>> loss = svi.step(torch.ones(3, 4))
    """

    def __init__(self, num_particles: int = 1, **options: Any) -> None:
        super().__init__(num_particles, **options)

    @property
    def importance_particles(self) -> int | None:
        """One: it is the ELBO."""
        return 1

    def objective(self, draws: Draws) -> Tensor:
        """Recon − kl, a sum over the examples."""
        self.note(draws)
        return draws.mean(draws.weight).sum()

    def shares(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Every draw counts alike, in both."""
        one = torch.ones_like(draws.weight)
        return one / draws.num_particles, one


class DReG(_AlongTheDraws):
    """IWAE, with the guide's gradient doubly reparametrised (Tucker et al. 2018, arXiv 1810.04152).

    Its signal does not drown in noise as K grows. Runs the guide twice a step, which must come to the same both times.

    Args:
        num_particles: K; one is :class:`StickingTheLanding`.
        **options: see :class:`Objective`.

    Example:
        >>> DReG(num_particles=20).num_particles
        20
    """

    weighs_draws = True
    objective = IWAE.objective

    def __init__(self, num_particles: int = 50, **options: Any) -> None:
        super().__init__(num_particles, **options)

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
            if isinstance(innermost(site["fn"]), Delta):
                continue
            leaves[name] = site["value"].detach().requires_grad_(site["value"].is_floating_point())
        cut.add_node(name, **{**site, "value": leaves.get(name, site["value"])})
    return cut, leaves


def _depends(value: Tensor, parameters: list[Tensor]) -> bool:
    if not (parameters and value.requires_grad):
        return False
    found = torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True)
    return any(g is not None for g in found)
