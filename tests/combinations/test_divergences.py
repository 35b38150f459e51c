"""KL(q || p) in closed form, for every pair that has one: it is the integral, the sum, and the mean over draws.

No closed form has a flow on either side (its log-density is a neural network's), a mixture or VampPrior of codes that
cannot be counted (E log Σ), StudentT (E log(1 + z²) of a normal is a hypergeometric series, of a Laplace a complex
exponential integral), LogisticNormal with Dirichlet or RelaxedCategorical (E log Σ exp of normals), RelaxedCategorical
with Dirichlet or, at another temperature, itself (E log Σ of powers of exponentials; at the same temperature a divided
difference of w^(K−1) log w, which cancels where the weights w are close).
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from scipy import stats
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily, MultivariateNormal, kl_divergence

from pyro_vae import VAE, elbo_terms, likelihoods, nets, posteriors, priors
from pyro_vae.compatibility import check_objective
from pyro_vae.distributions import Grouped, LogisticNormal, PowerSpherical, RelaxedOneHot, TorchToPyro, UniformOnSphere
from tests.combinations.grids import grid_for, values
from tests.combinations.parts import (
    COMBINATIONS,
    NORMALS,
    ONE_HOT,
    POSTERIORS,
    PRIORS,
    REAL,
    SPHERE,
    D,
    Density,
    make_context,
    make_vae,
    make_x,
    name_of,
)
from tests.combinations.references import log_prior

CLOSED_FORMS = [(name, q) for name, prior in PRIORS.items() for q in prior.closed_forms]
POINTS = [pair for pair in COMBINATIONS if pair[1] == "Delta"]
DISCRETE = [pair for pair in CLOSED_FORMS if POSTERIORS[pair[1]].space == ONE_HOT]
CONTINUOUS = [pair for pair in CLOSED_FORMS if pair not in DISCRETE]
every = pytest.mark.parametrize("pair", [*CLOSED_FORMS, *POINTS], ids=name_of)
closed = pytest.mark.parametrize("pair", CLOSED_FORMS, ids=name_of)


@cache
def distributions(pair: tuple[str, str], latent_dim: int | None = None) -> tuple[Any, Any]:
    """(q, p), by default in a dimension that can be integrated."""
    vae, c = make_vae(*pair, latent_dim or POSTERIORS[pair[1]].small_dim), make_context(pair[0])
    return vae.encode(make_x(), *c), vae.prior_of(*c)


def closed_form(pair: tuple[str, str]) -> Tensor | None:
    try:
        return kl_divergence(*distributions(pair)).detach()
    except NotImplementedError:
        return None


def test_the_pairs_with_a_closed_form_are_those_listed(monkeypatch):
    """torch finds exactly one best registration for each pair; otherwise it would warn."""
    monkeypatch.setattr(torch.distributions.kl, "_KL_MEMOIZE", {})  # it warns the first time only
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = {pair for pair in COMBINATIONS if closed_form(pair) is not None}
    assert found == {*CLOSED_FORMS, *POINTS}


# Against numerical integration.


def panels(breaks: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Points and log weights of Gauss and Legendre's rule between each two neighbours of ``breaks``."""
    x, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(nodes))
    low, half = breaks[:-1, None], breaks.diff()[:, None] / 2
    return (low + half * (1 + x)).flatten(), (half * w).log().flatten()


def real_plane(q: Any, p: Any, nodes: int = 20) -> tuple[Tensor, Tensor]:
    """Points (n, batch, 2) and log weights over ±60 standard deviations, broken where the densities may have kinks."""
    steps = torch.tensor([0.5, 1, 1.5, 2, 3, 4, 6, 9, 14, 22, 36, 60], dtype=torch.float64)
    points, weights = [], []
    for row in range(3):
        axes = []
        for dim in range(2):
            centre, kink = q.mean[row, dim], p.mean.expand(3, 2)[row, dim]
            breaks = torch.cat(
                [centre + q.variance[row, dim].sqrt() * torch.cat([-steps.flip(0), steps]), centre[None]]
            )
            axes.append(panels(torch.cat([breaks, kink[None]]).sort().values.detach(), nodes))
        points.append(torch.cartesian_prod(*(a for a, _ in axes)))
        weights.append(torch.cartesian_prod(*(w for _, w in axes)).sum(-1))
    return torch.stack(points, 1), torch.stack(weights, 1)


