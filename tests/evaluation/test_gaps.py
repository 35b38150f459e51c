"""The two gaps of the linear Gaussian model in closed form, and everything that the search leaves unchanged."""

from __future__ import annotations

import copy
import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae import VAE, elbo_terms, likelihoods, posteriors, priors
from pyro_vae.closed_forms import LinearGaussian
from pyro_vae.evaluation import importance_sampling
from pyro_vae.evaluation.gaps import inference_gaps
from pyro_vae.model_guide import ModelGuide
from pyro_vae.svi.execution import CompiledGraph
from tests.combinations.parts import make_vae as make_combination
from tests.combinations.parts import make_x as make_combination_x
from tests.conftest import make_context, make_vae, make_x


@pytest.fixture
def correlated():
    """A model whose true posterior has the precision [[5, 2], [2, 5]].

    With a correlation above 0.5, weights under the best diagonal q would have no variance.
    """
    weight = torch.tensor([[1.0, 0.5], [0.0, 0.75**0.5], [0.0, 0.0]], dtype=torch.float64)
    return LinearGaussian(weight, torch.tensor([0.3, 0.0, -0.2], dtype=torch.float64), 0.5)


def data(model, n=20):
    return model.marginal().sample((n,))


def shifted(vae, by=0.3, wider=0.4):
    """Shift the means and raw scales of the encoder by the same amount for every x."""
    with torch.no_grad():
        bias = vae.posterior.net.bias
        bias[:2] += by
        bias[2:4] += wider
    return vae


def close(values, truth, error):
    """Check the mean of independent values within 5 standard errors (6e-7) plus the loss of the search."""
    return abs(values.mean() - truth) < 5 * values.std() / len(values) ** 0.5 + error


def fields(found):
    return dataclasses.asdict(found)


def test_gaps_in_closed_form(correlated):
    x, vae = data(correlated), shifted(correlated.vae("diagonal"))
    found = inference_gaps(vae, x, steps=150, importance_particles=4000, lr=0.1)
    best = correlated.elbo(x, correlated.best_diagonal(x))
    approximation = (correlated.log_prob(x) - best)[0].item()
    amortisation = (best - correlated.elbo(x, vae.encode(x)))[0].item()
    assert approximation == pytest.approx(-math.log(1 - 0.4**2) / 2)  # the largest possible gap to find
    assert amortisation > 0.5
    assert close(found.approximation, approximation, 0.003)
    assert close(found.amortisation, amortisation, 0.003)
    assert found.approximation.std() < 0.05  # otherwise the two lines above would mean little
    assert found.amortisation.std() < 0.05
    assert (found.effective_sample_size > 500).all()
    whole = found.log_prob - found.elbo
    torch.testing.assert_close(found.approximation + found.amortisation, whole, rtol=1e-12, atol=0)
    means = found.means
    assert means["approximation"] + means["amortisation"] == pytest.approx(whole.mean().item(), rel=1e-12)
    assert means["log_prob"] - means["elbo"] == pytest.approx(whole.mean().item(), rel=1e-12)


def test_the_family_that_holds_the_true_posterior_has_no_approximation_gap(correlated):
    x, vae = data(correlated, 10), shifted(correlated.vae("exact"))
    found = inference_gaps(vae, x, steps=200, importance_particles=500)
    assert (found.approximation < 0.02).all()  # measured: 0.005 on average, 0.001 after 1,000 steps
    assert (found.approximation > -1e-12).all()
    torch.testing.assert_close(found.log_prob, correlated.log_prob(x), atol=0.03, rtol=0)
    amortisation = (correlated.log_prob(x) - correlated.elbo(x, vae.encode(x)))[0].item()
    assert amortisation > 0.5
    assert close(found.amortisation, amortisation, 0.02)


def test_an_encoder_that_is_best_already(correlated):
    """At the true posterior every weight is p(x) and the ELBO is log p(x): the search must not lose it."""
    x = data(correlated)
    found = inference_gaps(correlated.vae("exact"), x, steps=5, importance_particles=500)
    torch.testing.assert_close(found.elbo, correlated.log_prob(x), rtol=1e-10, atol=1e-10)
    assert found.amortisation.abs().max() < 0.05
    assert (found.amortisation == 0).any()  # if the encoder's q is kept


def test_a_search_that_went_wrong_is_not_believed(correlated):
    """With far too large a step the encoder's q is kept, and the results are those of importance sampling from it."""
    x, vae = data(correlated), correlated.vae("diagonal")
    found = inference_gaps(vae, x, steps=1, importance_particles=300, lr=50.0)
    assert (found.amortisation == 0).all()
    again = inference_gaps(vae, x, steps=1, importance_particles=300, lr=70.0)
    torch.testing.assert_close(found.log_prob, again.log_prob, rtol=0, atol=0)


