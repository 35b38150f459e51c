"""Likelihoods of counts: documents, dispersion, errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_vae import likelihoods, nets
from pyro_vae.data_checks import check_support
from tests.likelihoods.cases import CASES, CODES, Raw, softplus


def test_multinomial_equals_scipy_for_documents_of_any_length():
    case = CASES["multinomial"]
    p, x = case.with_mlp(), case.x()
    probabilities = torch.softmax(p.net(CODES), -1).detach().numpy()
    expected = stats.multinomial.logpmf(x.numpy(), x.sum(-1).numpy().astype(int), probabilities)
    assert len(x.sum(-1).unique()) > 3
    np.testing.assert_allclose(p(CODES).log_prob(x).detach(), expected, rtol=1e-10)
    check_support(p, p(CODES), x)
    torch.testing.assert_close(p(CODES).mean.detach(), torch.from_numpy(3 * probabilities))


@pytest.mark.parametrize("total", [0, 1, 4])
def test_multinomial_sums_to_one_over_documents_of_one_length(total):
    p = CASES["multinomial"].with_mlp()
    every = [c for c in itertools.product(range(total + 1), repeat=4) if sum(c) == total]
    x = torch.tensor(every, dtype=torch.float64)
    assert p(CODES[:1]).log_prob(x).exp().sum().item() == pytest.approx(1.0, rel=1e-12)


def test_sampled_documents_have_the_length_asked_for_and_the_words_probabilities():
    """Chi-square, level 1e-4 on a fixed seed."""
    p = likelihoods.Multinomial(Raw(torch.tensor([[0.0, 1.0, -1.0]])), total_count=40)
    x = p(torch.zeros(1, 2)).sample((500,))[:, 0]
    assert (x.sum(-1) == 40).all()
    wanted = torch.softmax(torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64), 0) * 20_000
    assert stats.chisquare(x.sum(0).numpy(), wanted.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("shape", [(2, 3), (1, 8, 8)])
def test_multinomial_is_over_one_dimension(shape):
    message = r"likelihood Multinomial is over x of shape \(batch, words\); got events of shape .* likelihoods.Poisson"
    with pytest.raises(ValueError, match=message):
        likelihoods.Multinomial.net_shape(shape)
    with pytest.raises(ValueError, match=message):
        likelihoods.Multinomial(nets.MLP(2, (), shape))(torch.zeros(1, 2))


@pytest.mark.parametrize("count", [0, 2.5, True])
def test_bad_total_counts_are_refused(count):
    with pytest.raises(ValueError, match=f"total_count must be an integer of at least 1; got {count}"):
        likelihoods.Multinomial(nets.MLP(2, (), 3), total_count=count)


@pytest.mark.parametrize("name", ["poisson", "nb_learned", "zinb_learned", "multinomial"])
@pytest.mark.parametrize(("value", "text"), [(0.5, r"\]"), (-1.0, r"\[-1")])
def test_what_is_no_count_is_refused(name, value, text):
    p, x = CASES[name].with_mlp(), CASES[name].x()
    x.flatten()[3] = value
    with pytest.raises(ValueError, match=rf"needs x in {{0, 1, 2, ...}}; got values in .*{text}.*Give the counts"):
        check_support(p, p(CODES), x)


@pytest.mark.parametrize("make", [likelihoods.NegativeBinomial, likelihoods.ZeroInflatedNegativeBinomial])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dispersion": 0.0}, "dispersion must be a finite number above 0; got 0.0"),
        ({"dispersion": "much"}, 'dispersion must be a number above 0, "learned" or "per_element"; got \'much\''),
        ({"initial_dispersion": 0}, "initial_dispersion must be a finite number above 1e-6; got 0"),
    ],
)
def test_bad_dispersions_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(nets.MLP(2, (), (2, 3)), **options)


def test_zero_inflation_needs_gates():
    p = likelihoods.ZeroInflatedNegativeBinomial(nets.MLP(2, (), 6))
    with pytest.raises(
        ValueError, match=r"\(batch, 2, \*shape of x\), raw means, then logits of the gate; got \(1, 6\)"
    ):
        p(torch.zeros(1, 2))
    p = likelihoods.NegativeBinomial(nets.MLP(2, (), 6), dispersion="per_element")
    with pytest.raises(ValueError, match=r"\(batch, 2, .*raw means, then raw inverse dispersions; got \(1, 6\)"):
        p(torch.zeros(1, 2))


@pytest.mark.parametrize(("dispersion", "alpha"), [(0.25, 0.25), ("learned", 0.4)])
def test_variance_is_mean_and_dispersion_times_its_square(dispersion, alpha):
    raw = torch.tensor([[-1.0, 0.5, 3.0]], dtype=torch.float64)
    d = likelihoods.NegativeBinomial(Raw(raw), dispersion, initial_dispersion=0.4).double()(torch.zeros(1, 2))
    mean = torch.from_numpy(softplus(raw.numpy()))
    torch.testing.assert_close(d.mean.detach(), mean)
    torch.testing.assert_close(d.variance.detach(), mean + alpha * mean**2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("make", [likelihoods.NegativeBinomial, likelihoods.ZeroInflatedNegativeBinomial])
@pytest.mark.parametrize("dispersion", [1e4, "per_element"])
def test_large_means_and_dispersions_train(make, dispersion):
    """At mean × dispersion of 1e11, the probability of a failure rounds to 0."""
    k = len(make.names) + (dispersion == "per_element")
    raw = torch.zeros(1, k, 2)
    raw[0, 0] = 1e7
    if dispersion == "per_element":
        raw[0, -1] = -9.2
    net = Raw(raw if k > 1 else raw[:, 0])
    p = make(net, dispersion)
    p(torch.zeros(1, 2)).log_prob(torch.tensor([[0.0, 1e7]])).sum().backward()
    assert net.raw.grad.isfinite().all()
    assert net.raw.grad[..., 0].abs().sum() > 0


COUNTS = [likelihoods.Poisson, likelihoods.NegativeBinomial, likelihoods.ZeroInflatedNegativeBinomial]


@pytest.mark.parametrize("make", COUNTS)
@pytest.mark.parametrize("scale", [0.01, 60.0, 5e6, [7.0, 2e3]])
def test_means_are_in_units_of_the_scale(make, scale):
    k = len(getattr(make, "names", "r"))
    net = Raw(torch.zeros(1, k, 2) if k > 1 else torch.zeros(1, 2))
    p = make(net, scale=scale)(torch.zeros(1, 2))
    mean = p.base_dist.base.mean if k > 1 else p.mean
    expected = torch.as_tensor(scale) * math.log(2) + 1e-6
    torch.testing.assert_close(mean[0], expected.expand(2))


@pytest.mark.parametrize("scale", [None, 0.3, 1.0, 60.0, 5e6, [7.0, 2e3]])
@pytest.mark.parametrize("dispersion", [1e-4, 0.4, 30.0])
def test_a_learned_dispersion_starts_where_it_is_told_at_any_scale(scale, dispersion):
    p = likelihoods.NegativeBinomial(Raw(torch.zeros(1, 2)), initial_dispersion=dispersion, scale=scale)
    d = p(torch.zeros(1, 2))
    torch.testing.assert_close(
        d.variance / d.mean**2 - 1 / d.mean, torch.full((1, 2), dispersion), rtol=2e-3, atol=1e-6
    )


@pytest.mark.parametrize("make", COUNTS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale must be a finite number above 0, or such numbers in the shape of x; got 0"),
        ({"scale": [1.0, -2.0]}, "scale must be a finite number above 0, .*; got -2"),
        ({"scale": math.inf}, "scale must be a finite number above 0, .*; got inf"),
        ({"scale": "mean"}, "scale must be a finite number above 0, .*; got 'mean'"),
        ({"scale": 3.0, "library": True}, "got library=True and a scale. Leave one of them out"),
    ],
)
def test_bad_scales_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(nets.MLP(2, (), (2, 3)), **options)


def test_a_scale_of_another_shape_is_refused():
    p = likelihoods.Poisson(nets.MLP(2, (), 3), scale=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"scale must be one number, or of the shape of x, \(3,\); got \(2,\)"):
        p(torch.zeros(1, 2))


@pytest.mark.parametrize("target", [60, 5000])
def test_a_scale_makes_large_means_quick_to_learn(target):
    """800 steps of 0.01 reach neither a mean of 5,000 from 1, nor the dispersion of a Poisson from 0.1."""
    x = torch.poisson(torch.full((512, 1), float(target)), generator=torch.Generator().manual_seed(0))
    p = likelihoods.NegativeBinomial(nets.MLP(2, (), 1), scale=float(x.mean()), initial_dispersion=0.1)
    optimizer = torch.optim.Adam(p.parameters(), 0.01)
    for _ in range(800):
        optimizer.zero_grad()
        (-p(torch.zeros(512, 2)).log_prob(x).mean()).backward()
        optimizer.step()
    found = p(torch.zeros(1, 2))
    best = stats.poisson.logpmf(x, target).mean()
    assert found.mean.item() == pytest.approx(target, rel=0.02)
    assert p(torch.zeros(512, 2)).log_prob(x).mean().item() > best - 0.5