def globe(q: Any, heights: int = 200, longitudes: int = 8) -> tuple[Tensor, Tensor]:
    """Points (n, batch, 3) and log weights, the poles at q's mode and against it, where its power has a root.

    With heights 2 s² − 1, that root is smooth in s.
    """
    s, log_weight = panels(torch.tensor([0.0, 1.0], dtype=torch.float64), heights)
    angle = torch.arange(longitudes, dtype=torch.float64) * (2 * math.pi / longitudes)
    s, a = torch.cartesian_prod(s, angle).T
    h = 2 * s**2 - 1
    r = (1 - h**2).sqrt()
    local = torch.stack([h, r * a.cos(), r * a.sin()], dim=-1)
    start = torch.cat([q.mode.detach().unsqueeze(-1), torch.eye(3, dtype=torch.float64)[:, :2].expand(3, 3, 2)], -1)
    frame, triangle = torch.linalg.qr(start)
    frame = frame * triangle[:, :1, :1].sign()
    log_volume = log_weight.repeat_interleave(longitudes) + (4 * s).log() + math.log(2 * math.pi / longitudes)
    return torch.einsum("nk,bdk->nbd", local, frame), log_volume.unsqueeze(1).expand(-1, 3)


def points_and_volumes(pair: tuple[str, str], q: Any, p: Any) -> tuple[Tensor, Tensor]:
    space = POSTERIORS[pair[1]].space
    if space == REAL:
        return real_plane(q, p)
    if space == SPHERE:
        return globe(q)
    grid = grid_for(Density("posterior", *pair), q)  # the trapezoid rule, which is exact for smooth densities
    return grid.z, grid.log_volume


@pytest.mark.parametrize("pair", CONTINUOUS, ids=name_of)
def test_it_is_the_integral(pair):
    """∫ q (log q − log p)."""
    q, p = distributions(pair)
    z, log_volume = points_and_volumes(pair, q, p)
    with torch.no_grad():
        log_q, log_p = q.log_prob(z), p.log_prob(z)
    weights = (log_q + log_volume).exp()
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-8)
    exact = closed_form(pair)
    assert exact.shape == (3,)
    assert (exact > 0).all()
    np.testing.assert_allclose(exact, torch.where(weights > 0, weights * (log_q - log_p), 0).sum(0), rtol=1e-8)


@pytest.mark.parametrize("pair", DISCRETE, ids=name_of)
def test_it_is_the_sum(pair):
    """Over all values, listed here and not by the distributions."""
    q, p = distributions(pair)
    z = values(Density("posterior", *pair)).unsqueeze(1)
    log_q = q.log_prob(z)
    total = (log_q.exp() * (log_q - p.log_prob(z))).sum(0).detach()
    exact = closed_form(pair)
    assert exact.shape == (3,)
    assert (exact > 0).all()
    np.testing.assert_allclose(exact, total, rtol=1e-12)


@pytest.mark.parametrize("pair", POINTS, ids=name_of)
def test_of_a_point_it_is_minus_the_log_density(pair):
    """Like Pyro, without the entropy of a point, −∞."""
    vae, c = make_vae(*pair, 2), make_context(pair[0])
    expected = -log_prior(vae.prior, vae.posterior.net(make_x(), *c), c)
    np.testing.assert_allclose(closed_form(pair), expected, rtol=1e-10)


@closed
def test_it_is_the_mean_over_draws(pair):
    """In four dimensions, 20,000 draws per example, within 4.5 standard errors on a fixed seed.

    A false alarm has probability 7e-6 for each of 90 numbers, so that one choice of seeds in 1,600 would fail by chance.
    """
    pyro.set_rng_seed(1)
    q, p = distributions(pair, D)
    with torch.no_grad():
        z = q.sample((20_000,))
        ratio = q.log_prob(z) - p.log_prob(z)
        score = (kl_divergence(q, p) - ratio.mean(0)) / (ratio.std(0) / math.sqrt(20_000))
    assert score.shape == (3,)
    assert score.abs().max() < 4.5, score


