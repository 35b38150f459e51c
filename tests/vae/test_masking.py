"""A model of the mask: p(observed, mask) by quadrature, gradients, imputations, and what the mask model must not change."""

from __future__ import annotations

import copy
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_vae import VAE, average_elbo, build, elbo_terms, evaluation, objectives, priors
from pyro_vae.mask_likelihoods import LinearMasking, SelfMasking

NAN = math.nan
X = torch.tensor([[0.4, NAN], [NAN, -1.2], [NAN, NAN], [0.9, 0.1]], dtype=torch.float64)


class Likelihood(nn.Module):
    """p(x | z) for z of one dimension and x of two, as ``make`` says."""

    def __init__(self, make):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -0.7], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor([0.2, 0.3], dtype=torch.float64))
        self.make = make

    def forward(self, z):
        return self.make(z * self.weight + self.bias).to_event(1)


class Posterior(nn.Module):
    """q(z | x), of the right width for these data."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Linear(4, 1).double()
        self.raw = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x):
        return dist.Normal(self.loc(x), nn.functional.softplus(self.raw)).to_event(1)


SCALE = 0.6


def normal(mean):
    return dist.Normal(mean, SCALE)


def bernoulli(logits):
    return dist.Bernoulli(logits=logits)


def make_vae(make=normal, masking=SelfMasking):
    torch.manual_seed(0)
    mask_likelihood = masking(2)
    with torch.no_grad():
        for parameter in mask_likelihood.parameters():
            parameter.copy_(torch.randn_like(parameter))
    vae = VAE(
        priors.StandardNormal(1), Likelihood(make), Posterior(), missing=True, mask_likelihood=mask_likelihood.double()
    )
    return vae.double()


def nodes(count=25):
    """Points and log-weights of Gauss-Hermite quadrature for a standard normal."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return torch.tensor(points), torch.tensor(weights).log() - 0.5 * math.log(2 * math.pi)


def log_mask_given_z(vae, x, z):
    """log p(x observed, mask | z) of one row x at each z ``(n, 1)``, summed or integrated over missing values."""
    seen, p = ~x.isnan(), vae.likelihood(z).base_dist
    if isinstance(p, dist.Normal):
        points, log_w = nodes()
        values = p.loc[:, None] + SCALE * points[None, :, None]  # (n, nodes, 2), the same node in both columns
    else:
        points, log_w = torch.tensor([0.0, 1.0]), None
    total = torch.zeros(len(z), dtype=torch.float64)
    # All pairs of nodes for the two columns, since a model of the mask may look at both.
    for a in range(len(points)):
        for b in range(len(points)):
            if (seen[0] and a) or (seen[1] and b):
                continue
            pick = (a, b)
            full, weight = [], torch.zeros(len(z), dtype=torch.float64)
            for j in range(2):
                if seen[j]:
                    full.append(x[j].expand(len(z)))
                elif log_w is None:
                    full.append(points[pick[j]].expand(len(z)).double())
                    weight = weight + dist.Bernoulli(logits=p.logits[:, j]).log_prob(full[-1])
                else:
                    full.append(values[:, pick[j], j])
                    weight = weight + log_w[pick[j]]
            log_s = vae.mask_of(torch.stack(full, 1)).log_prob(seen.double())
            total = total + (weight + log_s).exp()
    log_x = p.log_prob(x.where(seen, 0.0))
    return total.log() + torch.where(seen, log_x, 0.0).sum(1)


def log_evidence(vae, x):
    """log p(x observed, mask) of each row by quadrature over z."""
    z, log_w = nodes()
    return torch.stack([(log_mask_given_z(vae, row, z[:, None]) + log_w).logsumexp(0) for row in x])


@pytest.mark.parametrize(
    ("make", "masking"),
    [
        (normal, LinearMasking),
        (bernoulli, SelfMasking),
        pytest.param(normal, SelfMasking, marks=pytest.mark.slow),
        pytest.param(bernoulli, LinearMasking, marks=pytest.mark.slow),
    ],
)
def test_importance_sampling_finds_the_evidence(make, masking):
    """False alarm: 4 cases of 4 rows at 5 standard errors, 1e-5."""
    vae, x = make_vae(make, masking), X if make is normal else X.round().clamp(0, 1)
    with torch.no_grad():
        exact = log_evidence(vae, x)
    found = evaluation.importance_sampling(vae, x, num_particles=20_000)
    assert ((found.log_prob - exact).abs() < 5 * found.standard_error + 1e-3).all()
    assert (found.standard_error < 0.03).all()


