"""The VAE as a Pyro program: every tool of Pyro's gives the right numbers, and nothing global changes."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Importance, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.inspect import get_model_relations
from pyro.nn import PyroModule, PyroParam
from torch import nn

from pyro_vae import VAE, elbo_terms, likelihoods, nets, posteriors, priors
from tests.conftest import C, X, make_context, make_vae, make_x

# SVI.


@pytest.mark.parametrize(("loss", "kl"), [(Trace_ELBO, "sampled"), (TraceMeanField_ELBO, "analytic")])
def test_a_step_of_svi_is_the_step_along_the_gradient_of_our_terms(case, loss, kl):
    vae, *batch = case
    twin = copy.deepcopy(vae)
    pyro.set_rng_seed(5)
    value = SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 1e-3}), loss=loss()).step(*batch)
    ours = -elbo_terms(twin, *batch, kl=kl, seed=5).elbo.sum()
    assert value == pytest.approx(ours.item(), rel=1e-9)
    torch.optim.SGD(twin.parameters(), lr=1e-3).zero_grad()
    ours.backward()
    for moved, start in zip(vae.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(moved.detach(), (start - 1e-3 * start.grad).detach(), rtol=1e-9, atol=1e-12)
        assert start.grad.abs().sum() > 0


def test_svi_improves_the_bound():
    vae, x = make_vae(), make_x(n=2).repeat(25, 1, 1)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=Trace_ELBO())
    losses = [svi.step(x) for _ in range(300)]
    assert sum(losses[-50:]) < 0.6 * sum(losses[:50])


def test_renyi_elbo_is_the_importance_weighted_bound():
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=1)
    pyro.set_rng_seed(5)
    loss = RenyiELBO(alpha=0, num_particles=20, vectorize_particles=True, max_plate_nesting=1)
    value = loss.loss(vae.model, vae.guide, x)
    torch.manual_seed(5)
    q = vae.encode(x)
    z = q.rsample((20,))
    log_weights = vae.decode(z).log_prob(x) + vae.prior_of().log_prob(z) - q.log_prob(z)
    assert -value == pytest.approx((torch.logsumexp(log_weights, 0) - math.log(20)).sum().item(), rel=1e-9)


def test_every_bound_and_importance_equal_the_evidence_at_the_true_posterior(linear):
    vae, x = linear.vae(), linear.marginal().sample((6,))
    evidence = linear.marginal().log_prob(x).sum().item()
    for loss in (Trace_ELBO(), RenyiELBO(alpha=0.5, num_particles=3)):
        assert -loss.loss(vae.model, vae.guide, x) == pytest.approx(evidence, rel=1e-9)
    importance = Importance(vae.model, guide=vae.guide, num_samples=10).run(x)
    # Pyro subtracts the logarithm of the number of samples in float32.
    assert importance.get_log_normalizer().item() == pytest.approx(evidence, abs=1e-6)


def test_importance_from_another_posterior_estimates_the_evidence(linear):
    """With 4,000 draws at one point the effective sample size is above 1,000: 0.1 nats is over 3 standard errors."""
    vae, x = linear.vae(), linear.marginal().sample((1,))
    with torch.no_grad():
        linear.encoder.bias += torch.tensor([0.1, -0.1, 0.2, 0.2], dtype=torch.float64)
    importance = Importance(vae.model, guide=vae.guide, num_samples=4000).run(x)
    assert importance.get_ESS() > 1000
    assert importance.get_log_normalizer().item() == pytest.approx(linear.marginal().log_prob(x).item(), abs=0.1)


@pytest.mark.parametrize("parallel", [True, False])
def test_predictive_draws_from_the_marginal(linear, parallel):
    """Mean and covariance within 5 standard errors of the closed form; by chance beyond once in 10⁵ seeds."""
    n = 20_000 if parallel else 500
    x = Predictive(linear.vae().model, num_samples=n, parallel=parallel)(None)["x"].reshape(n, -1)
    exact = linear.marginal()
    deviations = (x - exact.mean).mean(0) / (exact.variance / n).sqrt()
    assert deviations.abs().max() < 5
    spread = torch.cov(x.T) - exact.covariance_matrix
    sizes = (exact.variance.outer(exact.variance) + exact.covariance_matrix**2).div(n).sqrt()
    assert (spread / sizes).abs().max() < 5


@pytest.mark.parametrize("parallel", [True, False])
def test_predictive_with_the_guide_reconstructs(parallel):
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed")
    predictive = Predictive(poutine.uncondition(vae.model), guide=vae.guide, num_samples=8, parallel=parallel)
    draws = predictive(x)
    assert draws["x"].shape == (8, 7, *X)


def test_poutine_conditions_and_replays():
    vae, x, z = make_vae(), make_x(), torch.ones(7, 2, dtype=torch.float64)
    trace = poutine.trace(poutine.condition(vae.model, data={"z": z})).get_trace(x)
    expected = vae.prior_of().log_prob(z) + vae.decode(z).log_prob(x)
    assert trace.log_prob_sum().item() == pytest.approx(expected.sum().item(), rel=1e-12)


def test_model_relations_and_rendering():
    vae, x = make_vae(), make_x()
    relations = get_model_relations(vae.model, (x,))
    assert relations["sample_sample"]["x"] == ["z"]
    assert relations["observed"] == ["x"]
    assert relations["plate_sample"] == {"data": ["z", "x"]}
    assert "data" in pyro.render_model(vae.model, model_args=(x,)).source


def test_model_and_guide_can_be_captured_as_one_graph_with_a_dynamic_batch(case):
    vae, *batch = case

    class Bound(nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def forward(self, *batch):
            guide = poutine.trace(self.vae.guide).get_trace(*batch)
            model = poutine.trace(poutine.replay(self.vae.model, trace=guide)).get_trace(*batch)
            return model.log_prob_sum() - guide.log_prob_sum()

    bound, size = Bound(), torch.export.Dim("batch", min=2)
    with pyro.validation_enabled(False):
        graph = torch.export.export(
            bound, tuple(batch), strict=False, dynamic_shapes={"batch": tuple({0: size} for _ in batch)}
        ).module()
        for rows in (7, 3):
            some = [b[:rows] for b in batch]
            torch.manual_seed(5)
            captured = graph(*some)
            torch.manual_seed(5)
            torch.testing.assert_close(captured, bound(*some), rtol=1e-12, atol=1e-12)


# Nothing global.


def test_parameters_stay_out_of_pyros_store_and_of_the_module():
    vae, x = make_vae(), make_x()
    SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO()).step(x)
    assert len(pyro.get_param_store()) == 0
    assert not any(hasattr(p, "unconstrained") for p in vae.parameters())
    restored = pickle.loads(pickle.dumps(vae))
    assert torch.equal(restored.reconstruct(x), vae.reconstruct(x))


def test_the_model_called_by_itself_draws_from_the_prior():
    vae = make_vae("normal_fixed", context=C)
    assert vae.model(None, *make_context(C)).shape == (7, *X)
    assert make_vae().model().shape == (1, *X)


def test_frozen_parameters_stay_as_they_are():
    vae, x = make_vae(), make_x()
    vae.posterior.requires_grad_(False)
    before = copy.deepcopy(vae.state_dict())
    SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-1}), loss=Trace_ELBO()).step(x)
    after = vae.state_dict()
    assert all(torch.equal(before[name], after[name]) == name.startswith("posterior") for name in before)


def test_interleaved_training_of_two_vaes_gives_what_each_gives_alone():
    x = make_x(n=30)

    def start(seed):
        vae = make_vae(seed=seed)
        return vae, SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=Trace_ELBO())

    def step(svi, number):
        pyro.set_rng_seed(number)
        return svi.step(x)

    (a, svi_a), (b, svi_b) = start(1), start(2)
    alone = [[step(svi, i) for i in range(20)] for svi in (svi_a, svi_b)]
    (c, svi_c), (d, svi_d) = start(1), start(2)
    in_turns = list(zip(*((step(svi_c, i), step(svi_d, i)) for i in range(20)), strict=True))
    assert [list(losses) for losses in in_turns] == alone
    for one, other in ((a, c), (b, d)):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


# Bare functions and other people's distributions.


def test_bare_functions_in_each_place():
    vae = VAE(
        prior=lambda: dist.Laplace(torch.zeros(2), 1.0).to_event(1),
        likelihood=lambda z: dist.Normal(z.repeat_interleave(2, -1), 0.5).to_event(1),
        posterior=lambda x: dist.Normal(x[:, ::2], 0.3).to_event(1),
    )
    x = torch.rand(5, 4)
    pyro.set_rng_seed(5)
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert -loss == pytest.approx(elbo_terms(vae, x, kl="sampled", seed=5).elbo.sum().item(), rel=1e-5)
    assert vae.sample(3).shape == (3, 4)


@pytest.mark.parametrize(
    ("part", "bad", "message"),
    [
        ("prior", priors.StandardNormal, r"prior must be a module or a function .*; got the class StandardNormal"),
        ("likelihood", 3, "likelihood must be a module or a function .*; got a int"),
        ("posterior", None, "posterior must be a module or a function .*; got a NoneType"),
    ],
)
def test_what_cannot_be_called_is_refused(part, bad, message):
    parts = {name: getattr(make_vae(), name) for name in ("prior", "likelihood", "posterior")}
    with pytest.raises(TypeError, match=message):
        VAE(**{**parts, part: bad})


def test_functions_must_return_distributions():
    vae = VAE(lambda: torch.zeros(2), make_vae().likelihood, make_vae().posterior)
    with pytest.raises(TypeError, match="prior <lambda> must return a Pyro or torch distribution; got Tensor"):
        vae.sample(1)


@pytest.mark.parametrize("part", ["prior", "posterior"])
def test_undeclared_event_dimensions_are_named(part):
    whole = make_vae()
    forgetful = {
        "prior": lambda: dist.Normal(torch.zeros(2), 1.0),
        "posterior": lambda x: dist.Normal(torch.zeros(len(x), 2), 1.0),
    }[part]
    parts = {"prior": whole.prior, "likelihood": whole.likelihood, "posterior": whole.posterior, part: forgetful}
    with pytest.raises(
        ValueError, match=rf"^{part} <lambda> must return a distribution over vectors z; .*to_event\(1\)"
    ):
        elbo_terms(VAE(**parts), make_x())


# Data that does not fit.


def everywhere(vae, *batch):
    """Each door through which data come."""
    return [
        lambda: SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO()).step(*batch),
        lambda: Trace_ELBO().loss(vae.model, vae.guide, *batch),
        lambda: elbo_terms(vae, *batch),
    ]


@pytest.mark.parametrize("validation", [True, False])
def test_grey_values_under_a_bernoulli_are_refused(validation):
    vae, grey = make_vae(), torch.linspace(0, 0.996, 12, dtype=torch.float64).reshape(2, *X)
    for enter in everywhere(vae, grey):
        with (
            pyro.validation_enabled(validation),
            pytest.raises(
                ValueError,
                match=r"^likelihood Bernoulli needs x in \{0, 1\}; got values in \[0, 0.996\]. Binarise the data "
                r'\(binarize="dynamic" or "threshold" .*\) or use likelihoods.ContinuousBernoulli',
            ),
        ):
            enter()


@pytest.mark.parametrize("name", ["bernoulli", "normal_fixed"])
@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite values")])
def test_values_that_are_not_finite_are_refused(name, value, word):
    vae, x = make_vae(name), make_x(name)
    x[2, 1, 1] = value
    for enter in everywhere(vae, x):
        with pytest.raises(ValueError, match=f"^x has {word}: 1 of 42 values are not finite. Remove or impute"):
            enter()


def test_the_model_refuses_infinite_values_by_itself():
    with pytest.raises(ValueError, match="^x has infinite values: 42 of 42"):
        poutine.trace(make_vae("normal_fixed").model).get_trace(torch.full((7, *X), math.inf, dtype=torch.float64))


def test_a_wrong_event_shape_is_refused():
    vae = make_vae()
    for enter in everywhere(vae, torch.zeros(7, 3, 2, dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"MLP needs input of shape \(batch, 2, 3\); got \(7, 3, 2\)"):
            enter()
    other = VAE(vae.prior, likelihoods.Bernoulli(nets.MLP(2, (), (3, 2)).double()), vae.posterior)
    for enter in everywhere(other, make_x()):
        with pytest.raises(
            ValueError, match=r"likelihood Bernoulli is over x of shape \(batch, 3, 2\); got \(7, 2, 3\)"
        ):
            enter()


def test_a_likelihood_that_forgets_to_event_is_refused():
    vae = make_vae()
    forgetful = VAE(vae.prior, lambda z: dist.Normal(vae.likelihood.net(z), 1.0).to_event(1), vae.posterior)
    with pytest.raises(
        ValueError, match=r"must return one distribution an example, .*got batch shape \(7, 2\).*\.to_event"
    ):
        elbo_terms(forgetful, make_x())


@pytest.mark.parametrize(
    ("part", "make", "message"),
    [
        (
            "posterior",
            lambda x: dist.Normal(torch.zeros(7, 1, 2), 1.0).to_event(1),
            r"posterior <lambda> must return one .*shape \(7, 1\)",
        ),
        (
            "posterior",
            lambda x: dist.Normal(torch.zeros(7, 2), 1.0).to_event(2),
            r"over vectors z; got event shape \(7, 2\)",
        ),
        (
            "likelihood",
            lambda z: dist.Normal(torch.zeros(3, 2, 3), 1.0).to_event(2),
            r"likelihood <lambda> must return one .*shape \(3,\)",
        ),
    ],
)
def test_other_batch_shapes_are_refused(part, make, message):
    whole = make_vae("normal_fixed")
    parts = {"prior": whole.prior, "likelihood": whole.likelihood, "posterior": whole.posterior, part: make}
    for enter in everywhere(VAE(**parts), make_x("normal_fixed")):
        with pytest.raises(ValueError, match=message):
            enter()


def test_one_distribution_for_all_examples_is_expanded():
    same = VAE(
        prior=lambda: dist.Normal(torch.zeros(1, 2), 1.0).to_event(1),
        likelihood=lambda z: dist.Normal(torch.zeros(3), 1.0).to_event(1),
        posterior=lambda x: dist.Normal(torch.ones(2), 0.5).to_event(1),
    )
    x = torch.randn(7, 3)
    terms = elbo_terms(same, x, kl="sampled", seed=5)
    assert terms.elbo.shape == (7,)
    pyro.set_rng_seed(5)
    assert terms.elbo.sum().item() == pytest.approx(-Trace_ELBO().loss(same.model, same.guide, x), rel=1e-5)
    assert same.sample(16).shape == (16, 3)
    assert same.reconstruct(x).shape == (7, 3)


class Convolutional(nn.Module):
    """A decoder that knows of one batch dimension only."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + C, 8), nn.BatchNorm1d(8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 1, 2)
        )

    def forward(self, z, c):
        return self.layers(torch.cat([z, c], -1))