# Against other closed forms.


def given(posterior: Any, *parameters: Tensor) -> Any:
    """A posterior whose net gives these parameters."""
    posterior.net = nn.Identity()
    return posterior(torch.cat(parameters, dim=-1))


def of_shape(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(q: Any) -> Tensor:
    """Of a normal, from its noise carried through the making: the columns of its factor."""
    if isinstance(q, TorchToPyro):
        return q.base.scale_tril @ q.base.scale_tril.mT
    if isinstance(q, dist.LowRankMultivariateNormal):
        return q.cov_factor @ q.cov_factor.mT + torch.diag_embed(q.cov_diag)
    if not isinstance(q, dist.TransformedDistribution):
        return torch.diag_embed(q.variance)
    turned = torch.diag_embed(q.base_dist.stddev)
    for v in q.transforms[0].u_unnormed.unbind(-2):
        outer = v.unsqueeze(-1) * v.unsqueeze(-2)
        turned = (torch.eye(D, dtype=v.dtype) - 2 * outer / v.square().sum(-1)[:, None, None]) @ turned
    return turned @ turned.mT


@pytest.mark.parametrize("posterior", NORMALS)
def test_to_a_normal_it_is_that_of_the_covariances(posterior):
    q, p = distributions(("Normal", posterior), D)
    both = MultivariateNormal(q.mean, covariance(q)), MultivariateNormal(p.mean, torch.diag_embed(p.variance))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(*both), rtol=1e-10, atol=0)


@pytest.mark.parametrize("posterior", NORMALS)
def test_to_a_laplace_it_is_that_of_folded_normals(posterior):
    """−entropy + Σ log 2b + E|z − m| / b, with SciPy's mean of |z − m|."""
    q, p = distributions(("Laplace", posterior), D)
    both = covariance(q).detach()
    sd = both.diagonal(dim1=-2, dim2=-1).sqrt()
    m, b = p.base_dist.loc.detach(), p.base_dist.scale.detach()
    folded = stats.foldnorm.mean(((q.mean.detach() - m).abs() / sd).numpy(), scale=sd.numpy())
    expected = (folded / b.numpy() + np.log(2 * b.numpy())).sum(-1) - 0.5 * np.linalg.slogdet(
        2 * math.pi * math.e * both.numpy()
    )[1]
    np.testing.assert_allclose(kl_divergence(q, p).detach(), expected, rtol=1e-10)


def test_the_moments_and_entropy_of_a_turned_normal():
    q, _ = distributions(("Normal", "Householder"), D)
    same = MultivariateNormal(q.mean, covariance(q))
    torch.testing.assert_close(q.variance, same.variance, rtol=1e-12, atol=0)
    torch.testing.assert_close(q.entropy(), same.entropy(), rtol=1e-12, atol=0)
    assert q.expand((2, 3)).variance.shape == (2, 3, D)


def test_a_turned_normal_remembers_its_draw_while_it_is_asked_for_moments():
    q, _ = distributions(("Normal", "Householder"), D)
    z = q.rsample()
    noise = q.transforms[0].inv(z)
    assert q.variance.shape == q.mean.shape == z.shape
    assert q.transforms[0].inv(z) is noise


def test_of_two_relaxed_categories_it_is_that_of_a_logistic():
    """log(y_1 / y_2) is logistic with mean (log α_1 − log α_2) / λ and scale 1 / λ."""
    for temperature in (0.1, 0.67, 1.0, 3.0):
        logits = torch.tensor([[[0.8, -0.3]]], dtype=torch.float64)
        p = LogisticNormal(torch.tensor([0.4], dtype=torch.float64), torch.tensor([1.7], dtype=torch.float64))
        q = stats.logistic(1.1 / temperature, 1 / temperature)
        cross = 0.5 * (q.var() + (q.mean() - 0.4) ** 2) / 1.7**2 + math.log(1.7 * math.sqrt(2 * math.pi))
        kl = kl_divergence(Grouped(RelaxedOneHot(temperature, logits)), p)
        np.testing.assert_allclose(kl, [cross - q.entropy()], rtol=1e-10)


