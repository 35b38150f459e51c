"""elbo(recon, kl) and the terms, against Pyro, against NumPy by hand, and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from scipy import integrate, stats

from pyro_vae import VAE, ElboEstimate, average_elbo, build, elbo, elbo_terms, likelihoods, nets, posteriors, priors
from pyro_vae.seeds import seeded
from tests.conftest import C, make_context, make_vae, make_x

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


# The scalar.


@given(NUMBERS, NUMBERS)
def test_elbo_of_floats_is_the_difference_as_a_float(recon, kl):
    value = elbo(recon, kl)
    assert type(value) is float
    assert value == recon - kl


@pytest.mark.parametrize("recon", [-80, np.float32(-80), np.float64(-80), np.int64(-80)])
def test_elbo_takes_any_real_number(recon):
    value = elbo(recon, 20)
    assert type(value) is float
    assert value == -100.0


def test_elbo_of_tensors_broadcasts_and_has_gradients():
    recon = torch.tensor([[-1.0], [-2.0]], requires_grad=True)
    kl = torch.tensor([3.0, 4.0, 5.0], requires_grad=True)
    value = elbo(recon, kl)
    assert value.tolist() == [[-4.0, -5.0, -6.0], [-5.0, -6.0, -7.0]]
    value.sum().backward()
    assert recon.grad.tolist() == [[3.0], [3.0]]
    assert kl.grad.tolist() == [-2.0, -2.0, -2.0]


def test_elbo_mixes_numbers_and_tensors():
    assert elbo(torch.tensor([-1.0, -2.0]), 1.0).tolist() == [-2.0, -3.0]
    assert elbo(-1.0, torch.tensor([1.0, 2.0])).tolist() == [-2.0, -3.0]
    assert elbo(torch.tensor([-1, -2]), 1).dtype == torch.get_default_dtype()


def test_elbo_propagates_infinities():
    assert elbo(-math.inf, 5.0) == -math.inf
    assert elbo(-5.0, math.inf) == -math.inf
    assert elbo(math.inf, 5.0) == math.inf
    assert elbo(-5.0, -math.inf) == math.inf
    assert math.isnan(elbo(math.inf, math.inf))
    assert elbo(torch.tensor(-math.inf), torch.tensor(1.0)).item() == -math.inf


@pytest.mark.parametrize(("name", "arguments"), [("recon", (math.nan, 1.0)), ("kl", (1.0, math.nan))])
def test_elbo_refuses_nan_by_name(name, arguments):
    with pytest.raises(ValueError, match=rf"^{name} must be a number in nats; got NaN"):
        elbo(*arguments)
    with pytest.raises(ValueError, match=rf"^{name} must not hold NaN; got 1 of 2 values"):
        elbo(*(torch.tensor([0.0, a]) for a in arguments))


def test_elbo_refuses_what_does_not_fit_into_a_float():
    with pytest.raises(ValueError, match="^recon must fit into a float; got an integer of 401 digits"):
        elbo(10**400, 1.0)


@pytest.mark.parametrize("bad", ["1", None, True, 1j, [1.0], np.ones(2), torch.tensor(True), torch.tensor(1j)])
def test_elbo_refuses_what_is_no_number_by_name(bad):
    with pytest.raises(TypeError, match="^recon must be"):
        elbo(bad, 1.0)
    with pytest.raises(TypeError, match="^kl must be"):
        elbo(1.0, bad)


# The terms against Pyro's own losses: same weights, data and noise.


def same_noise(loss, vae, *batch, seed=5):
    pyro.set_rng_seed(seed)
    return loss.loss(vae.model, vae.guide, *batch)


def test_sampled_terms_equal_trace_elbo(case):
    vae, *batch = case
    terms = elbo_terms(vae, *batch, kl="sampled", seed=5)
    assert terms.recon.shape == terms.kl.shape == terms.elbo.shape == (7,)
    assert elbo(terms.recon.sum().item(), terms.kl.sum().item()) == pytest.approx(
        -same_noise(Trace_ELBO(), vae, *batch), rel=1e-9
    )


def test_analytic_terms_equal_trace_mean_field_elbo(case):
    vae, *batch = case
    terms = elbo_terms(vae, *batch, kl="analytic", seed=5)
    assert elbo(terms.recon.sum().item(), terms.kl.sum().item()) == pytest.approx(
        -same_noise(TraceMeanField_ELBO(), vae, *batch), rel=1e-9
    )


@pytest.mark.parametrize(("loss", "kl"), [(Trace_ELBO, "sampled"), (TraceMeanField_ELBO, "analytic")])
def test_terms_of_many_particles_equal_pyros(case, loss, kl):
    vae, *batch = case
    pyros = loss(num_particles=50, vectorize_particles=True, max_plate_nesting=1)
    terms = elbo_terms(vae, *batch, kl=kl, num_particles=50, seed=5)
    assert terms.elbo.sum().item() == pytest.approx(-same_noise(pyros, vae, *batch), rel=1e-9)


@pytest.mark.parametrize(("loss", "kl"), [(Trace_ELBO(), "sampled"), (TraceMeanField_ELBO(), "analytic")])
def test_gradients_of_the_terms_equal_pyros(case, loss, kl):
    vae, *batch = case
    parameters = list(vae.parameters())
    ours = torch.autograd.grad(-elbo_terms(vae, *batch, kl=kl, seed=5).elbo.sum(), parameters)
    pyro.set_rng_seed(5)
    pyros = torch.autograd.grad(loss.differentiable_loss(vae.model, vae.guide, *batch), parameters)
    for a, b in zip(ours, pyros, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


# Worked out by hand: one latent dimension, two pixels, linear nets, NumPy only.

ENCODER = np.array([[0.5, -0.25], [0.1, 0.2]]), np.array([0.1, -0.3])  # rows: mean, raw scale
DECODER = np.array([[1.5], [-0.75]]), np.array([0.2, -0.1])
DATA = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])


def linear_vae(likelihood):
    encoder, decoder = torch.nn.Linear(2, 2).double(), torch.nn.Linear(1, 2).double()
    for layer, (weight, bias) in ((encoder, ENCODER), (decoder, DECODER)):
        layer.weight.data, layer.bias.data = torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())
    return VAE(priors.StandardNormal(1).double(), likelihood(decoder), posteriors.DiagonalNormal(encoder))


def by_hand(log_likelihood):
    """recon, sampled kl and analytic kl of each row of DATA at the noise that seed 5 draws."""
    torch.manual_seed(5)
    noise = torch.randn(3, 1, dtype=torch.float64).numpy()[:, 0]
    hidden = DATA @ ENCODER[0].T + ENCODER[1]
    mean, scale = hidden[:, 0], np.log1p(np.exp(hidden[:, 1])) + 1e-6
    z = mean + scale * noise
    log_q = -0.5 * noise**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    log_p = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    analytic = 0.5 * (mean**2 + scale**2 - 1) - np.log(scale)
    return log_likelihood(z[:, None] * DECODER[0][:, 0] + DECODER[1]), log_q - log_p, analytic


HAND = {
    "bernoulli": (
        likelihoods.Bernoulli,
        lambda out: (DATA * out - np.log1p(np.exp(out))).sum(1),
    ),
    "normal": (
        lambda net: likelihoods.Normal(net, scale=0.3),
        lambda out: (-0.5 * ((DATA - out) / 0.3) ** 2 - np.log(0.3) - 0.5 * np.log(2 * np.pi)).sum(1),
    ),
}


@pytest.mark.parametrize("name", HAND)
def test_terms_equal_numbers_worked_out_by_hand(name):
    likelihood, log_likelihood = HAND[name]
    vae, x = linear_vae(likelihood), torch.from_numpy(DATA)
    recon, sampled, analytic = by_hand(log_likelihood)
    ours = elbo_terms(vae, x, kl="sampled", seed=5)
    np.testing.assert_allclose(ours.recon.detach(), recon, rtol=1e-9)
    np.testing.assert_allclose(ours.kl.detach(), sampled, rtol=1e-9)
    np.testing.assert_allclose(elbo_terms(vae, x, kl="analytic", seed=5).kl.detach(), analytic, rtol=1e-9)
    assert same_noise(Trace_ELBO(), vae, x) == pytest.approx(-elbo(recon.sum(), sampled.sum()), rel=1e-9)
    assert same_noise(TraceMeanField_ELBO(), vae, x) == pytest.approx(-elbo(recon.sum(), analytic.sum()), rel=1e-9)


def test_elbo_at_the_true_posterior_is_the_evidence(linear):
    x = linear.marginal().sample((6,))
    terms = elbo_terms(linear.vae(), x, kl="sampled", seed=1)
    torch.testing.assert_close(terms.elbo, linear.marginal().log_prob(x), rtol=1e-9, atol=1e-9)


def test_analytic_kl_equals_numerical_integration():
    q = lambda x: dist.Normal(torch.full((len(x), 1), 0.7), torch.full((len(x), 1), 0.4)).to_event(1)  # noqa: E731
    p = lambda: dist.Normal(torch.tensor([-0.2]), torch.tensor([1.3])).to_event(1)  # noqa: E731
    vae = VAE(p, likelihoods.Bernoulli(nets.MLP(1, (), 2)), q)
    kl = elbo_terms(vae, torch.zeros(1, 2), kl="analytic").kl.item()
    a, b = stats.norm(0.7, 0.4), stats.norm(-0.2, 1.3)
    exact, _ = integrate.quad(lambda z: a.pdf(z) * (a.logpdf(z) - b.logpdf(z)), -4, 5)
    assert kl == pytest.approx(exact, rel=1e-6)


def test_sampled_kl_agrees_with_the_analytic_one():
    """z-score over 4,000 draws; |z| < 4 fails by chance once in 16,000 seeds, and the seed is fixed."""
    vae, x = make_vae(), make_x(n=1)
    draws = elbo_terms(vae, x.expand(4000, *x.shape[1:]), kl="sampled", seed=0).kl.detach()
    exact = elbo_terms(vae, x, kl="analytic").kl.item()
    assert abs((draws.mean().item() - exact) / (draws.std().item() / math.sqrt(4000))) < 4


# Seeds, errors, averages.


def test_seed_repeats_and_leaves_the_generator_alone():
    vae, x = make_vae(), make_x()
    before = torch.get_rng_state()
    a, b = (elbo_terms(vae, x, kl="sampled", seed=3).elbo for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(a, elbo_terms(vae, x, kl="sampled", seed=4).elbo)


def test_analytic_kl_without_closed_form_says_what_would_do():
    prior = lambda: dist.StudentT(3.0, torch.zeros(2).double(), torch.ones(2).double()).to_event(1)  # noqa: E731
    vae = VAE(prior, make_vae().likelihood, make_vae().posterior)
    with pytest.raises(
        ValueError,
        match=r'no closed form is known for KL\(q \|\| p\) of posterior DiagonalNormal and prior <lambda>. Use kl="sampled"',
    ):
        elbo_terms(vae, make_x(), kl="analytic")
    assert torch.isfinite(elbo_terms(vae, make_x(), kl="sampled").elbo).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl": "exact"}, 'kl must be "analytic" or "sampled"'),
        ({"num_particles": 0}, "num_particles must be an integer of at least 1; got 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        elbo_terms(make_vae(), make_x(), **options)


def test_average_elbo_is_the_mean_over_examples_whatever_the_batches():
    vae, x, c = make_vae(context=C), make_x(), *make_context(C)
    whole = average_elbo(vae, (x, c), kl="analytic", num_particles=1000)
    parts = average_elbo(vae, (x, c), batch_size=3, kl="analytic", num_particles=1000)
    assert whole.examples == parts.examples == 7
    assert whole.kl == pytest.approx(parts.kl, rel=1e-12)
    assert whole.elbo == pytest.approx(whole.recon - whole.kl, rel=1e-12)
    terms = elbo_terms(vae, x, c, kl="analytic", num_particles=1000, seed=0)
    assert whole.elbo == pytest.approx(terms.elbo.mean().item(), rel=1e-12)
    assert whole.standard_error == pytest.approx(stats.sem(terms.elbo.detach().numpy()), rel=1e-9)


def test_average_elbo_switches_dropout_off_and_back_on():
    vae = make_vae()
    vae.posterior.net = torch.nn.Sequential(vae.posterior.net, torch.nn.Dropout(0.9))
    vae.train()
    a, b = (average_elbo(vae, make_x(), kl="analytic").kl for _ in range(2))
    assert a == b
    assert vae.posterior.net[1].training


def test_average_elbo_brings_data_to_the_vae():
    """A float64 VAE, float32 images: the device and dtype are the VAE's; labels of a data set are no context."""
    vae, x = make_vae(), make_x()
    expected = average_elbo(vae, x)
    pairs = torch.utils.data.TensorDataset(x.float(), torch.arange(7))
    for form in (x.float(), x.numpy(), pairs, torch.utils.data.DataLoader(pairs, batch_size=7)):
        assert average_elbo(vae, form) == expected


