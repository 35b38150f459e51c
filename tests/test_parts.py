"""Attributes of parts: classes with and without our base, functions, flows, compiled modules."""

from __future__ import annotations

import copy
import pickle

import pyro.distributions as dist
import pytest
import torch
import zuko
from pyro.nn.module import to_pyro_module_
from torch import nn
from torch.distributions import constraints

import pyro_vae
from pyro_vae import VAE, Likelihood, Posterior, Prior, build, fit, likelihoods, nets, posteriors, priors
from pyro_vae.distributions.columns import Columns
from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.parts import as_likelihood, as_posterior, as_prior, data_of, known, net_shape_of, same_support, words_for

X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).round()


class WithBase(Prior):
    support = constraints.real_vector

    def __init__(self, latent_dim):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, *context):
        return dist.Normal(self.loc, 1.0).to_event(1)


class WithoutBase(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, *context):
        return dist.Normal(self.loc, 1.0).to_event(1)


class SaysSo(WithoutBase):
    support = constraints.real_vector


def function(*context):
    return dist.Laplace(torch.zeros(2), 1.0).to_event(1)


def directions():
    return posteriors.PowerSpherical(nets.MLP(3, (4,), 2))


def normal():
    return posteriors.DiagonalNormal(nets.MLP(3, (4,), 4))


def decoder():
    return likelihoods.Bernoulli(nets.MLP(2, (4,), 3))


OTHERS = {
    "base": lambda: WithBase(2),
    "no_base": lambda: WithoutBase(2),
    "says_so": lambda: SaysSo(2),
    "function": lambda: function,
    "zuko": lambda: zuko.flows.NICE(2, transforms=1, hidden_features=(4,)),
    "compiled": lambda: torch.compile(priors.Normal(2), backend="eager"),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_whatever_is_given_is_kept_and_trained(make):
    prior = make()
    vae = VAE(prior, decoder(), normal())
    assert vae.prior is prior
    prefix = {name for name in vae.state_dict() if name.startswith("prior.")}
    expected = {f"prior.{name}" for name in prior.state_dict()} if isinstance(prior, nn.Module) else set()
    assert prefix == expected
    before = {name: p.clone() for name, p in vae.named_parameters() if name.startswith("prior.")}
    fit(vae, X, epochs=1, progress=False)
    assert all(not torch.equal(p, before[n]) for n, p in vae.named_parameters() if n in before and "bias" not in n)


@pytest.mark.parametrize(
    ("name", "support"),
    [
        ("base", constraints.real_vector),
        ("no_base", None),
        ("says_so", constraints.real_vector),
        ("function", None),
        ("zuko", None),
        ("compiled", constraints.real_vector),
    ],
)
def test_only_what_is_said_is_refused(name, support):
    assert as_prior(OTHERS[name]()).support is support
    if support is None:
        VAE(OTHERS[name](), decoder(), directions())
        return
    with pytest.raises(ValueError, match=r"is over real vectors and posterior PowerSpherical over vectors of length 1"):
        VAE(OTHERS[name](), decoder(), directions())


def test_a_part_with_our_base_is_seen_as_it_is():
    prior, likelihood, posterior = WithBase(2), decoder(), normal()
    assert as_prior(prior) is prior
    assert as_likelihood(likelihood) is likelihood
    assert as_posterior(posterior) is posterior


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_what_is_seen_as_a_prior_gives_its_distribution(make):
    prior = make()
    z = torch.randn(2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(as_prior(prior)().log_prob(z), prior().log_prob(z))


def test_what_is_seen_as_a_likelihood_or_posterior_gives_its_distribution():
    z, c = torch.randn(4, 2), torch.randn(4, 2)
    seen = as_likelihood(lambda z, c: dist.Normal(z + c, 1.0).to_event(1))
    assert torch.equal(seen(z, c).mean, z + c)
    seen = as_posterior(lambda x, c: dist.Normal(x * c, 1.0).to_event(1))
    assert torch.equal(seen(z, c).mean, z * c)


def test_a_parameter_by_the_name_of_an_attribute_is_no_error():
    class Likeness(nn.Module):
        def __init__(self):
            super().__init__()
            self.classes = nn.Parameter(torch.zeros(3))

    assert as_posterior(Likeness()).classes.shape == (3,)


def test_the_defaults_say_nothing():
    prior, likelihood, posterior = as_prior(function), as_likelihood(function), as_posterior(function)
    assert (prior.support, prior.classes, prior.latent_dim, prior.log_codes) == (None, None, None, False)
    assert prior.wanted_examples() == 0
    assert (likelihood.data, likelihood.remedy, likelihood.elementwise) == ("continuous", None, True)
    assert (likelihood.depends_on_batch, likelihood.of_columns()) == (False, [])
    assert (posterior.is_point, posterior.has_mean, posterior.is_discrete) == (False, True, False)


@pytest.mark.parametrize("base", [Prior, Likelihood, Posterior])
def test_a_part_without_a_forward_of_its_own_is_refused_when_it_is_called(base):
    class Nothing(base):
        pass

    takes = {Prior: "", Likelihood: "z, ", Posterior: "x, "}[base]
    with pytest.raises(
        NotImplementedError, match=rf"^Nothing has no forward. Define forward\(self, {takes}\*context\)"
    ):
        Nothing()(torch.zeros(2))


# Which parts go together.


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (constraints.real_vector, constraints.independent(constraints.real, 1), True),
        (constraints.real, constraints.real_vector, True),
        (constraints.simplex, log_simplex, True),
        (constraints.simplex, constraints.one_hot, False),
        (constraints.greater_than(0.0), constraints.greater_than(0.0), True),
        (constraints.greater_than(0.0), constraints.greater_than(1.0), False),
        (dist.constraints.sphere, constraints.real_vector, False),
        (dist.Gamma(torch.ones(2), 1.0).to_event(1).support, constraints.positive, False),  # [0, ∞), not (0, ∞)
        (dist.LogNormal(torch.ones(2), 1.0).to_event(1).support, constraints.positive, True),
    ],
)
def test_supports_are_compared_by_what_they_hold(a, b, same):
    assert same_support(a, b) == same_support(b, a) == same
    assert same_support(copy.deepcopy(a), pickle.loads(pickle.dumps(b))) == same


