"""Properties of all likelihoods: densities by SciPy, totals of one, samples, means, gradients, shapes."""

from __future__ import annotations

import functools

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from scipy import integrate, stats

from pyro_vae import VAE, likelihoods, nets, posteriors, priors
from pyro_vae.config import build, describe
from tests.likelihoods.cases import CASES, CODES, ELEMENTS, ELEMENTWISE, INTERVALS, Z

every = pytest.mark.parametrize("name", CASES)
elementwise = pytest.mark.parametrize("name", ELEMENTWISE)
MOST_COUNTS = 4000


def test_every_likelihood_is_tested():
    tested = {case.cls.__name__ for case in CASES.values()}
    assert tested == set(likelihoods.__all__), "enter what is missing in CASES in tests/likelihoods/cases.py"
    swept = {likelihood.__name__ for likelihood, _ in ELEMENTS.values()}
    of_vectors = {"Multinomial", "Mixed"}  # in tests/float32/test_vectors.py
    assert swept | of_vectors == tested, "give it corners in CASES in tests/likelihoods/cases.py"


@elementwise
def test_density_equals_scipy(name):
    case = CASES[name]
    p, x = case.with_mlp(), case.x()
    out = p.net(CODES).detach().numpy() * 1.0
    expected = case.log_density(p, out, x.numpy()).sum((1, 2))
    np.testing.assert_allclose(p(CODES).log_prob(x).detach(), expected, rtol=1e-10)


def rows(name):
    """A likelihood over one element, with three rows of parameters, and their distribution."""
    case = CASES[name]
    raw = torch.randn(3, *case.net_shape((1,)), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    p = case.with_raw(raw)
    return case, p, p(torch.zeros(3, Z, dtype=torch.float64))


def points(case, d):
    """All values of one element that matter, if it is discrete."""
    if case.values == "binary":
        return torch.tensor([0.0, 1.0], dtype=torch.float64)
    if case.values == "counts":
        return torch.arange(MOST_COUNTS, dtype=torch.float64)
    if case.values == "levels":
        levels, upper = case.options["levels"], case.options.get("upper", 1.0)
        return torch.arange(levels, dtype=torch.float64) * (upper / (levels - 1))
    return None


def moments(name):
    """Total, mean and second moment of each row's density, by summing or integrating it."""
    case, _, d = rows(name)
    values = points(case, d)
    if values is not None:
        density = d.log_prob(values.reshape(-1, 1, 1)).exp().detach()
        return d, *((density * values[:, None] ** k).sum(0).numpy() for k in range(3))
    results = [[], [], []]
    for i in range(3):

        @functools.cache  # the moments share most points
        def density(x, i=i):
            return d.log_prob(torch.full((3, 1), x, dtype=torch.float64))[i].exp().item()

        limits = INTERVALS[case.values]
        centre = d.mean[i].item()  # quad does not find a peak by itself
        if case.values == "real":
            pieces = [(-np.inf, centre - 1), (centre - 1, centre), (centre, centre + 1), (centre + 1, np.inf)]
        elif case.values == "positive":
            pieces = [(0, centre / 4), (centre / 4, centre), (centre, 4 * centre), (4 * centre, np.inf)]
        else:
            pieces = [(a / 8, (a + 1) / 8) for a in range(8)]
        assert pieces[0][0] == limits[0]
        assert pieces[-1][1] == limits[1]
        for k in range(3):
            parts = [integrate.quad(lambda x, k=k: x**k * density(x), a, b, limit=100)[0] for a, b in pieces]
            results[k].append(sum(parts))
    return d, *map(np.array, results)


@elementwise
def test_density_has_total_one_and_the_mean_and_variance_are_its_own(name):
    d, totals, means, seconds = moments(name)
    np.testing.assert_allclose(totals, 1, rtol=1e-7)
    np.testing.assert_allclose(d.mean.detach()[:, 0], means, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(d.variance.detach()[:, 0], seconds - means**2, rtol=1e-4)


@elementwise
def test_samples_follow_the_density(name):
    """Kolmogorov-Smirnov against the integrated density, or chi-square; level 1e-4 per row, on a fixed seed."""
    case, p, d = rows(name)
    samples = d.sample((20_000,))[..., 0].numpy()
    values = points(case, d)
    for i in range(3):
        if values is None:
            low, high = (max(INTERVALS[case.values][0] + 1e-12, -60), min(INTERVALS[case.values][1] - 1e-12, 60))
            # Evenly in probability, roughly: from the samples themselves, with the ends put on.
            grid = np.unique(np.concatenate([[low], np.quantile(samples[:, i], np.linspace(0, 1, 4001)), [high]]))
            density = np.exp(d.log_prob(torch.from_numpy(grid).reshape(-1, 1, 1))[:, i].detach().numpy())
            cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
            inside = cdf[1:-1] - cdf[1] + stats_tail(case, p, d, i, grid[1])
            distance = np.abs(inside - (np.searchsorted(np.sort(samples[:, i]), grid[1:-1], side="right") / 20_000))
            assert distance.max() < stats.kstwo.isf(1e-4, 20_000)
        else:
            expected = d.log_prob(values.reshape(-1, 1, 1))[:, i].exp().detach().numpy() * 20_000
            step = values[1].item()
            counted = np.bincount(np.rint(samples[:, i] / step).astype(int), minlength=len(values))[: len(values)]
            common = expected > 5
            observed = np.append(counted[common], 20_000 - counted[common].sum())
            wanted = np.append(expected[common], 20_000 - expected[common].sum())
            if wanted[-1] < 5:
                observed, wanted = observed[:-1], wanted[:-1] * (observed[:-1].sum() / wanted[:-1].sum())
            assert stats.chisquare(observed, wanted).pvalue > 1e-4


def stats_tail(case, p, d, i, start):
    """The probability below the least sample, which the trapezoid rule leaves out."""

    def density(x):
        return d.log_prob(torch.full((3, 1), x, dtype=torch.float64))[i].exp().item()

    return integrate.quad(density, INTERVALS[case.values][0], start)[0]


@every
def test_gradients_are_right_and_reach_every_parameter(name):
    case = CASES[name]
    p, x = case.with_mlp(), case.x()
    parameters = list(p.parameters())

    def log_prob(*_):
        return p(CODES).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, parameters)
    log_prob().sum().backward()
    assert all(q.grad is not None and q.grad.abs().sum() > 0 for q in parameters)


@every
def test_batch_dimensions_in_front_do_not_matter(name):
    case = CASES[name]
    p, x = case.with_mlp(context=4).eval(), case.x()
    c = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z = torch.stack([CODES, -CODES])
    both = p(z, c)
    assert (both.batch_shape, both.event_shape) == ((2, 7), case.shape)
    assert both.log_prob(x).shape == (2, 7)
    assert both.sample((3,)).shape == (3, 2, 7, *case.shape)
    assert both.expand((4, 2, 7)).log_prob(x).shape == (4, 2, 7)
    for i in range(2):
        torch.testing.assert_close(both.mean[i], p(z[i], c).mean)
        torch.testing.assert_close(both.variance[i], p(z[i], c).variance)
        torch.testing.assert_close(both.log_prob(x)[i], p(z[i], c).log_prob(x))
    one_by_one = p(CODES.unsqueeze(1), c.unsqueeze(1))
    torch.testing.assert_close(one_by_one.log_prob(x.unsqueeze(1))[:, 0], both.log_prob(x)[0])


@every
def test_samples_have_a_density_and_the_mean_stated(name):
    """Each sample mean of 5,000 within 6 standard errors by the stated variance: a false alarm in 5e8 per element."""
    case = CASES[name]
    d = case.with_mlp().eval()(CODES)
    samples = d.sample((5_000,))
    assert torch.isfinite(d.log_prob(samples)).all()
    assert ((samples.mean(0) - d.mean).abs() < 6 * (d.variance / 5_000).sqrt() + 1e-12).all()


def vae_of(case, context=0):
    likelihood = case.with_mlp(context)
    encoder = nets.MLP(case.shape, (5,), 2 * Z, activation="Tanh", context_features=context).double()
    return VAE(priors.StandardNormal(Z).double(), likelihood, posteriors.DiagonalNormal(encoder))


@every
def test_likelihoods_work_in_svi_and_predictive(name):
    case = CASES[name]
    vae, x = vae_of(case), case.x()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO(2, vectorize_particles=True))
    assert np.isfinite(svi.step(x))
    assert Predictive(vae.model, guide=vae.guide, num_samples=3, parallel=True)(x)["z"].shape == (3, 7, Z)
    drawn = Predictive(vae.model, num_samples=3, parallel=True)()["x"]
    assert drawn.shape[0] == 3
    assert drawn.shape[-len(case.shape) :] == case.shape
    assert vae.sample(2, mean=True, seed=0).shape == (2, *case.shape)
    assert torch.isfinite(vae.reconstruct(x)).all()