def test_average_elbo_needs_data():
    with pytest.raises(ValueError, match="data must hold at least one example; got none"):
        average_elbo(make_vae(), torch.zeros(0, 2, 3))


def test_average_elbo_of_programs_is_pyros_loss_with_the_same_noise():
    """With sites of any names, a mask and a scale, which does not count."""

    def model(x):
        with pyro.plate("data", len(x)), poutine.scale(scale=3.0):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with poutine.mask(mask=x[:, 0] > 0):
                pyro.sample("obs", dist.Normal(z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)), poutine.scale(scale=3.0):
            pyro.sample("latent", dist.Normal(0.1 * x.expand(-1, 2), 0.7).to_event(1))

    x = torch.linspace(-1, 1, 9, dtype=torch.float64).unsqueeze(1)
    found = average_elbo((model, guide), x, seed=4)
    with seeded(4):
        loss = Trace_ELBO().loss(model, guide, x)
    assert found.elbo == pytest.approx(-loss / 3 / 9, rel=1e-12)
    assert found.elbo == pytest.approx(found.recon - found.kl, rel=1e-12)


def named(sites):
    """A model with latent sites of these names, and a guide; the KL of each is 0.5 (0.01 x² + 0.49 − 1) − log 0.7."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = sum(pyro.sample(name, dist.Normal(x.new_zeros(()), 1.0)) for name in sites)
            pyro.sample("obs", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            for name in sites:
                pyro.sample(name, dist.Normal(0.1 * x, 0.7))

    return model, guide


def test_the_closed_form_of_programs_takes_sites_of_any_name():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    found = average_elbo(named(["latent"]), x, kl="analytic", num_particles=2000)
    kl = 0.5 * ((0.1 * x) ** 2 + 0.49 - 1) - math.log(0.7)
    assert found.kl == pytest.approx(kl.mean().item(), rel=1e-9)
    sampled = average_elbo(named(["latent"]), x, kl="sampled", num_particles=2000)
    assert found.recon == pytest.approx(sampled.recon, abs=0.05)  # 18,000 draws each


def test_the_closed_form_of_programs_needs_one_site_of_each_kind():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"one latent and one observed site; got latent: a and b; observed: obs\. Use"):
        average_elbo(named(["a", "b"]), x, kl="analytic")
    assert average_elbo(named(["a", "b"]), x, kl="sampled").examples == 9


def test_the_average_of_a_swapped_pair_is_refused():
    vae = build(4, 2, hidden=())
    for kl in ("sampled", "analytic"):
        with pytest.raises(ValueError, match=r"no observed site.*The guide observes x: the pair is \(model, guide\)"):
            average_elbo((vae.guide, vae.model), torch.ones(3, 4), kl=kl)


def test_terms_of_a_pair_are_refused():
    vae = build(4, 2, hidden=())
    with pytest.raises(TypeError, match=r"elbo_terms needs a pyro_vae.VAE; got a pair\. average_elbo takes any model"):
        elbo_terms((vae.model, vae.guide), torch.ones(3, 4))


def test_the_average_prints_rounded():
    found = ElboEstimate(-44.854226, -44.396842, 0.457384, 0.236477, 1000)
    words = "elbo = -44.8542 nats over 1,000 examples, standard error 0.24; recon = -44.3968, kl = 0.4574"
    assert repr(found) == f"ElboEstimate({words})"
    one = ElboEstimate(-3.0, -2.0, 1.0, math.nan, 1)
    assert repr(one) == "ElboEstimate(elbo = -3.0000 nats over 1 example; recon = -2.0000, kl = 1.0000)"