def test_words_for_supports():
    room = [*(getattr(priors, n) for n in priors.__all__), *(getattr(posteriors, n) for n in posteriors.__all__)]
    words = {words_for(part.support) for part in room if part.support is not None}
    assert words == {"real vectors", "points of a simplex", "one-hot vectors", "vectors of length 1"}
    assert words_for(constraints.greater_than(2.0)) == "GreaterThan(lower_bound=2.0)"


@pytest.mark.parametrize(
    ("room", "base"), [(priors, Prior), (likelihoods, Likelihood), (posteriors, Posterior)], ids=["p", "x", "q"]
)
def test_the_parts_that_are_known_are_those_of_the_rooms(room, base):
    assert known(base) == {name: getattr(room, name) for name in room.__all__}


def test_advice_names_all_of_ours_that_go_and_nothing_of_the_users():
    with pytest.raises(ValueError, match="This posterior goes with the priors") as error:
        VAE(WithBase(2), decoder(), directions())
    assert "This posterior goes with the priors UniformOnSphere, VampPrior; this prior goes with" in str(error.value)
    assert "WithBase" not in str(error.value).partition("This posterior")[2]


def test_a_users_own_support_is_compared_and_worded():
    class Positive(Prior):
        support = constraints.positive

        def forward(self, *context):
            return dist.LogNormal(torch.zeros(2), 1.0).to_event(1)

    class PositiveCodes(normal().__class__):
        support = constraints.positive

        def forward(self, x, *context):
            return dist.LogNormal(*self.net(x).chunk(2, -1)).to_event(1)

    VAE(Positive(), decoder(), PositiveCodes(nets.MLP(3, (4,), 4)))
    with pytest.raises(ValueError, match="priors UniformOnSphere, VampPrior; .* goes with the posteriors over Greater"):
        VAE(Positive(), decoder(), directions())
    with pytest.raises(ValueError, match=r"prior Positive is over GreaterThan\(lower_bound=0.0\) and posterior Diag"):
        VAE(Positive(), decoder(), normal())


