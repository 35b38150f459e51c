"""What goes together: a VAE and an objective."""

from __future__ import annotations

from typing import Any

from pyro.infer import ELBO, RenyiELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, TraceTMC_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.distributions import part_name
from pyro_vae.objectives.objective import Objective
from pyro_vae.parts import as_likelihood, as_posterior

__all__ = ["check_objective", "usual_objective"]


def check_objective(vae: Any, objective: ELBO, x: Tensor, *context: Tensor) -> None:
    """Raises a ValueError where an objective cannot be minimised with a VAE's distributions, and names what can.

    Args:
        vae: the VAE.
        objective: of Pyro's.
        x: some data, ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
    """
    name = type(objective).__name__
    if _has_discrete_codes(vae):
        if not isinstance(objective, (TraceEnum_ELBO, TraceTMC_ELBO, TraceGraph_ELBO)):
            raise ValueError(
                f"posterior {part_name(vae.posterior)} is discrete: no gradient flows through its draws, and {name} "
                "would have to do with a very noisy estimate. Use TraceEnum_ELBO(max_plate_nesting=1), which sums over "
                "the categories exactly, or posterior and prior RelaxedCategorical"
            )
        vae.encode(x, *context).enumerate_support(expand=False)  # refuses too many values to sum over
    pooled = _has_discrete_codes(vae) or isinstance(objective, RenyiELBO) or getattr(objective, "weighs_draws", False)
    if pooled and as_likelihood(vae.likelihood).depends_on_batch:
        raise ValueError(
            f'likelihood {part_name(vae.likelihood)} with scale="optimal" takes its scale from all draws of z alike, '
            f'and {name} does not weigh them alike. Use scale="learned"'
        )
    if isinstance(objective, Objective):
        objective.check_on(vae.model, vae.guide, x, *context)
    if not isinstance(objective, TraceMeanField_ELBO):
        return
    try:
        kl_divergence(vae.encode(x, *context), vae.prior_of(*context))
    except NotImplementedError as error:
        raise ValueError(
            f"{name} needs KL(posterior || prior) in closed form, and for {part_name(vae.posterior)} with "
            f"{part_name(vae.prior)} none is known. Use Trace_ELBO(), which needs none, or a pair that has one, such "
            "as DiagonalNormal with StandardNormal"
        ) from error


def usual_objective(vae: Any) -> str:
    """The name of the Pyro ELBO that fits a VAE: ``Trace_ELBO``, or ``TraceEnum_ELBO`` for discrete codes."""
    return "TraceEnum_ELBO" if _has_discrete_codes(vae) else "Trace_ELBO"


def _has_discrete_codes(vae: Any) -> bool:
    return as_posterior(vae.posterior).is_discrete