@pytest.mark.parametrize("num_particles", [1, 4])
def test_decoders_that_know_of_one_batch_dimension_only(num_particles):
    encoder = nets.MLP((1, 3, 3), (), 4, context=C)
    vae = (
        VAE(priors.StandardNormal(2), likelihoods.Normal(Convolutional()), posteriors.DiagonalNormal(encoder))
        .double()
        .eval()
    )
    x, (c,) = torch.randn(7, 1, 3, 3, dtype=torch.float64), make_context(C)
    terms = elbo_terms(vae, x, c, kl="sampled", num_particles=num_particles, seed=5)
    torch.manual_seed(5)
    z = vae.encode(x, c).rsample((num_particles,))
    each = [vae.decode(z[k], c).log_prob(x) for k in range(num_particles)]
    torch.testing.assert_close(terms.recon, torch.stack(each).mean(0))
    if num_particles == 1:
        pyro.set_rng_seed(5)
        assert terms.elbo.sum().item() == pytest.approx(-Trace_ELBO().loss(vae.model, vae.guide, x, c), rel=1e-9)
    assert vae.interpolate(x[:3], x[3:6], 5, c[:3]).shape == (3, 5, 1, 3, 3)


class ScaledPrior(PyroModule):
    """A prior of Pyro's own kind of module."""

    def __init__(self, scale):
        super().__init__()
        self.scale = PyroParam(torch.tensor([scale, scale]).double(), torch.distributions.constraints.positive)

    def forward(self):
        return dist.Normal(torch.zeros(2).double(), self.scale).to_event(1)


