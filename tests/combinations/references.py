"""The densities of all priors and posteriors a second time, by SciPy or written out, from the numbers in the modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import special, stats

from pyro_vae import posteriors, priors

Array = np.ndarray


def softplus(raw: Array) -> Array:
    return np.logaddexp(0, raw) + 1e-6


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy()


def log_prior(prior: Any, z: torch.Tensor, context: tuple[torch.Tensor, ...] = ()) -> Array:
    """log p(z_i | c_i) for z ``(n, d)``."""
    if isinstance(prior, priors.Flow):
        rows = [tuple(c[i : i + 1] for c in context) for i in range(len(z))]
        flows = [prior.layers(*row) if prior.context else prior.layers() for row in rows]
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
    """A normal's density at the noise from which the flow makes z, times the change of volume on the way from there."""
    with torch.no_grad():
        noise = flow.transform(z.unsqueeze(0))[0] if not flow.batch_shape else flow.transform(z.unsqueeze(0)).squeeze(0)

    def forth(u: torch.Tensor) -> torch.Tensor:
        return flow.transform.inv(u.unsqueeze(0)).squeeze(0)

    np.testing.assert_allclose(array(forth(noise)), array(z), atol=1e-5)  # NSF is inverted by bisection
    jacobian = torch.autograd.functional.jacobian(lambda u: flow.transform(u.unsqueeze(0)).squeeze(0), z)
    base = flow.base.base_dist if hasattr(flow.base, "base_dist") else flow.base
    loc, scale = (array(p).reshape(-1) for p in (base.loc, base.scale))
    return stats.norm.logpdf(array(noise), loc, scale).sum() + np.linalg.slogdet(array(jacobian))[1]


def log_mixture(prior, p, z):
    each = stats.norm.logpdf(z, p["loc"], softplus(p["raw_scale"])).sum(-1)
    return special.logsumexp(special.log_softmax(p["logits"]) + each)


def log_ratio_normal(z, loc, scale):
    return stats.norm.logpdf(z[:-1] - z[-1], loc, scale).sum()


def log_dirichlet(z, concentration):
    """Of the logs z of a point: the density of the point, times its product, for the change of volume."""
    return stats.dirichlet.logpdf(np.exp(z), concentration) + z.sum()


def log_one_hot(z, logits):
    groups = z.reshape(logits.shape)
    return special.log_softmax(logits, axis=-1)[groups == 1].sum()


def log_concrete(z, logits, temperature):
    """Maddison, Mnih and Teh (2016), definition 1, with the weights normalised or not: it is the same.

    Of the logs z of points: the density of the points, times their product, for the change of volume.
    """
    total = z.sum()
    for y, a in zip(np.exp(z).reshape(logits.shape), logits, strict=True):
        k = len(y)
        total += special.gammaln(k) + (k - 1) * np.log(temperature) + (a - (temperature + 1) * np.log(y)).sum()
        total -= k * special.logsumexp(a - temperature * np.log(y))
    return total


PRIOR_DENSITIES = {
    priors.StandardNormal: lambda prior, p, z: stats.multivariate_normal(np.zeros(len(z))).logpdf(z),
    priors.Normal: lambda prior, p, z: stats.norm.logpdf(z, p["loc"], softplus(p["raw_scale"])).sum(),
    priors.Laplace: lambda prior, p, z: stats.laplace.logpdf(z, p["loc"], softplus(p["raw_scale"])).sum(),
    priors.StudentT: lambda prior, p, z: stats.t.logpdf(
        z, 1 + softplus(p["raw_df"]), p["loc"], softplus(p["raw_scale"])
    ).sum(),
    priors.MixtureOfNormals: log_mixture,
    priors.Dirichlet: lambda prior, p, z: log_dirichlet(z, softplus(p["raw_concentration"])),
    priors.LogisticNormal: lambda prior, p, z: log_ratio_normal(z, p["loc"], softplus(p["raw_scale"])),
    priors.Categorical: lambda prior, p, z: log_one_hot(z, p["logits"]),
    priors.RelaxedCategorical: lambda prior, p, z: log_concrete(z, p["logits"], prior.temperature.item()),
    priors.UniformOnSphere: lambda prior, p, z: special.gammaln(len(z) / 2) - np.log(2) - len(z) / 2 * np.log(np.pi),
}


def halves(out):
    return np.split(out, 2)


def log_normal(posterior, out, z):
    loc, raw = halves(out)
    return stats.norm.logpdf(z, loc, softplus(raw)).sum()


def log_laplace(posterior, out, z):
    loc, raw = halves(out)
    return stats.laplace.logpdf(z, loc, softplus(raw)).sum()


def log_full(posterior, out, z):
    d = len(z)
    factor = np.diag(softplus(out[d : 2 * d]))
    at = 2 * d
    for row in range(1, d):
        for column in range(row):
            factor[row, column] = out[at]
            at += 1
    return stats.multivariate_normal(out[:d], factor @ factor.T).logpdf(z)


def log_low_rank(posterior, out, z):
    loc, raw, *columns = out.reshape(-1, len(z))
    covariance = sum(np.outer(f, f) for f in columns) + np.diag(softplus(raw) ** 2)
    return stats.multivariate_normal(loc, covariance).logpdf(z)


def rotation(directions):
    turn = np.eye(len(directions[0]))
    for v in directions:
        turn = (np.eye(len(v)) - 2 * np.outer(v, v) / (v @ v)) @ turn
    return turn


def mean_of(posterior, out, d):
    """The mean of a posterior over d real dimensions from its net's output: the first of it, but for Householder."""
    loc = out[:d]
    return rotation(out[2 * d :].reshape(-1, d)) @ loc if isinstance(posterior, posteriors.Householder) else loc


def log_householder(posterior, out, z):
    loc, raw, *directions = out.reshape(-1, len(z))
    turn = rotation(directions)
    covariance = turn @ np.diag(softplus(raw) ** 2) @ turn.T
    return stats.multivariate_normal(turn @ loc, covariance).logpdf(z)


def log_logistic_normal(posterior, out, z):
    loc, raw = halves(out)
    return log_ratio_normal(z, loc, softplus(raw))


def log_power_spherical(posterior, out, z):
    """De Cao and Aziz (2020), equation 7: (1 + μ·z)^κ over its integral."""
    d, length = len(z), np.linalg.norm(out + 1e-6)
    mu, kappa = (out + 1e-6) / length, d * length + 1e-6
    alpha, beta = (d - 1) / 2 + kappa, (d - 1) / 2
    log_total = (alpha + beta) * np.log(2) + beta * np.log(np.pi) + special.gammaln(alpha)
    return kappa * np.log1p(mu @ z) - log_total + special.gammaln(alpha + beta)


def grouped(posterior, out):
    return out.reshape(-1, posterior.classes or len(out))


POSTERIOR_DENSITIES = {
    posteriors.DiagonalNormal: log_normal,
    posteriors.Laplace: log_laplace,
    posteriors.FullNormal: log_full,
    posteriors.LowRankNormal: log_low_rank,
    posteriors.Householder: log_householder,
    posteriors.LogisticNormal: log_logistic_normal,
    posteriors.Categorical: lambda q, out, z: log_one_hot(z, grouped(q, out)),
    posteriors.RelaxedCategorical: lambda q, out, z: log_concrete(z, grouped(q, out), q.temperature.item()),
    posteriors.PowerSpherical: log_power_spherical,
}