def test_examples_do_not_see_one_another(correlated):
    """The first 64 of 70 have their own noise, so their results are the same without the rest."""
    x, vae = data(correlated, 70), shifted(correlated.vae("diagonal"))
    options = {"steps": 20, "importance_particles": 50}
    whole, part = inference_gaps(vae, x, **options), inference_gaps(vae, x[:64], **options)
    torch.testing.assert_close(whole.best_elbo[:64], part.best_elbo, rtol=1e-9, atol=1e-9)
    other = x.clone()
    other[1:] += 3
    moved = inference_gaps(vae, other, **options)
    torch.testing.assert_close(whole.best_elbo[0], moved.best_elbo[0], rtol=1e-9, atol=1e-9)
    assert (whole.best_elbo[1:] != moved.best_elbo[1:]).all()


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        ("StandardNormal", "InverseAutoregressiveFlow"),
        ("StandardNormal", "Laplace"),
        ("StandardNormal", "LowRankNormal"),
        ("StandardNormal", "Householder"),
        ("VampPrior", "DiagonalNormal"),
        ("UniformOnSphere", "PowerSpherical"),
        ("RelaxedCategorical", "RelaxedCategorical"),
        ("Dirichlet", "LogisticNormal"),
    ],
)
def test_other_families(prior, posterior):
    """Log p(x) and the encoder's ELBO from other draws, within 5 standard errors: 6e-7 each, on a fixed seed."""
    vae, x = make_combination(prior, posterior), make_combination_x()
    found = inference_gaps(vae, x, steps=60, importance_particles=1000, lr=0.1)
    with torch.no_grad():
        codes = vae.prior_of().expand((len(x),)).sample((30_000,))
        probabilities = ModelGuide(vae, x).log_likelihood(codes).exp()  # of four pixels: draws from the prior suffice
        terms = ModelGuide(vae, x).draw_terms(3000).weight
    error = probabilities.std(0) / probabilities.mean(0) / 30_000**0.5
    assert ((found.log_prob - probabilities.mean(0).log()).abs() < 5 * (error + found.standard_error)).all()
    error = terms.std(0) * (1 / 3000 + 1 / 1000) ** 0.5
    assert ((found.elbo - terms.mean(0)).abs() < 5 * error).all()
    assert (found.approximation > 0).all()
    assert found.means["amortisation"] > 0.05


def test_the_family_is_searched_with_the_prior_as_it_is():
    """The pseudo-inputs of a VampPrior go through the encoder's posterior, not the free one."""
    vae, x = make_combination("VampPrior", "DiagonalNormal"), make_combination_x()
    found = inference_gaps(vae, x, steps=30, importance_particles=1000)
    fixed = VAE(lambda: vae.prior(), vae.likelihood, vae.posterior)
    torch.testing.assert_close(fields(found), fields(inference_gaps(fixed, x, steps=30, importance_particles=1000)))


def test_context_and_missing_values():
    vae, c = make_vae(context=4), make_context(4)
    found = inference_gaps(vae, make_x(), *c, steps=30, importance_particles=200)
    assert found.means["amortisation"] > 0
    from_programs = inference_gaps(ModelGuide(vae, make_x(), *c), steps=30, importance_particles=200)
    torch.testing.assert_close(fields(found), fields(from_programs))

    inner = make_vae()
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    vae = VAE(inner.prior, inner.likelihood, posteriors.DiagonalNormal(net), missing=True)
    x, mask = make_x(), torch.rand(7, 2, 3) > 0.4
    holes = torch.where(mask, x, torch.nan)
    found = inference_gaps(vae, x, mask=mask, steps=30, importance_particles=200)
    torch.testing.assert_close(fields(found), fields(inference_gaps(vae, holes, steps=30, importance_particles=200)))
    assert found.means["amortisation"] > 0


def test_all_is_left_as_it_was():
    vae, x = make_vae(), make_x()
    vae.posterior.net.add_module("dropout", nn.Dropout(0.9))
    next(vae.likelihood.parameters()).requires_grad_(False)
    vae.posterior.eval()
    elbo_terms(vae, x).elbo.sum().backward()
    before, state = copy.deepcopy(vae), torch.get_rng_state()
    gradients = [None if p.grad is None else p.grad.clone() for p in vae.parameters()]
    first = inference_gaps(vae, x, steps=3, importance_particles=10)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    for (name, now), then, gradient in zip(vae.named_parameters(), before.parameters(), gradients, strict=True):
        assert torch.equal(now, then), name
        assert now.requires_grad == then.requires_grad, name
        assert (now.grad is None) == (gradient is None), name
        assert gradient is None or torch.equal(now.grad, gradient), name
    assert any(g is not None for g in gradients)
    assert [m.training for m in vae.modules()] == [m.training for m in before.modules()]
    assert not any(m._forward_hooks for m in vae.modules())
    assert type(vae.posterior.net) is type(before.posterior.net)
    torch.testing.assert_close(
        fields(first), fields(inference_gaps(vae, x, steps=3, importance_particles=10)), rtol=0, atol=0, equal_nan=True
    )
    assert not torch.equal(first.elbo, inference_gaps(vae, x, steps=3, importance_particles=10, seed=1).elbo)
    assert not any(t.requires_grad for t in fields(first).values())


