"""Likelihoods of counts: documents, dispersion, errors."""

from __future__ import annotations

import itertools

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