def test_supports_survive_copies_of_a_vae():
    vae = build(3, 4, hidden=(4,), prior="vamp", posterior="relaxed_categorical")
    for copied in (copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))):
        assert copied.prior.log_codes
        assert VAE(copied.prior, copied.likelihood, copied.posterior).log_codes


# Attributes that the library reads.


def test_a_users_own_prior_that_wants_examples_gets_them():
    class Wanting(WithoutBase):
        components, started, seen = 7, False, None

        def start_from(self, x, *context):
            self.seen, self.started = x[: self.components], True

    class Extending(WithBase):
        seen = None

        def wanted_examples(self):
            return 7 if self.seen is None else 0

        def start_from(self, x, *context):
            self.seen = x[:7]

    for prior in (Wanting(2), Extending(2)):
        vae = VAE(prior, decoder(), normal())
        fit(vae, X, epochs=1, progress=False)
        assert prior.seen.shape == (7, 3)
        first = prior.seen
        fit(vae, X, epochs=1, progress=False)
        assert prior.seen is first


def test_a_compiled_likelihood_says_what_the_one_inside_says():
    compiled = torch.compile(likelihoods.Multinomial(nets.MLP(2, (4,), 3)), backend="eager")
    seen = as_likelihood(compiled)
    assert (seen.data, seen.elementwise) == ("counts", False)
    with pytest.raises(ValueError, match="is not a product over the elements of x"):
        VAE(priors.Normal(2), compiled, normal(), missing=True)
    mixed = likelihoods.Mixed(nets.MLP(2, (4,), 2), {"a": "Normal", "b": "Bernoulli"})
    assert as_likelihood(torch.compile(mixed, backend="eager")).of_columns() == list(mixed.parts)
    assert isinstance(mixed(torch.zeros(1, 2)), Columns)


def test_remedies_of_columns_are_those_of_their_likelihoods():
    class Exponential(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, z):
            return dist.Exponential(self.net(z).exp()).to_event(1)

    def message(columns, x):
        vae = VAE(
            priors.Normal(2), likelihoods.Mixed(nets.MLP(2, (4,), len(columns)), columns), posterior=lambda x: q(x)
        )
        with pytest.raises(ValueError, match="needs x in") as error:
            vae.model(x)
        return str(error.value)

    def q(x):
        return dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1)

    x = torch.tensor([[-1.5]])
    assert message({"a": Exponential}, x).endswith("Transform the column or give it another likelihood")
    assert message({"a": "Poisson"}, x).endswith("or use likelihoods.Normal")


@pytest.mark.parametrize(
    ("cls", "shape", "options", "wanted"),
    [
        (posteriors.DiagonalNormal, 5, {}, (10,)),
        (likelihoods.Normal, (2, 3), {"scale": "per_element"}, (2, 2, 3)),
        (Likelihood, (2, 3), {}, (2, 3)),
        (WithoutBase, 4, {}, 4),
    ],
)
def test_net_shapes(cls, shape, options, wanted):
    assert net_shape_of(cls, shape, **options) == wanted


def test_kinds_of_data_of_classes_and_functions():
    assert data_of(likelihoods.Poisson) == "counts"
    assert data_of(function) == data_of(WithoutBase) == "continuous"


def test_parts_become_modules_of_pyros():
    """Their metaclass is torch's, because Pyro mixes in its own."""
    for part in (priors.Normal(2), decoder(), normal()):
        before = type(part).__name__
        to_pyro_module_(part)
        assert type(part).__name__ == f"Pyro{before}"


def test_the_bases_are_public():
    assert {"Prior", "Likelihood", "Posterior"} <= set(pyro_vae.__all__)