def test_pyro_modules_of_the_same_names_do_not_share():
    whole, x = make_vae(), make_x()
    a, b = (VAE(ScaledPrior(s), make_vae().likelihood, whole.posterior) for s in (1.0, 5.0))
    alone = elbo_terms(b, x, kl="sampled", seed=1).elbo
    for vae in (a, b):
        SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO()).step(x)
    assert ((a.prior.scale - 1.0).abs() < 0.01).all()
    assert ((b.prior.scale - 5.0).abs() < 0.01).all()
    assert not torch.equal(b.prior.scale, torch.full((2,), 5.0).double())  # trained, by its own gradient
    torch.testing.assert_close(elbo_terms(b, x, kl="sampled", seed=1).elbo, alone, rtol=0.01, atol=0.1)


def test_parameters_in_pyros_store_are_refused():
    whole = make_vae()

    def prior():
        return dist.Normal(pyro.param("loc", torch.zeros(2).double()), 1.0).to_event(1)

    for enter in everywhere(VAE(prior, whole.likelihood, whole.posterior), make_x()):
        with pytest.raises(ValueError, match="prior prior keeps the parameter 'loc' in Pyro's parameter store"):
            enter()


def test_a_context_of_another_length_is_refused():
    vae = make_vae(context=C)
    for enter in everywhere(vae, make_x(), *make_context(C, n=5)):
        with pytest.raises(
            ValueError, match=r"context 0 must have one row an example; got \(5, 4\) for x of shape \(7, 2"
        ):
            enter()