def test_float32(correlated):
    vae = shifted(correlated.vae("diagonal")).float()
    found = inference_gaps(vae, data(correlated).float(), steps=20, importance_particles=100)
    assert {t.dtype for t in (found.elbo, found.best_elbo, found.log_prob)} == {torch.float32}
    assert found.means["amortisation"] > 0.1


def test_programs_of_the_best_q_can_be_compiled(correlated, uncompiled, monkeypatch):
    """A graph of log p(x, z), run without compiling: it uses the weights of the VAE and the rows of each example."""
    import pyro_vae.evaluation.gaps as module

    x, vae = data(correlated, 66), shifted(correlated.vae("diagonal"))
    plain = inference_gaps(vae, x, steps=3, importance_particles=501)
    ran = []

    def compiled(*args, num_particles, **kwargs):
        options = {"compiled": num_particles == 501, "chunk_size": 6400}
        return importance_sampling(*args, num_particles=num_particles, **options, **kwargs)

    run = CompiledGraph.__call__
    monkeypatch.setattr(CompiledGraph, "__call__", lambda self, inputs: ran.append(1) or run(self, inputs))
    monkeypatch.setattr(module, "estimate_log_prob", compiled)
    found = inference_gaps(vae, x, steps=3, importance_particles=501)
    torch.testing.assert_close(fields(found), fields(plain), rtol=1e-10, atol=1e-10)
    assert len(ran) == 6  # three chunks of 100 draws, for each of the two q


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
        ({"num_particles": 0}, "num_particles must be an integer of at least 1; got 0"),
        ({"importance_particles": 1.5}, "importance_particles must be an integer of at least 1; got 1.5"),
        ({"lr": 0.0}, "lr must be a finite number above 0; got 0.0"),
    ],
)
def test_bad_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        inference_gaps(make_vae(), make_x(), **change)


class TwoNets(nn.Module):
    def __init__(self, often):
        super().__init__()
        self.net, self.often = nn.Linear(6, 4), often

    def forward(self, x):
        out = sum((self.net(x.flatten(1)) for _ in range(self.often)), torch.zeros(len(x), 4))
        return dist.Normal(out[:, :2], out[:, 2:].exp()).to_event(1)


def test_posteriors_that_will_not_do():
    inner = make_vae().float()
    x = make_x().float()

    def of(posterior, prior=inner.prior, likelihood=inner.likelihood):
        return VAE(prior, likelihood, posterior)

    def standard(x):
        return dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1)

    with pytest.raises(ValueError, match=r"needs a posterior that is a module with a net.*got standard, which has"):
        inference_gaps(of(standard), x)
    with pytest.raises(ValueError, match="needs a posterior with a density; got Delta, a point"):
        inference_gaps(of(posteriors.Delta(nn.Sequential(nn.Flatten(), nn.Linear(6, 2)))), x)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    one_hot = of(posteriors.Categorical(net), priors.Categorical(3), likelihoods.Bernoulli(decoder(3)))
    with pytest.raises(ValueError, match=r"draws have a gradient; got Categorical.*enumeration gives log p\(x\)"):
        inference_gaps(one_hot, x)
    with pytest.raises(ValueError, match=r"calls its net once.*got \[\(7, 4\), \(7, 4\)\]"):
        inference_gaps(of(TwoNets(2)), x)
    with pytest.raises(ValueError, match=r"calls its net once.*got no call"):
        inference_gaps(of(TwoNets(0)), x)
    vae = make_vae()
    for pair in ((vae.model, make_vae().guide), (lambda x: vae.model(x), vae.guide)):
        with pytest.raises(ValueError, match=r"needs a pyro_vae.VAE.*got a tuple"):
            inference_gaps(pair, make_x())


def test_bound_methods_and_compiled_vaes_are_the_vae():
    vae, x = make_vae(), make_x()
    options = {"steps": 3, "importance_particles": 50}
    expected = inference_gaps(vae, x, **options)
    for same in ((vae.model, vae.guide), torch.compile(vae)):
        torch.testing.assert_close(fields(inference_gaps(same, x, **options)), fields(expected), rtol=0, atol=0)
    arrays = inference_gaps(vae, x.numpy(), **options)
    torch.testing.assert_close(fields(arrays), fields(expected), rtol=0, atol=0)


def decoder(inputs):
    return nn.Sequential(nn.Linear(inputs, 6), nn.Unflatten(-1, (2, 3)))
