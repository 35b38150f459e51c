"""Log-densities of single rows, by SciPy or written out, from the parameters of a module or the output of a net."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from pyro_vae import posteriors

Array = np.ndarray


def softplus(raw: Array) -> Array:
    return np.logaddexp(0, raw) + 1e-6


def scipys(distribution):
    """log p(z) of a prior with ``loc`` and ``raw_scale``, by the distribution of SciPy."""
    return lambda prior, p, z: distribution.logpdf(z, p["loc"], softplus(p["raw_scale"])).sum()


def log_student(prior, p, z):
    return stats.t.logpdf(z, 1 + softplus(p["raw_df"]), p["loc"], softplus(p["raw_scale"])).sum()


def log_mixture(prior, p, z):
    each = stats.norm.logpdf(z, p["loc"], softplus(p["raw_scale"])).sum(-1)
    return special.logsumexp(special.log_softmax(p["logits"]) + each)


def log_ratio_normal(z, loc, scale):
    return stats.norm.logpdf(z[:-1] - z[-1], loc, scale).sum()


def log_dirichlet(z, concentration):
    """The density of the logs z of a point: that of the point times its product, the change of volume."""
    return stats.dirichlet.logpdf(np.exp(z), concentration) + z.sum()


def log_one_hot(z, logits):
    groups = z.reshape(logits.shape)
    return special.log_softmax(logits, axis=-1)[groups == 1].sum()


def log_concrete(z, logits, temperature):
    """Maddison, Mnih and Teh (2016), definition 1; it does not matter if the weights are normalised.

    Of the logs z of points: the density of the points, times their product, for the change of volume.
    """
    total = z.sum()
    for y, a in zip(np.exp(z).reshape(logits.shape), logits, strict=True):
        k = len(y)
        total += special.gammaln(k) + (k - 1) * np.log(temperature) + (a - (temperature + 1) * np.log(y)).sum()
        total -= k * special.logsumexp(a - temperature * np.log(y))
    return total


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
    """The mean of a posterior over d real dimensions from its net's output: its first elements, except for Householder."""
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
