"""Gradients of the guide through the draws alone, without the score of log q, whose mean is zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, Unpack

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.enum import get_importance_trace
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.distributions import check_inverse, innermost
from pyro_vae.objectives.gradients import gradients, parameters_of, trained, with_gradients
from pyro_vae.objectives.importance import IWAE
from pyro_vae.objectives.objective import Objective, Options
from pyro_vae.terms import Terms
from pyro_vae.value_checks import holds

__all__ = ["DReG", "StickingTheLanding"]

_P = ParamSpec("_P")


class _PathGradient(Objective):
    """Runs the guide a second time, at its draws detached from the first run.

    The derivative by a draw then reaches the guide's parameters only through that draw. A part that the model shares
    with the guide, such as the encoder in a VampPrior, is trained there as a part of the model.
    """

    def __init__(self, num_particles: int, **options: Unpack[Options]) -> None:
        if not options.get("vectorize_particles", True):
            raise ValueError(f"{type(self).__name__} needs vectorize_particles=True; got False")
        super().__init__(num_particles, **options)

    @property
    def importance_particles(self) -> int | None:
        """The number of particles."""
        return self.num_particles

    def shares(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """Return the weight of each draw in the gradient of the model, and its further factor in that of the guide.

        Args:
            terms: without gradient.
        """
        raise NotImplementedError

    def differentiable_loss(
        self, model: Callable[_P, object], guide: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> Tensor:
        """Return the loss, with the gradient through the draws."""
        if not torch.is_grad_enabled():
            return super().differentiable_loss(model, guide, *args, **kwargs)
        if self.num_particles > 1:
            if self.max_plate_nesting == math.inf:
                self._guess_max_plate_nesting(model, guide, args, kwargs)
            model, guide = self._vectorized_num_particles(model), self._vectorized_num_particles(guide)
        drawn = poutine.trace(guide).get_trace(*args, **kwargs)
        detached, leaves = _detached(drawn)
        for name in leaves:
            what = f"{type(self).__name__} evaluates densities twice, unlike BetaELBO and IWAE: site {name!r}"
            check_inverse(drawn.nodes[name]["fn"], f"{what} of the guide")
        replayed = poutine.replay(guide, trace=detached)
        traces = get_importance_trace("flat", self.max_plate_nesting, model, replayed, args, kwargs)
        self.check(traces[1])
        self._check_second_run(drawn, traces[1], leaves)
        terms = self._read([traces])
        with torch.no_grad():
            bound = self.objective(terms)
            share, factor = self.shares(terms)
        of_model = trained(parameters_of([traces[0]]))
        of_joint = gradients((share * (terms.recon + terms.prior)).sum(), [*leaves.values(), *of_model])
        of_posterior = gradients((share * terms.posterior).sum(), list(leaves.values()))
        found = list(zip(of_model, of_joint[len(leaves) :], strict=True))
        for name, by_joint, by_posterior in zip(leaves, of_joint, of_posterior, strict=False):
            site = drawn.nodes[name]
            factors = factor[0] if self.num_particles == 1 else factor  # laid out as a draw
            factors = factors[(..., *[None] * site["fn"].event_dim)]
            found.append((site["value"], factors * (by_joint - by_posterior)))
        return with_gradients(-terms.scale, bound, found)

    def _check_second_run(self, first: Trace, second: Trace, leaves: Mapping[str, Tensor]) -> None:
        name = type(self).__name__
        parameters = trained(parameters_of([second]))
        for site in second.nodes.values():
            if site["type"] != "sample" or site["is_observed"]:
                continue
            log_q = site["unscaled_log_prob"]
            if site["name"] not in leaves:
                if _depends(site["value"], parameters) or _depends(log_q, parameters):
                    raise ValueError(
                        f"{name} takes gradients through draws; site {site['name']!r} of the guide is a point (Delta) "
                        "that depends on parameters in other ways too, as in AutoDelta and AutoStructured. Use "
                        "BetaELBO or IWAE"
                    )
                continue
            with torch.no_grad():
                before = first.nodes[site["name"]]["fn"].log_prob(site["value"])
                differs = (log_q - before).abs() > 1e-3 * (1 + before.abs())
            if not holds(~differs.any()):
                raise ValueError(
                    f"{name} runs the guide twice, and at site {site['name']!r} the second run had another "
                    "distribution, as with dropout. Remove dropout from the guide, or use BetaELBO or IWAE"
                )


class StickingTheLanding(_PathGradient):
    """The ELBO, with a gradient whose variance vanishes if q is the true posterior.

    (Roeder, Wu and Duvenaud 2017, arXiv 1703.09194.) Each step runs the guide twice; both runs must give the same
    distributions.

    Args:
        num_particles: draws of the latent variables per example.
        **options: see :class:`Objective`.

    Example:
        >>> import pyro, torch
        >>> from pyro.infer import SVI
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), StickingTheLanding())
        >>> loss = svi.step(torch.ones(3, 4))
    """

    def __init__(self, num_particles: int = 1, **options: Unpack[Options]) -> None:
        super().__init__(num_particles, **options)

    @property
    def importance_particles(self) -> int | None:
        """One, since this is the ELBO."""
        return 1

    def objective(self, terms: Terms) -> Tensor:
        """Return recon − kl, a sum over the examples."""
        self.note(terms)
        return terms.mean(terms.weight).sum()

    def shares(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """Return equal weights for all draws, and no further factor."""
        one = torch.ones_like(terms.weight)
        return one / terms.num_particles, one


class DReG(_PathGradient):
    """IWAE, with a doubly reparametrised gradient of the guide (Tucker et al. 2018, arXiv 1810.04152).

    The signal-to-noise ratio of this gradient does not fall as K grows. Each step runs the guide twice; both runs must
    give the same distributions.

    Args:
        num_particles: K; with one, this is :class:`StickingTheLanding`.
        **options: see :class:`Objective`.

    Example:
        >>> DReG(num_particles=20).num_particles
        20
    """

    weighs_draws = True
    objective = IWAE.objective

    def __init__(self, num_particles: int = 50, **options: Unpack[Options]) -> None:
        super().__init__(num_particles, **options)

    def shares(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """Return the normalised weight of each draw, and the same as factor for the guide."""
        share = torch.softmax(terms.weight, terms.dim)
        return share, share


def _detached(drawn: Trace) -> tuple[Trace, dict[str, Tensor]]:
    """Return a trace to replay with detached draws, and these draws; points that follow from others are left out."""
    detached, leaves = poutine.Trace(), {}
    for name, site in drawn.nodes.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        if not site_is_subsample(site):
            if isinstance(innermost(site["fn"]), Delta):
                continue
            leaves[name] = site["value"].detach().requires_grad_(site["value"].is_floating_point())
        detached.add_node(name, **{**site, "value": leaves.get(name, site["value"])})
    return detached, leaves


def _depends(value: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Return True if a gradient of the value reaches one of the parameters."""
    if not (parameters and value.requires_grad):
        return False
    found = torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True)
    return any(g is not None for g in found)