# Zero, where q is p.


def coinciding() -> dict[str, tuple[Any, Any]]:
    loc, raw, row = of_shape(3, 4), of_shape(3, 4, seed=1), of_shape(3, 12, seed=2)
    scale = nn.functional.softplus(raw) + 1e-6
    normal = dist.Normal(loc, scale).to_event(1)
    equal = raw[:, :1].expand(3, 4)  # a ball looks the same from all sides
    ball = given(posteriors.Householder(nn.Identity(), 3), loc, equal, row)
    logits = of_shape(3, 2, 3)
    one_hot = Grouped(dist.OneHotCategorical(logits=logits))
    twice = dist.OneHotCategorical(logits=logits.unsqueeze(-3).expand(3, 5, 2, 3))
    weights = torch.distributions.Categorical(logits=of_shape(3, 5))
    mu = nn.functional.normalize(loc, dim=-1)
    return {
        "DiagonalNormal": (given(posteriors.DiagonalNormal(nn.Identity()), loc, raw), normal),
        "FullNormal": (given(posteriors.FullNormal(nn.Identity()), loc, raw, torch.zeros(3, 6)), normal),
        "LowRankNormal": (given(posteriors.LowRankNormal(nn.Identity()), loc, raw, torch.zeros(3, 8)), normal),
        "Householder": (ball, dist.Normal(ball.mean, scale[:, :1]).to_event(1)),
        "Laplace": (given(posteriors.Laplace(nn.Identity()), loc, raw), dist.Laplace(loc, scale).to_event(1)),
        "LogisticNormal": (LogisticNormal(loc, scale), LogisticNormal(loc, scale)),
        "Categorical": (one_hot, Grouped(dist.OneHotCategorical(logits=logits))),
        "VampPrior": (one_hot, TorchToPyro(MixtureSameFamily(weights, Grouped(twice), validate_args=False))),
        "PowerSpherical": (PowerSpherical(mu, torch.full((3,), 1e-12, dtype=torch.float64)), UniformOnSphere(4)),
    }


@pytest.mark.parametrize("family", coinciding())
def test_it_is_zero_where_the_two_are_one(family):
    kl = kl_divergence(*coinciding()[family])
    torch.testing.assert_close(kl, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-11)


# Shapes, gradients, precision and uses.


@every
def test_batches_of_either_side(pair):
    q, p = distributions(pair)
    with torch.no_grad():
        kl = kl_divergence(q, p)
        for one, other, shape in (
            (q, p.expand((3,)), (3,)),
            (q.expand((2, 3)), p, (2, 3)),
            (q.expand((2, 3)), p.expand((3,)), (2, 3)),
            (q, p.expand((2, 3)), (2, 3)),
        ):
            got = kl_divergence(one, other)
            assert got.shape == shape
            torch.testing.assert_close(got, kl.expand(shape), rtol=1e-12, atol=0)


class _KL(nn.Module):
    def __init__(self, pair: tuple[str, str]) -> None:
        super().__init__()
        self.vae, self.c = make_vae(*pair, POSTERIORS[pair[1]].small_dim), make_context(pair[0])

    def forward(self) -> Tensor:
        return kl_divergence(self.vae.encode(make_x(), *self.c), self.vae.prior_of(*self.c))


@closed
def test_gradients(pair):
    """With respect to all parameters of posterior and prior, along random directions."""
    module = _KL(pair)
    names = [n for n, _ in module.named_parameters() if "likelihood" not in n]
    tensors = [module.get_parameter(n).detach().clone().requires_grad_() for n in names]
    gradient = torch.autograd.grad(
        torch.func.functional_call(module, dict(zip(names, tensors, strict=True)), ()).sum(), tensors
    )
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in gradient)
    assert torch.autograd.gradcheck(
        lambda *ts: torch.func.functional_call(module, dict(zip(names, ts, strict=True)), ()), tensors, fast_mode=True
    )