@every
def test_likelihoods_are_built_from_names_and_described(name):
    case = CASES[name]
    spec = {"class": case.cls.__name__, **case.options}
    vae = build(case.shape, latent_dim=Z, hidden=(5,), likelihood=spec)
    again = build(case.shape, latent_dim=Z, hidden=(5,), likelihood=describe(vae.likelihood))
    again.load_state_dict(vae.state_dict())
    x = case.x().float() if case.values != "unit" else case.x().float().clamp(1e-3, 1 - 1e-3)
    z = CODES.float()
    vae.eval(), again.eval()
    assert torch.equal(vae.decode(z).log_prob(x), again.decode(z).log_prob(x))
    assert describe(again.likelihood) == describe(vae.likelihood)


def test_every_likelihood_says_what_data_it_takes():
    kinds = {name: getattr(likelihoods, name).data for name in likelihoods.__all__}
    assert set(kinds.values()) == {"binary", "continuous", "levels", "counts"}
    assert kinds["Bernoulli"] == "binary"
    assert kinds["Beta"] == "continuous"
    assert kinds["DiscretizedLogistic"] == "levels"
    assert kinds["Poisson"] == "counts"


@every
@pytest.mark.parametrize("size", [-50.0, 0.0, 50.0])
def test_extreme_outputs_of_a_net_stay_finite_in_float32(name, size):
    case = CASES[name]
    raw = torch.full((7, *case.net_shape()), size)
    raw[::2] *= -1
    p, x = case.with_raw(raw), case.x().float()
    log_prob = p(torch.zeros(7, Z)).log_prob(x)
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert all(torch.isfinite(q.grad).all() for q in p.parameters())
    d = p.eval()(torch.zeros(7, Z))
    assert torch.isfinite(d.mean).all()
    samples = d.sample((100,))
    assert torch.isfinite(samples).all()
    assert d.support.check(samples).all()


@pytest.mark.one_in(3)
@every
def test_it_can_be_exported(name):
    case = CASES[name]
    p, x = case.with_mlp(), case.x()

    class LogProb(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.p = p

        def forward(self, z, x):
            return self.p(z).log_prob(x)

    with pyro.validation_enabled(False):
        graph = torch.export.export(LogProb(), (CODES, x), strict=False).module()
    torch.testing.assert_close(graph(CODES, x), p(CODES).log_prob(x))