def exact_elbo(vae, x):
    """E_q(z) E_p(missing | z) [log p(x observed | z) + log p(mask | x)] - KL, by quadrature, with gradient."""
    q = vae.encode(x).base_dist
    points, log_w = nodes(41)
    found = []
    for i, row in enumerate(x):
        z, seen = (q.loc[i] + q.scale[i] * points)[:, None], ~row.isnan()
        p = vae.likelihood(z).base_dist
        log_x = torch.where(seen, p.log_prob(row.where(seen, 0.0)), 0.0).sum(1)
        log_s = torch.zeros(len(z), dtype=torch.float64)
        for j in range(2):  # SelfMasking: each column alone
            if isinstance(p, dist.Normal):
                values, weight = p.loc[:, j, None] + SCALE * points, log_w.exp().expand(len(z), -1)
            else:
                values = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(len(z), 2)
                weight = torch.stack([1 - p.probs[:, j], p.probs[:, j]], 1)
            if seen[j]:
                values, weight = row[j].expand(len(z), 1), torch.ones(len(z), 1, dtype=torch.float64)
            both = values.unsqueeze(-1).expand(*values.shape, 2)
            each = vae.mask_of(both).base_dist.log_prob(seen.double())[..., j]
            log_s = log_s + (weight * each).sum(1)
        prior = dist.Normal(0.0, 1.0)
        kl = torch.distributions.kl_divergence(dist.Normal(q.loc[i, 0], q.scale[i, 0]), prior)
        found.append((log_w.exp() * (log_x + log_s)).sum() - kl)
    return torch.stack(found).sum()


def gradients(vae, value):
    parameters = list(vae.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])


