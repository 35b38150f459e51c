"""Checks that a VAE and an objective go together."""

from __future__ import annotations

from pyro.infer import ELBO, RenyiELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, TraceTMC_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.distributions import part_name
from pyro_vae.objectives.objective import Objective
from pyro_vae.parts import as_likelihood, as_posterior
from pyro_vae.vae import VAE

__all__ = ["check_objective", "usual_objective"]


def check_objective(vae: VAE, objective: ELBO, x: Tensor, *context: Tensor) -> None:
    """Raise a ValueError if an objective cannot be minimised with a VAE's distributions; say which can.

    Args:
        vae: the VAE.
        objective: an ELBO of Pyro or of this library.
        x: some data, ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
    """
    name = type(objective).__name__
    if _has_discrete_codes(vae):
        if not isinstance(objective, (TraceEnum_ELBO, TraceTMC_ELBO, TraceGraph_ELBO)):
            raise ValueError(
                f"posterior {part_name(vae.posterior)} is discrete: no gradient flows through its draws, so {name} "
                "would have a very noisy gradient. Use TraceEnum_ELBO(max_plate_nesting=1), which sums over the "
                "categories exactly, or posterior and prior RelaxedCategorical"
            )
        vae.encode(x, *context).enumerate_support(expand=False)  # refuses too many values to sum over
    weighs_draws = objective.weighs_draws if isinstance(objective, Objective) else isinstance(objective, RenyiELBO)
    if (weighs_draws or _has_discrete_codes(vae)) and as_likelihood(vae.likelihood).depends_on_batch:
        raise ValueError(
            f'likelihood {part_name(vae.likelihood)} with scale="optimal" computes its scale from all draws of z with '
            f'equal weights, but {name} weighs them. Use scale="learned"'
        )
    if vae.mask_likelihood is not None:
        _check_missing_values(vae, objective, x, *context)
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


def _check_missing_values(vae: VAE, objective: ELBO, x: Tensor, *context: Tensor) -> None:
    """Raise a ValueError if an objective needs more of the missing values than the likelihood has."""
    name, likelihood = type(objective).__name__, vae.decode(vae.encode(x, *context)(), *context)
    if not likelihood.has_rsample and not isinstance(objective, TraceGraph_ELBO):
        raise ValueError(
            f"likelihood {part_name(vae.likelihood)} has no gradient through its draws, and mask_likelihood sees drawn "
            f"values where x is missing, so {name} would have no gradient there or a very noisy one. Use "
            "TraceGraph_ELBO(), whose gradient needs none, or leave mask_likelihood out"
        )
    if isinstance(objective, TraceMeanField_ELBO):
        missing, _ = vae.missing_values(likelihood, x)
        try:
            kl_divergence(missing, missing)
        except NotImplementedError as error:
            raise ValueError(
                f"{name} needs the KL between p(x|z) and itself in closed form where x is missing. It is 0, but for "
                f"{part_name(vae.likelihood)} no form is known. Use Trace_ELBO(), which needs none"
            ) from error


def usual_objective(vae: VAE) -> str:
    """Return the name of the Pyro ELBO for a VAE: ``Trace_ELBO``, or ``TraceEnum_ELBO`` if the codes are discrete."""
    return "TraceEnum_ELBO" if _has_discrete_codes(vae) else "Trace_ELBO"


def _has_discrete_codes(vae: VAE) -> bool:
    return as_posterior(vae.posterior).is_discrete