def test_a_context_that_is_no_tensor_is_refused():
    vae, x = make_vae(), make_x()
    with pytest.raises(TypeError, match="context 0 must be a tensor or a NumPy array; got str: 'spherical'"):
        vae.interpolate(x, x, 5, "spherical")


@pytest.mark.parametrize("latent", [1, 3])
def test_a_prior_of_another_dimension_is_refused(latent):
    whole = make_vae()
    vae = VAE(priors.StandardNormal(latent).double(), whole.likelihood, whole.posterior)
    for enter in everywhere(vae, make_x()):
        with pytest.raises(
            ValueError,
            match=rf"prior StandardNormal is over z of shape \({latent},\); got z of shape \(2,\) from posterior "
            "DiagonalNormal. Give both the same latent dimension",
        ):
            enter()


# Using a trained VAE.


def test_encode_and_decode_return_distributions_over_whole_events(case):
    vae, x, *context = case
    q = vae.encode(x, *context)
    assert (q.batch_shape, q.event_shape) == ((7,), (2,))
    p = vae.decode(q.rsample((3,)), *context)
    assert (p.batch_shape, p.event_shape) == ((3, 7), X)


def test_reconstruct_is_the_mean_at_the_mean(case):
    vae, x, *context = case
    expected = vae.decode(vae.encode(x, *context).mean, *context).mean.detach()
    assert torch.equal(vae.reconstruct(x, *context), expected)


