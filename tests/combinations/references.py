"""The densities of all priors and posteriors a second time, by SciPy or written out, from the numbers in the modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import special, stats

from pyro_vae import posteriors, priors
from tests.combinations.densities import Array, mean_of, softplus
from tests.combinations.parts import POSTERIORS, PRIORS

PRIOR_DENSITIES = {part.cls: part.density for part in PRIORS.values() if part.density}
POSTERIOR_DENSITIES = {part.cls: part.density for part in POSTERIORS.values() if part.density}


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy()


def log_prior(prior: Any, z: torch.Tensor, context: tuple[torch.Tensor, ...] = ()) -> Array:
    """log p(z_i | c_i) for z ``(n, d)``."""
    if isinstance(prior, priors.Flow):
        rows = [tuple(c[i : i + 1] for c in context) for i in range(len(z))]
        flows = [prior.layers(*row) if prior.context_features else prior.layers() for row in rows]
        return np.array([log_flow(flow, z[i]) for i, flow in enumerate(flows)])
    if isinstance(prior, priors.VampPrior):
        each = [log_posterior(prior.posterior, prior.pseudo_inputs[[k] * len(z)], z) for k in range(prior.components)]
        return special.logsumexp(each, axis=0) - np.log(prior.components)
    if isinstance(prior, priors.Exemplar):
        means = [mean_of(prior.posterior, row, z.shape[-1]) for row in array(prior.posterior.net(prior.exemplars))]
        scale = softplus(array(prior.raw_scale))[0, 0]
        each = [stats.norm.logpdf(array(z), mean, scale).sum(-1) for mean in means]
        return special.logsumexp(each, axis=0) - np.log(prior.components)
    inner, own = prior, dict(prior.named_parameters())
    rows = [{name: array(p) for name, p in own.items()}] * len(z)
    if isinstance(prior, priors.Conditional):
        inner, out = prior.prior, array(prior.net(*context))
        own = {name: array(p) for name, p in inner.named_parameters()}
        rows = []
        for i in range(len(z)):
            ends = np.cumsum([p.size for p in own.values()])
            pieces = np.split(out[i], ends[:-1])
            rows.append({n: p + piece.reshape(p.shape) for (n, p), piece in zip(own.items(), pieces, strict=True)})
    density = PRIOR_DENSITIES[type(inner)]
    return np.array([density(inner, row, y) for row, y in zip(rows, array(z), strict=True)])


def log_posterior(posterior: Any, x: torch.Tensor, z: torch.Tensor, context: tuple[torch.Tensor, ...] = ()) -> Array:
    """log q(z_i | x_i, c_i) for z ``(n, d)``."""
    if isinstance(posterior, (posteriors.Flow, posteriors.InverseAutoregressiveFlow)):
        rows = [posterior(x[i : i + 1], *(c[i : i + 1] for c in context)) for i in range(len(x))]
        return np.array([log_flow(row.base, z[i]) for i, row in enumerate(rows)])
    outs = array(posterior.net(x, *context))
    density = POSTERIOR_DENSITIES[type(posterior)]
    return np.array([density(posterior, out, y) for out, y in zip(outs, array(z), strict=True)])


def log_flow(flow: Any, z: torch.Tensor) -> float:
    """The normal density of the noise that the flow maps to z, times the change of volume."""
    with torch.no_grad():
        noise = flow.transform(z.unsqueeze(0))[0] if not flow.batch_shape else flow.transform(z.unsqueeze(0)).squeeze(0)

    def forth(u: torch.Tensor) -> torch.Tensor:
        return flow.transform.inv(u.unsqueeze(0)).squeeze(0)

    np.testing.assert_allclose(array(forth(noise)), array(z), atol=1e-5)  # NSF is inverted by bisection
    jacobian = torch.autograd.functional.jacobian(lambda u: flow.transform(u.unsqueeze(0)).squeeze(0), z)
    base = flow.base.base_dist if hasattr(flow.base, "base_dist") else flow.base
    loc, scale = (array(p).reshape(-1) for p in (base.loc, base.scale))
    return stats.norm.logpdf(array(noise), loc, scale).sum() + np.linalg.slogdet(array(jacobian))[1]