@closed
def test_float32_gives_the_same(pair):
    vae, c = make_vae(*pair, D).float(), [t.float() for t in make_context(pair[0])]
    kl = kl_divergence(vae.encode(make_x().float(), *c), vae.prior_of(*c))
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl.double(), kl_divergence(*distributions(pair, D)), rtol=1e-4, atol=1e-5)


@closed
def test_the_bound_uses_it(pair):
    """``elbo_terms`` takes it as its kl; TraceMeanField_ELBO is allowed, and gives the sum of these terms."""
    vae, x, c = make_vae(*pair), make_x(), make_context(pair[0])
    objective = TraceMeanField_ELBO()
    terms = elbo_terms(vae, x, *c, kl="analytic", seed=3)
    torch.testing.assert_close(terms.kl, kl_divergence(*distributions(pair, D)), rtol=1e-12, atol=0)
    if pair in DISCRETE:
        return  # of which no gradient comes through draws
    check_objective(vae, objective, x, *c)
    pyro.set_rng_seed(3)
    assert objective.loss(vae.model, vae.guide, x, *c) == pytest.approx(-terms.elbo.sum().item(), rel=1e-12)


# Pairs without a closed form, though similar pairs have one.


def test_codes_with_too_many_values_have_no_sum():
    """2 ** 13 values are too many to sum over; ``elbo_terms`` names the alternatives."""
    posterior = posteriors.Categorical(nets.MLP(4, (), 26), classes=2)
    vae = VAE(priors.VampPrior(posterior, 4, components=2), likelihoods.Bernoulli(nets.MLP(26, (), 4)), posterior)
    x = torch.zeros(3, 4)
    with pytest.raises(NotImplementedError, match=r"sum over all values: 13 groups of 2 values have 2\*\*13 = 8192"):
        kl_divergence(vae.encode(x), vae.prior_of())
    with pytest.raises(ValueError, match='no closed form is known for .* prior VampPrior. Use kl="sampled"'):
        elbo_terms(vae, x, kl="analytic")


def test_one_hot_codes_with_any_prior_over_them():
    """A user's own prior, bare or wrapped; a prior over real vectors gives these codes no probability."""
    logits = of_shape(3, 4)
    q, p = Grouped(dist.OneHotCategorical(logits=logits.unsqueeze(-2))), dist.OneHotCategorical(logits=of_shape(4))
    expected = kl_divergence(dist.OneHotCategorical(logits=logits), p)
    torch.testing.assert_close(kl_divergence(q, p), expected)
    torch.testing.assert_close(kl_divergence(q, TorchToPyro(p)), expected)
    sure = Grouped(dist.OneHotCategorical(logits=torch.tensor([[[0.0, -torch.inf, -torch.inf, -torch.inf]]]).double()))
    torch.testing.assert_close(kl_divergence(sure, p), -p.logits[:1])
    for real in (dist.Normal(torch.zeros(4), 1.0).to_event(1), dist.Dirichlet(torch.ones(4))):
        with pytest.raises(NotImplementedError):
            kl_divergence(q, real)


@pytest.mark.parametrize(
    "q",
    [
        Grouped(RelaxedOneHot(0.5, torch.zeros(3, 2, 2))),
        Grouped(RelaxedOneHot(0.5, torch.zeros(3, 1, 5))),
        Grouped(dist.OneHotCategorical(logits=torch.zeros(3, 1, 4))),
    ],
    ids=["two simplices", "another size", "corners"],
)
def test_other_groups_with_a_logistic_normal(q):
    with pytest.raises(NotImplementedError):
        kl_divergence(q, LogisticNormal(torch.zeros(3), torch.ones(3)))


def test_normals_with_what_is_not_one_row_of_independent_dimensions():
    q, _ = distributions(("Normal", "Householder"), D)
    for p in (dist.Normal(torch.zeros(3, 4), 1.0).to_event(2), dist.Dirichlet(torch.ones(3, 4)).to_event(1)):
        with pytest.raises(NotImplementedError):
            kl_divergence(q, p)