def test_reconstruct_draws_where_the_posterior_has_no_mean():
    vae = make_vae()
    torch_flow = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(torch.zeros(2).double(), 1.0), [torch.distributions.SigmoidTransform()]
    )
    drawn = VAE(vae.prior, vae.likelihood, lambda x: torch.distributions.Independent(torch_flow.expand((len(x), 2)), 1))
    before = torch.get_rng_state()
    assert torch.equal(drawn.reconstruct(make_x(), seed=3), drawn.reconstruct(make_x(), seed=3))
    assert torch.equal(before, torch.get_rng_state())


def test_sample_repeats_by_seed_and_draws_from_the_support(case):
    vae, x, *context = case
    state = torch.get_rng_state()
    a, b = (vae.sample(7, *context, seed=3) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(state, torch.get_rng_state())
    assert a.shape == x.shape
    assert not a.requires_grad
    assert bool(vae.decode(torch.zeros(7, 2, dtype=torch.float64), *context).support.check(a).all())


def test_sample_means_are_means(linear):
    vae = linear.vae()
    means = vae.sample(5, mean=True, seed=1)
    torch.manual_seed(1)
    z = vae.prior_of().sample((5,))
    torch.testing.assert_close(means, z @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_paths_start_and_end_at_the_reconstructions(case, path):
    vae, x, *context = case
    x0, x1, c = x[:3], x[3:6], [k[:3] for k in context]
    paths = vae.interpolate(x0, x1, 5, *c, path=path)
    assert paths.shape == (3, 5, *X)
    torch.testing.assert_close(paths[:, 0], vae.reconstruct(x0, *c))
    torch.testing.assert_close(paths[:, -1], vae.reconstruct(x1, *c))


def test_paths_are_straight_or_on_the_sphere():
    show_z = VAE(
        priors.StandardNormal(2),
        lambda z: dist.Normal(z, 1.0).to_event(1),
        lambda x: dist.Normal(x, 1.0).to_event(1),
    )
    x0, x1 = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    torch.testing.assert_close(show_z.interpolate(x0, x1, 3)[0], torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
    curved = show_z.interpolate(x0, x1, 5, path="spherical")[0]
    torch.testing.assert_close(curved.norm(dim=-1), torch.full((5,), 2.0))
    angles = torch.atan2(curved[:, 1], curved[:, 0])
    torch.testing.assert_close(angles, torch.linspace(0, math.pi / 2, 5))
    same = show_z.interpolate(x0, x0, 4, path="spherical")
    torch.testing.assert_close(same, x0.expand(1, 4, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, x: v.interpolate(x, x[:2], 5), "x0 and x1 must have the same shape"),
        (lambda v, x: v.interpolate(x, x, 1), "steps must be at least 2; got 1"),
        (lambda v, x: v.interpolate(x, x, 5, path="round"), 'path must be "linear" or "spherical"; got \'round\''),
        (lambda v, x: v.sample(0), "n must be at least 1; got 0"),
        (lambda v, x: v.sample(3, torch.zeros(2, 4)), "context 0 must have n = 3 rows; got 2"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_vae(), make_x())


def test_pictures_are_taken_without_dropout_and_leave_the_mode():
    vae = make_vae()
    vae.likelihood.net = nn.Sequential(vae.likelihood.net, nn.Dropout(0.9))
    vae.train()
    assert torch.equal(vae.reconstruct(make_x()), vae.reconstruct(make_x()))
    drawn = vae.sample(5, mean=True, seed=1)
    assert vae.likelihood.net[1].training
    assert torch.equal(drawn, vae.eval().sample(5, mean=True, seed=1))


# Weights.


def test_weights_come_back(case, tmp_path):
    vae, x, *context = case
    vae.save_weights(tmp_path / "w.safetensors")
    other = copy.deepcopy(vae)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)
    assert torch.equal(
        other.load_weights(tmp_path / "w.safetensors").reconstruct(x, *context), vae.reconstruct(x, *context)
    )


def test_tied_weights_come_back(tmp_path):
    net = nets.MLP(2, (), 4)
    vae = VAE(
        priors.StandardNormal(2),
        likelihoods.Normal(net),
        posteriors.DiagonalNormal(nn.Sequential(nn.Linear(4, 2), net)),
    )
    vae.save_weights(tmp_path / "w.safetensors")
    expected = net.layers[0].weight.clone()
    net.layers[0].weight.data.zero_()
    vae.load_weights(tmp_path / "w.safetensors")
    assert torch.equal(net.layers[0].weight, expected)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    vae, path = make_vae(), tmp_path / "w.safetensors"
    vae.save_weights(path)
    good = path.read_bytes()

    def half(tensors, filename):
        Path(filename).write_bytes(good[:50])
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_model", half)
    with pytest.raises(OSError, match="disk full"):
        vae.save_weights(path)
    assert path.read_bytes() == good


def test_a_truncated_weights_file_is_refused(tmp_path):
    vae, path = make_vae(), tmp_path / "w.safetensors"
    vae.save_weights(path)
    path.write_bytes(path.read_bytes()[:-10])
    before = copy.deepcopy(vae.state_dict())
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read .*damaged or was cut short"):
        vae.load_weights(path)
    assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())


def test_weights_of_another_vae_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    make_vae(context=C).save_weights(path)
    with pytest.raises(ValueError, match=r"belong to another VAE: \S+ has shape \(\d+, \d+\) there and"):
        make_vae().load_weights(path)
    make_vae("normal_fixed").save_weights(path)
    with pytest.raises(ValueError, match="belong to another VAE: there is no likelihood.raw_scale in the file"):
        make_vae("normal_learned").load_weights(path)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*nothing.safetensors"):
        make_vae().load_weights(tmp_path / "nothing.safetensors")