@pytest.mark.parametrize(
    ("objective", "make"),
    [
        (Trace_ELBO(), normal),
        (TraceMeanField_ELBO(), normal),
        (objectives.BetaELBO(1.0), normal),
        (objectives.StickingTheLanding(), normal),
        (Trace_ELBO(), bernoulli),
        (TraceGraph_ELBO(), bernoulli),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_the_gradient_is_that_of_the_bound(objective, make):
    """False alarm: 6 cases of 15 gradients at 5 standard errors, 5e-5."""
    vae, x = make_vae(make), X if make is normal else X.round().clamp(0, 1)
    exact = gradients(vae, exact_elbo(vae, x))
    copies, runs = 60, []
    rows = x.repeat(copies, 1)
    for seed in range(25):
        pyro.set_rng_seed(seed)
        vae.zero_grad()
        objective.loss_and_grads(vae.model, vae.guide, rows)
        runs.append(-torch.cat([p.grad.flatten() for p in vae.parameters()]) / copies)
    found = torch.stack(runs)
    error = found.std(0) / math.sqrt(len(runs))
    # 24 degrees of freedom: t of 5.6 has the tail of a normal at 5.
    assert ((found.mean(0) - exact).abs() < 6.5 * error + 1e-9).all()
    assert (error < 0.2 * exact.abs().max()).all()


@pytest.mark.slow
def test_importance_weighted_gradients_agree():
    """DReG's gradient is that of IWAE on average. False alarm: 15 gradients at 5 standard errors, 1e-5."""
    vae, runs = make_vae(), {}
    for cls in (objectives.IWAE, objectives.DReG):
        found = []
        objective = cls(num_particles=5, max_plate_nesting=1)
        for seed in range(60):
            pyro.set_rng_seed(seed)
            vae.zero_grad()
            objective.loss_and_grads(vae.model, vae.guide, X.repeat(100, 1))
            found.append(torch.cat([p.grad.flatten() for p in vae.parameters()]))
        runs[cls] = torch.stack(found)
    a, b = runs.values()
    error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()


def test_discrete_codes_are_summed_over():
    torch.manual_seed(0)
    vae = build(2, 3, prior="Categorical", posterior="Categorical", hidden=(4,), likelihood="normal", missing=True)
    vae.mask_likelihood = lambda x: dist.Bernoulli(logits=1 - 2 * x).to_event(1)
    vae = vae.double()
    copies, found = 20, []
    for seed in range(30):
        pyro.set_rng_seed(seed)
        found.append(-TraceEnum_ELBO(max_plate_nesting=1).loss(vae.model, vae.guide, X.repeat(copies, 1)) / copies)
    found = torch.tensor(found)
    q, z = vae.encode(X), torch.eye(3, dtype=torch.float64)
    exact = torch.zeros(())
    points, log_w = nodes()
    for k in range(3):
        p = vae.decode(z[k].expand(len(X), 3)).base_dist
        seen = ~X.isnan()
        values = torch.where(seen, X, p.loc + p.scale * points[:, None, None])
        log_s = (log_w.exp()[:, None, None] * dist.Bernoulli(logits=1 - 2 * values).log_prob(seen.double())).sum((0, 2))
        log_x = torch.where(seen, p.log_prob(X.where(seen, 0.0)), 0.0).sum(1)
        log_q = q.log_prob(z[k].expand(len(X), 3))
        log_p = vae.prior_of().log_prob(z[k])
        exact = exact + (log_q.exp() * (log_x + log_s + log_p - log_q)).sum()
    # False alarm: t of 6 with 29 degrees of freedom, 2e-6.
    assert (found.mean() - exact).abs() < 6 * found.std() / math.sqrt(len(found))


def with_constant(vae):
    """The same VAE with a mask model that looks at nothing, and its log p(mask) of each example."""
    other = copy.deepcopy(vae)
    other.mask_likelihood = lambda x: dist.Bernoulli(logits=torch.full_like(x, 0.8)).to_event(1)
    return other


LOG_MASK = dist.Bernoulli(logits=torch.tensor(0.8).double()).log_prob((~X.isnan()).double()).sum(1)


def plain_vae():
    torch.manual_seed(3)
    return build(2, 2, hidden=(4,), likelihood="normal", missing=True).double()


# InfoVAE draws from the prior after the missing values; PIWAE refuses; the others have arguments without a default.
_LEFT_OUT = ("InfoVAE", "PIWAE", "GECO", "CapacityELBO")
OBJECTIVES = {
    **{name: getattr(objectives, name)() for name in objectives.OBJECTIVES if name not in _LEFT_OUT},
    "FreeBits per site": objectives.FreeBits(0.25, per="site"),
    "CapacityELBO": objectives.CapacityELBO(3.0),
    "BetaTCVAE, unequal weights": objectives.BetaTCVAE(beta=2.0, alpha=0.3, gamma=3.0),
    "BetaELBO, closed form": objectives.BetaELBO(0.5, kl="analytic"),
    "Trace_ELBO": Trace_ELBO(),
    "TraceMeanField_ELBO": TraceMeanField_ELBO(),
    "RenyiELBO": RenyiELBO(alpha=0.3, num_particles=3, vectorize_particles=True, max_plate_nesting=1),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_constant_mask_model_adds_its_log_density_alone(name):
    plain, losses = plain_vae(), []
    for vae in (plain, with_constant(plain)):
        pyro.set_rng_seed(1)
        losses.append(float(OBJECTIVES[name].loss(vae.model, vae.guide, X)))
    assert losses[0] - losses[1] == pytest.approx(LOG_MASK.sum().item(), rel=1e-6)


def test_a_constant_mask_model_changes_no_other_number():
    plain = plain_vae()
    other = with_constant(plain)
    terms = [elbo_terms(vae, X, num_particles=3, seed=0) for vae in (plain, other)]
    torch.testing.assert_close(terms[1].recon - terms[0].recon, LOG_MASK)
    assert torch.equal(terms[0].kl, terms[1].kl)
    found = [evaluation.importance_sampling(vae, X, num_particles=50) for vae in (plain, other)]
    torch.testing.assert_close(found[1].log_prob - found[0].log_prob, LOG_MASK)
    by_sampling = [average_elbo(target, X, num_particles=4) for target in (other, (other.model, other.guide))]
    assert by_sampling[0] == by_sampling[1]
    # Means of draws against means: 5 standard errors of 20,000 draws, which have a standard deviation of about 1.
    imputed = [vae.impute(X, num_particles=20_000, seed=0) for vae in (plain, other)]
    torch.testing.assert_close(*imputed, rtol=0, atol=0.1)


def test_imputations_are_those_of_the_posterior():
    """The mean of a missing value given the observed ones and the mask, by quadrature, and draws of it.

    False alarm: three means at 5 standard errors, 2e-6.
    """
    vae, row = make_vae(), X[:1]
    z, log_w = nodes()
    with torch.no_grad():
        p = vae.likelihood(z[:, None]).base_dist
        points, log_v = nodes()
        values = p.loc[:, 1, None] + SCALE * points  # (z, nodes)
        both = torch.stack([row[0, 0].expand_as(values), values], -1)
        log_s = vae.mask_of(both).log_prob(torch.tensor([1.0, 0.0], dtype=torch.float64))
        weight = log_w[:, None] + log_v + log_s + p.log_prob(row[0, 0])[:, :1]
        share = (weight - weight.logsumexp((0, 1))).exp()
        mean, square = (share * values).sum(), (share * values**2).sum()
    found = vae.impute(row.expand(200, 2), num_particles=200, seed=0)
    assert (found[:, 0] == row[0, 0]).all()
    assert abs(found[:, 1].mean() - mean) < 5 * found[:, 1].std() / math.sqrt(200) + 0.01
    draws = vae.impute(row.expand(4000, 2), num_particles=100, mean=False, seed=0)[:, 1]
    assert abs(draws.mean() - mean) < 5 * draws.std() / math.sqrt(4000) + 0.01
    assert abs((draws**2).mean() - square) < 5 * (draws**2).std() / math.sqrt(4000) + 0.02


@pytest.mark.parametrize(("loss", "kl"), [(Trace_ELBO(), "sampled"), (TraceMeanField_ELBO(), "analytic")])
def test_elbo_terms_agree_with_pyro_under_the_same_noise(loss, kl):
    vae = make_vae()
    terms = elbo_terms(vae, X, kl=kl, seed=1)
    pyro.set_rng_seed(1)
    assert loss.loss(vae.model, vae.guide, X) == pytest.approx(-terms.elbo.sum().item(), rel=1e-12)


def test_sites_of_the_programs():
    vae = make_vae()
    guide = pyro.poutine.trace(vae.guide).get_trace(X)
    model = pyro.poutine.trace(pyro.poutine.replay(vae.model, guide)).get_trace(X)
    names = [n for n, site in model.nodes.items() if site["type"] == "sample" and n != "data"]
    assert names == ["z", "x_missing", "x", "mask"]
    guide.compute_log_prob()
    model.compute_log_prob()
    assert torch.equal(guide.nodes["x_missing"]["log_prob"], model.nodes["x_missing"]["log_prob"])
    assert (guide.nodes["x_missing"]["log_prob"][:3] != 0).all()
    assert guide.nodes["x_missing"]["log_prob"][3] == 0  # nothing is missing there
    seen = ~X.isnan()
    assert torch.equal(model.nodes["mask"]["value"], seen.double())
    assert torch.equal(model.nodes["x"]["value"], torch.where(seen, X, guide.nodes["x_missing"]["value"]))


def test_pyros_tools_take_it():
    vae = make_vae()
    from_prior = Predictive(vae.model, num_samples=5)(None)
    assert {name: tuple(value.shape) for name, value in from_prior.items()} == {
        "z": (5, 1, 1),
        "x": (5, 1, 2),
        "mask": (5, 1, 2),
    }
    given = Predictive(vae.model, guide=vae.guide, num_samples=5)(X)
    assert torch.equal(given["x"][:, ~X.isnan()], X[~X.isnan()].expand(5, -1))
    assert vae.sample(7, seed=0).shape == (7, 2)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    before = {name: p.clone() for name, p in vae.named_parameters()}
    svi.step(X)
    assert all(not torch.equal(p, before[name]) for name, p in vae.named_parameters())


def test_a_mask_argument_hides_values_too():
    vae, mask = make_vae(), torch.tensor([[True, False], [False, True], [False, False], [True, True]])
    filled = X.nan_to_num(77.0)
    for kl in ("sampled", "analytic"):
        both = [elbo_terms(vae, x, mask=m, kl=kl, seed=0).recon for x, m in ((X, None), (filled, mask))]
        assert torch.equal(*both)
    assert torch.equal(vae.impute(X, seed=0), vae.impute(filled, mask=mask, seed=0))
