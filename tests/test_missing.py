"""Missing values: what is not observed counts nowhere."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from scipy import stats

from pyro_vae import VAE, average_elbo, build, elbo_terms, fit, likelihoods, load, nets, posteriors, priors
from tests.conftest import LinearGaussian

NORMAL = {"class": "Normal", "scale": "per_element"}


def vae_and_data(likelihood="normal", context=0, n=7, event_shape=(4,)):
    torch.manual_seed(0)
    vae = build(event_shape, 2, hidden=(5,), likelihood=likelihood, missing=True, context_features=context).double()
    x = torch.rand(n, *event_shape, dtype=torch.float64)
    x = x.round() if likelihood == "bernoulli" else x
    mask = torch.rand(n, *event_shape) > 0.4
    c = (torch.randn(n, context, dtype=torch.float64),) if context else ()
    return vae, x, mask, c


@pytest.mark.parametrize("likelihood", ["normal", "bernoulli", "student_t", "beta", "continuous_bernoulli"])
@pytest.mark.parametrize("context", [0, 2])
def test_only_observed_elements_count(likelihood, context):
    vae, x, mask, c = vae_and_data(likelihood, context)
    terms = elbo_terms(vae, x, *c, mask=mask, kl="sampled", seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        z = vae.encode(x, *c, mask=mask).rsample((1,))[0]
    each = vae.decode(z, *c).base_dist.log_prob(x)
    assert torch.allclose(terms.recon, (each * mask).sum(1), rtol=1e-12)
    other = torch.where(mask, x, torch.full_like(x, torch.nan))
    for same in (
        elbo_terms(vae, other, *c, kl="sampled", seed=1),
        elbo_terms(vae, other, *c, mask=mask, kl="sampled", seed=1),
        elbo_terms(vae, torch.where(mask, x, 1 - x), *c, mask=mask, kl="sampled", seed=1),
    ):
        assert torch.equal(same.recon, terms.recon)
        assert torch.equal(same.kl, terms.kl)


def test_the_posterior_sees_the_fill_and_the_mask():
    seen = []

    class Watching(nets.MLP):
        def forward(self, x, *context):
            seen.append(x)
            return super().forward(x, *context)

    vae = VAE(
        priors.StandardNormal(2),
        likelihoods.Normal(nets.MLP(2, (), 3)),
        posteriors.DiagonalNormal(Watching(6, (), 4)),
        missing=True,
        fill=-9.0,
    )
    vae.encode(torch.tensor([[1.0, torch.nan, 3.0]]))
    assert seen[0].tolist() == [[1.0, -9.0, 3.0, 1.0, 0.0, 1.0]]


def test_images_get_the_mask_as_more_channels():
    vae = build((1, 8, 8), 2, hidden=(5,), nets="conv", likelihood="normal", missing=True)
    x = torch.rand(3, 1, 8, 8)
    x[0, 0, :4] = torch.nan
    assert vae.encoder_input(x).shape == (3, 2, 8, 8)
    assert vae.impute(x, seed=0).isfinite().all()
    assert torch.equal(vae.impute(x, seed=0)[1:], x[1:])


@pytest.mark.parametrize("objective", [Trace_ELBO, TraceMeanField_ELBO])
def test_pyros_losses_agree(objective):
    vae, x, mask, _ = vae_and_data()
    kind = "analytic" if objective is TraceMeanField_ELBO else "sampled"
    terms = elbo_terms(vae, x, mask=mask, kl=kind, seed=1)
    pyro.set_rng_seed(1)
    assert objective().loss(vae.model, vae.guide, x, mask=mask) == pytest.approx(-terms.elbo.sum().item(), rel=1e-12)


def test_pyros_tools_take_the_mask():
    vae, x, mask, c = vae_and_data(context=2)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO())
    before = vae.likelihood.net.layers[-1].weight.clone()
    assert torch.isfinite(torch.tensor(svi.step(x, *c, mask=mask)))
    assert not torch.equal(before, vae.likelihood.net.layers[-1].weight)
    renyi = RenyiELBO(num_particles=3, vectorize_particles=True)
    assert torch.isfinite(torch.tensor(renyi.loss(vae.model, vae.guide, x, *c, mask=mask)))
    draws = Predictive(vae.model, guide=vae.guide, num_samples=3)(x, *c, mask=mask)
    assert draws["x"].shape[-2:] == x.shape


def test_no_gradient_comes_from_what_is_missing():
    vae, x, mask, _ = vae_and_data()
    mask[:, 1] = False
    elbo_terms(vae, x, mask=mask, kl="sampled", seed=1).elbo.sum().backward()
    gradient = vae.likelihood.net.layers[-1].bias.grad
    assert gradient[1] == 0
    assert (gradient[[0, 2, 3]] != 0).all()


def test_nothing_observed_leaves_the_prior_term():
    vae, x, mask, _ = vae_and_data()
    terms = elbo_terms(vae, x, mask=torch.zeros_like(mask), seed=1)
    assert torch.equal(terms.recon, torch.zeros_like(terms.recon))
    assert (terms.kl > 0).all()


def test_training_and_validation_take_nan(tmp_path):
    vae, x, mask, _ = vae_and_data(n=64)
    x = torch.where(mask, x, torch.full_like(x, torch.nan))
    history = fit(vae, x, valid=x, epochs=20, progress=False, out=tmp_path / "run")
    assert history[-1].valid_elbo > history[0].valid_elbo
    again = load(tmp_path / "run")
    assert again.missing
    assert average_elbo(again, x) == average_elbo(vae, x)


def test_imputation_equals_the_exact_conditional_mean():
    """In a linear Gaussian model E[x missing | x observed] is known; the posterior here is off, the weights mend it.

    The tolerance is 5 standard errors of self-normalised importance sampling at this number of draws, measured once.
    """
    linear = LinearGaussian()

    class Ignorant(torch.nn.Module):
        """Takes the filled half of what it sees."""

        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, x):
            loc, raw = self.encoder(x[..., :4]).chunk(2, -1)
            return torch.cat([loc, raw + 1.0], -1)  # wider than the truth

    exact = linear.vae()
    vae = VAE(exact.prior, exact.likelihood, posteriors.DiagonalNormal(Ignorant(linear.encoder)), missing=True)
    marginal = linear.marginal()
    x = marginal.sample((3,))
    mask = torch.tensor([[True, True, False, True], [False, True, True, True], [True, False, False, True]])
    filled = vae.impute(x, mask=mask, num_particles=200_000, seed=0)
    cov = marginal.covariance_matrix
    for row, known, ours in zip(x, mask, filled, strict=True):
        gain = cov[~known][:, known] @ torch.linalg.inv(cov[known][:, known])
        expected = linear.bias[~known] + gain @ (row - linear.bias)[known]
        assert torch.allclose(ours[~known], expected, atol=0.02)
        assert torch.equal(ours[known], row[known])


def test_imputation_draws_from_the_exact_conditional():
    """Kolmogorov-Smirnov at level 1e-4 on a fixed seed, over 4,000 copies of one example."""
    linear = LinearGaussian()

    class Ignorant(torch.nn.Module):
        def forward(self, x):
            return linear.encoder(x[..., :4])

    exact = linear.vae()
    vae = VAE(exact.prior, exact.likelihood, posteriors.DiagonalNormal(Ignorant()), missing=True)
    row = torch.tensor([0.5, -1.0, 0.3, 1.2], dtype=torch.float64)
    mask = torch.tensor([True, True, False, True]).repeat(4000, 1)
    drawn = vae.impute(row.repeat(4000, 1), mask=mask, num_particles=200, mean=False, seed=0)
    cov = linear.marginal().covariance_matrix
    known = mask[0]
    gain = cov[~known][:, known] @ torch.linalg.inv(cov[known][:, known])
    loc = (linear.bias[~known] + gain @ (row - linear.bias)[known]).item()
    scale = (cov[~known][:, ~known] - gain @ cov[known][:, ~known]).sqrt().item()
    assert stats.kstest(drawn[:, 2].numpy(), "norm", (loc, scale)).pvalue > 1e-4
    assert torch.equal(drawn[:, known], row[known].expand(4000, -1))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda v, x: v.model(x, mask=torch.ones(2, 4)),
            r"mask must be a bool tensor of the shape of x, \(2, 4\), .*; got torch.float32",
        ),
        (
            lambda v, x: v.guide(x, mask=torch.ones(4, dtype=torch.bool)),
            r"mask must be .*got torch.bool of shape \(4,\)",
        ),
        (lambda v, x: v.model(torch.zeros(2, 3)), r"likelihood Normal is over x of shape \(batch, 4\); got \(2, 3\)"),
        (lambda v, x: v.impute(x, num_particles=0), "num_particles must be an integer of at least 1; got 0"),
        (lambda v, x: build((4,), 2).guide(x, mask=x > 0), "this VAE was not built for missing values .* missing=True"),
        (lambda v, x: build((4,), 2).impute(x), "impute needs a VAE for missing values: build it with missing=True"),
        (
            lambda v, x: build((4,), 2, likelihood="normal").model(x * torch.nan),
            "x has NaN: 8 of 8 values .* or build the VAE with missing=True",
        ),
        (lambda v, x: v.encode(x / 0), "x has infinite values|x has NaN"),
        *(
            (lambda v, x, n=n: getattr(v, n)(x[0]), r"got \(4,\). Give a single example a batch")
            for n in ("codes", "reconstruct")
        ),
        (lambda v, x: elbo_terms(v, x[0]), r"got \(4,\). Give a single example a batch"),
        (
            lambda v, x: build((4,), 2, likelihood="multinomial", missing=True).model(x),
            "likelihood Multinomial is not a product over the elements of x",
        ),
    ],
)
def test_what_cannot_be_is_refused(act, message):
    vae = build((4,), 2, likelihood="normal", missing=True)
    with pytest.raises(ValueError, match=message):
        act(vae, torch.ones(2, 4))
