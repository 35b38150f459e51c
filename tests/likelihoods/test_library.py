"""Likelihoods of counts whose means sum to the library size, the last context, which the likelihood alone sees."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import SVI, Predictive, Trace_ELBO
from scipy import special, stats
from torch import nn

from pyro_vae import VAE, CompiledSVI, average_elbo, build, checks, fit, likelihoods, load, nets, posteriors, priors
from pyro_vae.bound import elbo_terms
from pyro_vae.config import describe
from pyro_vae.likelihoods import Mixed, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from tests.likelihoods.cases import Raw, nb_parameters

GENES, N = 5, 7
OPTIONS = {
    "poisson": (Poisson, {}),
    "nb_fixed": (NegativeBinomial, {"dispersion": 0.3}),
    "nb_learned": (NegativeBinomial, {}),
    "nb_per_element": (NegativeBinomial, {"dispersion": "per_element"}),
    "zinb_learned": (ZeroInflatedNegativeBinomial, {}),
    "zinb_per_element": (ZeroInflatedNegativeBinomial, {"dispersion": "per_element"}),
}
every = pytest.mark.parametrize("name", OPTIONS)


def likelihood_of(name, context=0, genes=GENES):
    cls, options = OPTIONS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.MLP(2, (4,), cls.net_shape((genes,), **options, library=True), "Tanh", context)
        return cls(net, **options, library=True).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def codes(n=N, seed=0):
    return torch.randn(n, 2, generator=generator(seed), dtype=torch.float64)


def counts(n=N, seed=1):
    """Counts, and their log library sizes."""
    rates = 30 * torch.rand(n, GENES, generator=generator(seed), dtype=torch.float64)
    x = torch.poisson(rates, generator=generator(seed)) + torch.eye(n, GENES)
    return x, x.sum(-1, keepdim=True).log()


def vae_of(name="nb_learned", context=0, prior=None):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = nets.MLP(GENES, (4,), 4, "Tanh", context, log1p=True).double()
    return VAE(
        prior or priors.StandardNormal(2).double(), likelihood_of(name, context), posteriors.DiagonalNormal(encoder)
    )


# The distribution.


@every
def test_the_density_is_scipys_at_means_of_library_size_times_softmax(name):
    p, (x, log_library) = likelihood_of(name), counts()
    out = p.net(codes()).detach().numpy()
    raw = out[:, 0] if out.ndim == 3 else out
    mean = np.exp(log_library.numpy()) * special.softmax(raw, -1)
    if name == "poisson":
        expected = stats.poisson.logpmf(x.numpy(), mean)
    else:
        _, theta, rest = nb_parameters(p, out)
        probability = stats.nbinom.pmf(x.numpy(), theta, theta / (theta + mean))
        gate = special.expit(rest[0]) if name.startswith("zinb") else 0
        expected = np.log(gate * (x.numpy() == 0) + (1 - gate) * probability)
    found = p(codes(), log_library).log_prob(x).detach()
    np.testing.assert_allclose(found, expected.sum(-1), rtol=1e-9)


def test_a_poisson_is_a_multinomial_of_its_total():
    """Independent Poissons of means L p are a Poisson of mean L, split by a multinomial of shares p."""
    p, (x, log_library) = likelihood_of("poisson"), counts()
    shares = special.softmax(p.net(codes()).detach().numpy(), -1)
    total = x.sum(-1).numpy()
    expected = stats.multinomial.logpmf(x.numpy(), total, shares) + stats.poisson.logpmf(total, total)
    np.testing.assert_allclose(p(codes(), log_library).log_prob(x).detach(), expected, rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    raw=st.lists(st.floats(-300, 300), min_size=2, max_size=6),
    library=st.floats(1, 1e6),
    name=st.sampled_from(["poisson", "nb_fixed", "nb_learned"]),
)
def test_means_sum_to_the_library_size_for_any_net(raw, library, name):
    cls, options = OPTIONS[name]
    p = cls(Raw(torch.tensor([raw], dtype=torch.float64)), **options, library=True).double()
    mean = p(torch.zeros(1, 2).double(), torch.full((1, 1), library, dtype=torch.float64).log()).mean
    assert mean.sum().item() == pytest.approx(library, rel=1e-10)
    assert (mean > 0).all()


def test_the_gate_of_a_zero_inflated_one_lies_around_means_of_the_library_size():
    p, (_, log_library) = likelihood_of("zinb_learned"), counts()
    gate = torch.sigmoid(p.net(codes())[:, 1])
    torch.testing.assert_close((p(codes(), log_library).mean / (1 - gate)).sum(-1, keepdim=True), log_library.exp())


@every
def test_gradients_are_right(name):
    p, (x, log_library) = likelihood_of(name), counts()
    assert torch.autograd.gradcheck(lambda *_: p(codes(), log_library).log_prob(x), list(p.parameters()))


@every
def test_batch_dimensions_in_front_and_codes_that_are_enumerated(name):
    p, (x, log_library) = likelihood_of(name), counts()
    z = torch.stack([codes(), -codes()])
    both = p(z, log_library)
    assert (both.batch_shape, both.event_shape) == ((2, N), (GENES,))
    for i in range(2):
        torch.testing.assert_close(both.log_prob(x)[i], p(z[i], log_library).log_prob(x))
    enumerated = p(codes(3)[:, None], log_library)  # z (values, 1, latent_dim) meets l (batch, 1)
    for i in range(3):
        expected = p(codes(3)[i].expand(N, 2), log_library).log_prob(x)
        torch.testing.assert_close(enumerated.log_prob(x)[i], expected)


@every
@pytest.mark.parametrize("size", [0.0, 40.0, 200.0, 1e4])
def test_extreme_outputs_of_a_net_stay_finite_in_float32(name, size):
    """All but one column have a share below e^-size; they have counts of 0, of 1 and of many."""
    cls, options = OPTIONS[name]
    raw = torch.zeros(3, *cls.net_shape((GENES,), **options, library=True))
    raw[..., 0] = size
    p = cls(Raw(raw), **options, library=True)
    x = torch.tensor([[9.0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 2**24, 0, 3, 0]])
    log_prob = p(torch.zeros(3, 2), x.sum(-1, keepdim=True).log()).log_prob(x)
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert all(torch.isfinite(q.grad).all() for q in p.parameters())


# In a VAE.


def test_prior_and_posterior_do_not_see_the_library_size():
    vae, (x, log_library) = vae_of(), counts()
    torch.testing.assert_close(vae.codes(x, log_library), vae.codes(x, log_library + 3))
    assert vae.prior_of(log_library).event_shape == (2,)
    longer = vae.reconstruct(x, log_library + math.log(2))
    torch.testing.assert_close(longer, 2 * vae.reconstruct(x, log_library))


def test_other_context_goes_to_all_three():
    labels = nn.functional.one_hot(torch.arange(N) % 3, 3).double()
    prior = priors.Conditional(priors.Normal(2), nets.MLP(3, (), 4)).double()
    vae, (x, log_library) = vae_of(context=3, prior=prior), counts()
    assert torch.isfinite(elbo_terms(vae, x, labels, log_library, seed=0).elbo).all()
    assert not torch.allclose(vae.codes(x, labels, log_library), vae.codes(x, labels.roll(1, 0), log_library))
    assert not torch.allclose(vae.prior_of(labels, log_library).mean, vae.prior_of(labels.roll(1, 0), log_library).mean)
    other = vae.decode(codes(), labels.roll(1, 0), log_library)
    assert not torch.allclose(vae.decode(codes(), labels, log_library).mean, other.mean)
    with pytest.raises(ValueError, match="MLP was built for 3 context features; got 0"):
        vae.codes(x, log_library)


@every
def test_it_works_in_svi_and_predictive(name):
    vae, (x, log_library) = vae_of(name), counts()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO(2, vectorize_particles=True))
    assert math.isfinite(svi.step(x, log_library))
    drawn = Predictive(vae.model, num_samples=3, parallel=True)(None, log_library)["x"]
    assert drawn.shape == (3, N, GENES)
    paths = vae.interpolate(x[:2], x[2:4], 3, log_library[:2])
    if not name.startswith("zinb"):
        torch.testing.assert_close(paths.sum(-1), log_library[:2].exp().expand(2, 3))


def test_samples_have_about_the_library_size():
    """The total of Poissons of means L p is a Poisson of mean L: within 5 standard deviations, 3 of 5 million fail."""
    vae = vae_of("poisson")
    sizes = torch.tensor([[10.0], [1000.0], [1e5]]).double()
    totals = vae.sample(3, sizes.log(), seed=0).sum(-1, keepdim=True)
    assert ((totals - sizes).abs() < 5 * sizes.sqrt()).all()
    torch.testing.assert_close(vae.sample(3, sizes.log(), mean=True, seed=0).sum(-1, keepdim=True), sizes)


def test_a_compiled_step_is_that_of_pyro():
    x, log_library = counts()
    losses = []
    for compiled in (False, True):
        vae = vae_of("zinb_per_element")
        pyro.set_rng_seed(0)
        programs = (vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
        svi = CompiledSVI(*programs, mode="exact") if compiled else SVI(*programs)
        losses.append([svi.step(x, log_library) for _ in range(4)])
    assert losses[1] == losses[0]
    assert svi.captures == 1


@pytest.mark.parametrize("prior", ["VampPrior", {"class": "Exemplar", "components": 4}, "StandardNormal"])
def test_a_run_is_loaded_again(tmp_path, prior):
    x, log_library = (t.float() for t in counts(20))
    labels = nn.functional.one_hot(torch.arange(20) % 3, 3).float()
    prior = {"class": prior, "components": 4} if prior == "VampPrior" else prior
    spec = {"class": "negative_binomial", "library": True}
    vae = build(GENES, 2, hidden=(4,), likelihood=spec, prior=prior, inputs="log1p", context_features=3)
    fit(vae, (x, labels, log_library), epochs=2, batch_size=10, out=tmp_path, progress=False)
    again = load(tmp_path)
    assert describe(again.likelihood)["library"] is True
    assert describe(again.posterior)["net"]["log1p"] is True
    data = (x, labels, log_library)
    assert average_elbo(again, data, seed=1) == average_elbo(vae, data, seed=1)


@pytest.mark.parametrize("name", ["poisson", pytest.param("zinb_learned", marks=pytest.mark.slow)])
def test_the_cross_check_passes(name):
    report = checks.check(vae_of(name), *counts(16))
    assert report.passed, report.summary()


def test_the_bound_is_a_bound():
    """log p(x) by quadrature over two dimensions of z is above the ELBO, at fixed library sizes."""
    vae, (x, log_library) = vae_of("nb_fixed"), counts()
    grid = torch.linspace(-6, 6, 121, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        log_prior = vae.prior_of(log_library).log_prob(z)
        log_joint = vae.decode(z[:, None], log_library).log_prob(x) + log_prior[:, None]
        log_prob = log_joint.logsumexp(0) + 2 * (grid[1] - grid[0]).log()
        elbo = elbo_terms(vae, x, log_library, num_particles=200, seed=0).elbo
    assert (elbo < log_prob + 0.1).all()


# Bad input.


def test_a_missing_library_size_is_named():
    vae, (x, log_library) = vae_of(), counts()
    for call in (
        lambda: vae.codes(x),
        lambda: vae.sample(3),
        lambda: average_elbo(vae, x),
        lambda: fit(vae, x, epochs=1),
    ):
        with pytest.raises(ValueError, match=r"log library size of counts: x.sum\(-1, keepdim=True\).log\(\)"):
            call()
    with pytest.raises(ValueError, match="log library size, .batch, 1., as its last context, .*; got none"):
        likelihood_of("poisson")(codes())
    with pytest.raises(ValueError, match=r"got torch.float64 of shape \(7, 5\)"):
        vae.decode(codes(), x)
    with pytest.raises(ValueError, match=r"got torch.int64 of shape \(7, 1\)"):
        vae.decode(codes(), log_library.long())


def test_an_example_without_counts_is_named():
    vae, (x, _) = vae_of(), counts()
    x[3] = 0
    with pytest.raises(ValueError, match="one that is not finite. Leave out the examples without any count"):
        elbo_terms(vae, x, x.sum(-1, keepdim=True).log())


@every
def test_only_vectors_have_a_library_size(name):
    cls, options = OPTIONS[name]
    with pytest.raises(ValueError, match=r"elements\), whose means sum .*; got events of shape \(2, 3\). Flatten x"):
        cls.net_shape((2, 3), **options, library=True)
    shape = cls.net_shape((2, 3), **options)
    p = cls(nets.MLP(2, (), shape), **options, library=True)
    with pytest.raises(ValueError, match=r"got events of shape \(2, 3\). Flatten x"):
        p(torch.zeros(4, 2), torch.zeros(4, 1))


@every
def test_library_is_a_bool(name):
    cls, options = OPTIONS[name]
    with pytest.raises(ValueError, match="library must be True or False; got 'yes'"):
        cls(nets.MLP(2, (), 3), **options, library="yes")


def test_a_column_of_a_table_has_no_library_size():
    columns = {"visits": {"class": "Poisson", "library": True}}
    with pytest.raises(ValueError, match="column 'visits': library=True is for counts of many elements"):
        Mixed(nets.MLP(2, (), Mixed.net_shape((1,), columns)), columns)


def test_a_likelihood_of_ones_own_may_take_context_for_itself():
    class Lengths(likelihoods.Poisson):
        def __init__(self, net):
            super().__init__(net)
            self.own_context = 1

        def forward(self, z, *context):
            return pyro.distributions.Poisson(context[-1] * self.net(z, *context[:-1]).softmax(-1)).to_event(1)

    encoder = nets.MLP(GENES, (), 4).double()
    vae = VAE(
        priors.StandardNormal(2).double(), Lengths(nets.MLP(2, (), GENES).double()), posteriors.DiagonalNormal(encoder)
    )
    x, log_library = counts()
    torch.testing.assert_close(vae.reconstruct(x, log_library.exp()).sum(-1), x.sum(-1))


# log1p in front of the encoder.


@pytest.mark.parametrize("kind", [nets.MLP, nets.GatedMLP])
def test_the_first_layer_sees_log1p_of_counts(kind):
    torch.manual_seed(0)
    net, same = (kind(GENES, (4,), 3, log1p=log1p).double() for log1p in (True, False))
    same.load_state_dict(net.state_dict())
    x, _ = counts()
    torch.testing.assert_close(net(x), same(torch.from_numpy(np.log1p(x.numpy()))))
    with pytest.raises(ValueError, match="log1p must be True or False; got 1"):
        kind(GENES, (4,), 3, log1p=1)


def test_log1p_is_smooth_at_0_and_finite_below():
    net = nets.MLP(3, (4,), 2, "Tanh", log1p=True).double()
    x = torch.tensor([[0.0, 1e-9, -1e-9], [-1.0, -5.0, 1e6]], dtype=torch.float64, requires_grad=True)
    net(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    torch.testing.assert_close(
        torch.autograd.functional.jacobian(nets.tables.log_of_counts, torch.tensor([0.0, 1e-7, -1e-7]).double()),
        torch.eye(3).double(),
        rtol=1e-6,
        atol=0,
    )


def test_log1p_needs_a_net_that_takes_it():
    for options in ({"nets": "conv"}, {"posterior": {"class": "DiagonalNormal", "net": {"class": "torch.nn.Flatten"}}}):
        with pytest.raises(ValueError, match="inputs log1p is for nets that have an argument log1p, mlp and gated_mlp"):
            build((1, 28, 28), 392, inputs="log1p", **options)
    with pytest.raises(ValueError, match='inputs must be "auto", "x" or "log1p"; got \'log\''):
        build(4, inputs="log")
