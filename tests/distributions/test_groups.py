"""Independent groups in one vector."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from scipy import stats
from torch.distributions import constraints, kl_divergence

from pyro_vae.distributions.concrete import RelaxedOneHot
from pyro_vae.distributions.groups import Grouped, GroupedSupport
from pyro_vae.distributions.sphere import PowerSpherical

B, G, K, X = 5, 2, 3, 4


def logits(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g).requires_grad_()


def one_hot(*shape, seed=0):
    return dist.OneHotCategorical(logits=logits(*shape, seed=seed))


BASES = {
    "one_hot": lambda: one_hot(B, G, K),
    "straight_through": lambda: dist.OneHotCategoricalStraightThrough(logits=logits(B, G, K)),
    "relaxed": lambda: RelaxedOneHot(0.5, logits(B, G, K)),
    "dirichlet": lambda: dist.Dirichlet(logits(B, G, K).exp()),
    "normal": lambda: dist.Normal(logits(B, G, K), 0.7).to_event(1),
    "sphere": lambda: PowerSpherical(torch.nn.functional.normalize(logits(B, G, K), dim=-1), 3.0),
}


# Grouped.


@pytest.mark.parametrize("name", BASES)
def test_a_vector_of_groups_has_the_density_of_all_groups(name):
    base = BASES[name]()
    d = Grouped(base)
    assert (d.batch_shape, d.event_shape, d.groups, d.classes) == ((B,), (G * K,), G, K)
    assert (d.has_rsample, d.has_enumerate_support) == (base.has_rsample, base.has_enumerate_support)
    torch.manual_seed(1)
    z = d.sample((7,))
    torch.manual_seed(1)
    assert torch.equal(z, base.sample((7,)).reshape(7, B, G * K))
    expected = sum(base.log_prob(z.reshape(7, B, G, K))[..., g] for g in range(G))
    torch.testing.assert_close(d.log_prob(z), expected, rtol=1e-12, atol=0)
    assert d.support.check(z).all()
    if name != "normal":
        assert not d.support.check(z + 0.1).any()
    if base.has_rsample:
        torch.manual_seed(1)
        z = d.rsample((7,))
        torch.manual_seed(1)
        assert torch.equal(z, base.rsample((7,)).reshape(7, B, G * K))
        assert z.requires_grad


@pytest.mark.parametrize("name", BASES)
def test_moments_and_entropy_are_those_of_the_groups(name):
    base = BASES[name]()
    d = Grouped(base)
    for what in ("mean", "variance", "entropy"):
        try:
            expected = getattr(base, what)
            expected = expected().sum(-1) if what == "entropy" else expected.reshape(B, G * K)
        except NotImplementedError:
            with pytest.raises(NotImplementedError):
                getattr(d, what)() if what == "entropy" else getattr(d, what)
            continue
        torch.testing.assert_close(d.entropy() if what == "entropy" else getattr(d, what), expected)


@pytest.mark.parametrize("name", BASES)
def test_expanded_groups(name):
    d = Grouped(BASES[name]())
    e = d.expand((4, B))
    assert isinstance(e, Grouped)
    assert (e.batch_shape, e.event_shape, e.sample((2,)).shape) == ((4, B), (G * K,), (2, 4, B, G * K))
    z = d.sample()
    assert torch.equal(e.log_prob(z), d.log_prob(z).expand(4, B))
    unbatched = Grouped(one_hot(G, K)).expand((B,))
    assert unbatched.batch_shape == (B,)


def test_enumerated_values_are_all_there_are():
    d = Grouped(one_hot(B, G, K))
    values = d.enumerate_support(expand=False)
    assert values.shape == (K**G, 1, G * K)
    assert len(values.unique(dim=0)) == K**G
    assert d.support.check(values).all()
    torch.testing.assert_close(d.log_prob(values).exp().sum(0), torch.ones(B).double(), rtol=1e-12, atol=0)
    assert torch.equal(d.enumerate_support(), values.expand(-1, B, -1))
    assert Grouped(one_hot(1, K)).enumerate_support().shape == (K, K)
    assert Grouped(one_hot(B, 2, 1, K)).enumerate_support(expand=False).shape == (K, 1, 1, K)


def test_moments_equal_those_of_the_enumerated_values():
    d = Grouped(one_hot(B, G, K))
    values = d.enumerate_support()
    p = d.log_prob(values).exp()
    torch.testing.assert_close(d.mean, torch.einsum("vb,vbz->bz", p, values))
    torch.testing.assert_close(d.variance, torch.einsum("vb,vbz->bz", p, (values - d.mean) ** 2))
    torch.testing.assert_close(d.entropy(), -(p * p.log()).sum(0))
    q = Grouped(one_hot(G, K, seed=1))
    torch.testing.assert_close(kl_divergence(d, q), (p * (p.log() - q.log_prob(values))).sum(0))


def test_draws_have_the_probabilities_of_the_values():
    """Chi-square of the 9 values of two groups: level 1e-4 on a fixed seed."""
    torch.manual_seed(0)
    d = Grouped(one_hot(G, K))
    values = d.enumerate_support()
    counts = (d.sample((20_000,)).unsqueeze(1) == values).all(-1).sum(0).numpy()
    assert counts.sum() == 20_000
    assert stats.chisquare(counts, 20_000 * d.log_prob(values).exp().detach().numpy()).pvalue > 1e-4


@pytest.mark.parametrize(("groups", "classes", "fine"), [(12, 2, True), (13, 2, False), (6, 4, True), (4, 9, False)])
def test_too_many_values_are_refused(groups, classes, fine):
    d = Grouped(dist.OneHotCategorical(logits=torch.zeros(groups, classes)))
    if fine:
        assert d.enumerate_support().shape == (4096, groups * classes)
        return
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below
        d.enumerate_support()
    assert str(error.value) == (
        f"{groups} groups of {classes} values have {classes}**{groups} = {classes**groups} combinations, more than the "
        "4096 that are enumerated. Use fewer groups or classes, or a RelaxedCategorical posterior"
    )


def test_what_cannot_be_enumerated_says_so():
    with pytest.raises(NotImplementedError, match="the values of RelaxedOneHot cannot be enumerated"):
        Grouped(RelaxedOneHot(0.5, logits(G, K))).enumerate_support()


def test_supports_are_equal_where_their_groups_are():
    support = Grouped(one_hot(B, G, K)).support
    assert support == Grouped(one_hot(G, K)).support
    assert hash(support) == hash(Grouped(one_hot(G, K)).support)
    assert support == GroupedSupport(constraints.one_hot, G, K)
    assert support != Grouped(one_hot(G, K + 1)).support
    assert support != Grouped(one_hot(K, G)).support
    assert support != Grouped(BASES["relaxed"]()).support
    assert support != constraints.one_hot
    assert Grouped(BASES["normal"]()).support == Grouped(BASES["normal"]()).support
    assert Grouped(BASES["normal"]()).support != Grouped(BASES["dirichlet"]()).support
    assert (support.is_discrete, support.event_dim) == (True, 1)
    assert not Grouped(BASES["relaxed"]()).support.is_discrete
    assert repr(support) == f"GroupedSupport({constraints.one_hot}, groups=2, classes=3)"


def test_a_support_looks_at_each_group():
    support = GroupedSupport(constraints.one_hot, 2, 2)
    values = torch.tensor([[1.0, 0, 0, 1], [1, 1, 0, 0], [0.5, 0.5, 0, 1]])
    assert support.check(values).tolist() == [True, False, False]
    assert support.check(torch.tensor([1.0, 0, 0])).tolist() is False


def test_bad_groups_are_refused():
    with pytest.raises(ValueError, match=r"base must have batch shape .* got batch shape \(\) and event shape \(3,\)"):
        Grouped(one_hot(K))
    with pytest.raises(ValueError, match=r"got batch shape \(5, 2, 3\) and event shape \(\)"):
        Grouped(dist.Bernoulli(logits=logits(B, G, K)))
    with pytest.raises(ValueError, match=r"value must be \(..., 6\), 2 groups of 3; got shape \(5, 7\)"):
        Grouped(one_hot(B, G, K)).log_prob(torch.zeros(B, 7))
    with pytest.raises(ValueError, match="got 2 groups of 3 and 3 of 2. Give posterior and prior the same numbers"):
        kl_divergence(Grouped(one_hot(2, 3)), Grouped(one_hot(3, 2)))


# Under Pyro, with every value of z summed over.


@pytest.fixture
def codes():
    """A model, a way to make its guide, the decoder, the parameters, x, and the shapes of z that the model saw."""
    of_q, of_p, weight = logits(B, G, K), logits(G, K, seed=1), logits(G * K, X, seed=2)
    x = torch.rand(B, X, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).round()
    shapes = []

    def decoder(z):
        return torch.tanh(z @ weight) * (1 + (z[..., :1] - z[..., -1:]))

    def model(x):
        with pyro.plate("data", B):
            z = pyro.sample("z", Grouped(dist.OneHotCategorical(logits=of_p)))
            shapes.append(tuple(z.shape))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def make_guide(family=dist.OneHotCategorical, **infer):
        def guide(x):
            with pyro.plate("data", B):
                pyro.sample("z", Grouped(family(logits=of_q)), infer=infer)

        return guide

    return model, make_guide, decoder, (of_q, of_p, weight), x, shapes


def exact_loss(decoder, parameters, x):
    """−ELBO, one value of z after another."""
    log_q, log_p = parameters[0].log_softmax(-1), parameters[1].log_softmax(-1)
    bound = torch.zeros(()).double()
    for ks in itertools.product(range(K), repeat=G):
        z = torch.cat([torch.eye(K, dtype=torch.float64)[k] for k in ks])
        q, p = (sum(t[..., g, k] for g, k in enumerate(ks)) for t in (log_q, log_p))
        out = decoder(z).expand_as(x)
        likelihood = (x * torch.nn.functional.logsigmoid(out) + (1 - x) * torch.nn.functional.logsigmoid(-out)).sum(-1)
        bound = bound + (q.exp() * (likelihood + p - q)).sum()
    return -bound


def test_enumeration_gives_the_exact_bound_and_gradient(codes):
    model, make_guide, decoder, parameters, x, shapes = codes
    guide = make_guide(enumerate="parallel")
    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, x)
    assert shapes[-1] == (K**G, 1, G * K)
    exact = exact_loss(decoder, parameters, x)
    torch.testing.assert_close(loss, exact, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(exact, parameters), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("elbo", "family"),
    [(Trace_ELBO, dist.OneHotCategorical), (TraceMeanField_ELBO, dist.OneHotCategoricalStraightThrough)],
)
def test_sampled_bounds_agree_with_the_exact_one(codes, elbo, family):
    """The mean of 20,000 draws lies within 4.5 standard errors: a false alarm in 1e5, on a fixed seed."""
    model, make_guide, decoder, parameters, x, _ = codes
    loss = elbo(num_particles=500, vectorize_particles=True, max_plate_nesting=1)
    draws = [loss.loss(model, make_guide(family), x) for _ in range(40)]
    standard_error = np.std(draws, ddof=1) / math.sqrt(len(draws))
    assert standard_error < 0.05
    assert abs(np.mean(draws) - exact_loss(decoder, parameters, x).item()) < 4.5 * standard_error


def test_groups_in_predictive(codes):
    model, *_ = codes
    draws = Predictive(model, num_samples=6, parallel=True)(None)
    assert draws["z"].shape == (6, B, G * K)
