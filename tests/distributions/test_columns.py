"""Columns of different kinds as one event."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import biject_to

from pyro_vae.distributions.columns import Columns, mask_elements
from pyro_vae.distributions.one_column import OneColumn

X = torch.tensor([[0.5, 3.0, 1.0], [-1.0, 0.0, 0.0]])


def columns(batch=(2,)):
    shape = (*batch, 1)
    return [
        dist.Normal(torch.zeros(shape), 2.0).to_event(1),
        dist.Poisson(torch.full(shape, 1.5)).to_event(1),
        torch.distributions.Independent(torch.distributions.Bernoulli(logits=torch.ones(shape)), 1),
    ]


def by_hand(x):
    one = torch.distributions.Normal(0.0, 2.0).log_prob(x[..., 0])
    two = torch.distributions.Poisson(1.5).log_prob(x[..., 1])
    return one, two, torch.distributions.Bernoulli(logits=torch.tensor(1.0)).log_prob(x[..., 2])


def test_log_prob_is_the_sum_and_mean_and_variance_stand_side_by_side():
    p = Columns(columns(), ["a", "b", "c"])
    assert (p.batch_shape, p.event_shape, p.names) == ((2,), (3,), ["a", "b", "c"])
    torch.testing.assert_close(p.log_prob(X), sum(by_hand(X)))
    s = torch.sigmoid(torch.tensor(1.0))
    torch.testing.assert_close(p.mean[0], torch.stack([torch.tensor(0.0), torch.tensor(1.5), s]))
    torch.testing.assert_close(p.variance[0], torch.stack([torch.tensor(4.0), torch.tensor(1.5), s * (1 - s)]))
    assert p.log_prob(X.expand(4, 2, 3)).shape == (4, 2)


def test_support_is_that_of_each_column():
    p = Columns(columns())
    assert p.support.event_dim == 1
    assert p.support.check(X).tolist() == [True, True]
    bad = X.repeat(3, 1, 1)
    bad[0, 0, 1], bad[1, 1, 2], bad[2, 0, 0] = 0.5, 2.0, torch.nan
    assert p.support.check(bad).tolist() == [[False, True], [True, False], [False, True]]
    with pytest.raises(ValueError, match="support"):
        Columns(columns(), validate_args=True).log_prob(bad[0])
    only_real = Columns([dist.Normal(torch.zeros(1), 1.0).to_event(1), dist.Gamma(torch.ones(1), 1.0).to_event(1)])
    assert torch.equal(biject_to(only_real.support)(torch.zeros(2)), torch.tensor([0.0, 1.0]))


def test_samples_are_of_each_column_and_have_gradients_if_all_have():
    p = Columns(columns())
    assert not p.has_rsample
    assert p.sample((5,)).shape == (5, 2, 3)
    assert p.support.check(p.sample((50,))).all()
    with pytest.raises(NotImplementedError, match="rsample; use sample"):
        p.rsample()
    loc = torch.zeros(2, 1, requires_grad=True)
    q = Columns([dist.Normal(loc, 1.0).to_event(1), dist.Laplace(loc, 1.0).to_event(1)])
    assert q.has_rsample
    q.rsample((3,)).sum().backward()
    assert (loc.grad == 6).all()


def test_any_batch_shape_and_expand():
    for batch in ((), (2,), (5, 2), (4, 1, 2)):
        p = Columns(columns(batch))
        assert p.log_prob(X[0]).shape == batch
        wide = p.expand((3, *batch))
        assert wide.batch_shape == (3, *batch)
        assert wide.sample().shape == (3, *batch, 3)
        torch.testing.assert_close(wide.log_prob(X[0]), p.log_prob(X[0]).expand(3, *batch))


def test_columns_together_are_where_their_places_say():
    locs = torch.tensor([[0.0, 5.0, -5.0], [1.0, 6.0, -6.0]])
    reals, count = dist.Normal(locs.unsqueeze(-1), 2.0).to_event(1), columns()[1]
    p = Columns([reals, count], ["a", "b", "c", "d"], places=[(3, 0, 1), 2])
    assert (p.batch_shape, p.event_shape) == ((2,), (4,))
    assert torch.equal(p.mean, torch.tensor([[5.0, -5.0, 1.5, 0.0], [6.0, -6.0, 1.5, 1.0]]))
    assert torch.equal(p.variance, torch.tensor([[4.0, 4.0, 1.5, 4.0]] * 2))
    x = torch.tensor([[4.0, -4.0, 3.0, 0.5], [1.0, 2.0, 0.0, 3.0]])
    of_reals = torch.distributions.Normal(p.mean, 2.0).log_prob(x)
    of_count = torch.distributions.Poisson(1.5).log_prob(x[:, 2])
    each = dict(zip("abcd", [of_reals[:, 0], of_reals[:, 1], of_count, of_reals[:, 3]], strict=True))
    for name, log_prob in p.factor_log_probs(x).items():
        torch.testing.assert_close(log_prob, each[name])
    torch.testing.assert_close(p.log_prob(x), sum(each.values()))
    assert p.support.check(x).tolist() == [True, True]
    x[0, 2] = 0.5
    assert p.support.check(x).tolist() == [False, True]
    torch.testing.assert_close(p.columns[1].log_prob(x[:, 1:2]), each["b"])
    assert torch.equal(p.columns[1].sample((9,)).mean((0, 2)).sign(), torch.tensor([-1.0, -1.0]))


def test_values_of_one_of_several_columns_are_listed():
    codes = dist.Bernoulli(logits=torch.randn(2, 3, 1))
    p = OneColumn(codes, 1, -2)
    assert (p.batch_shape, p.has_enumerate_support, p.has_rsample) == ((2, 1), True, False)
    assert p.enumerate_support().shape == (2, 2, 1)
    assert p.enumerate_support(expand=False).shape == (2, 1, 1)
    torch.testing.assert_close(p.log_prob(p.enumerate_support()).logsumexp(0), torch.zeros(2, 1))
    torch.testing.assert_close(p.entropy(), codes.entropy()[:, 1])
    assert torch.equal(p.mode, codes.mode[:, 1])
    assert p.expand((4, 2, 1)).log_prob(torch.ones(1)).shape == (4, 2, 1)


def test_observed_counts_only_what_was_observed():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    one, _, three = by_hand(X)
    for p in (Columns(columns()), Columns(columns((5, 2)))):
        masked = p.observed(mask)
        assert masked.event_shape == (3,)
        expected = torch.stack([one[0] + three[0], torch.tensor(0.0)]).expand(p.batch_shape)
        torch.testing.assert_close(masked.log_prob(X), expected)
        torch.testing.assert_close(mask_elements(p, mask).log_prob(X), expected)


def test_a_column_that_is_no_product_is_one_element_all_the_same():
    p = Columns([dist.MultivariateNormal(torch.zeros(2, 1), torch.eye(1)), columns()[1]])
    x = X[:, :2]
    mask = torch.tensor([[True, False], [False, True]])
    one = torch.distributions.Normal(0.0, 1.0).log_prob(x[0, 0])
    two = torch.distributions.Poisson(1.5).log_prob(x[1, 1])
    torch.testing.assert_close(p.observed(mask).log_prob(x), torch.stack([one, two]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Columns([]), "columns must be at least one, each with a name; got 0"),
        (lambda: Columns(columns(), ["a"]), r"each with a name; got 3 and \['a'\]"),
        (lambda: Columns([dist.Normal(torch.zeros(2), 1.0)], ["a"]), r"column 'a' must have event shape \(1,\)"),
        (
            lambda: Columns([*columns(), *columns((3,))]),
            r"column '3' must have .* batch shape \(2,\); got \(1,\) and \(3,\)",
        ),
        (lambda: Columns(columns(), places=[0, 1]), "places must be one per distribution; got 2 for 3"),
        (lambda: Columns(columns(), places=[0, 1, 1]), r"places must be the numbers from 0 to 2, each once; got"),
        (lambda: Columns(columns(), places=[0, 1, 3]), r"places must be the numbers from 0 to 2, each once; got"),
        (
            lambda: Columns(columns(), list("abcd"), places=[0, (1, 3), 2]),
            r"columns 'b', 'd' must have event shape \(1,\) and batch shape \(2, 2\); got \(1,\) and \(2,\)",
        ),
    ],
)
def test_what_is_no_column_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_column_must_be_a_distribution():
    with pytest.raises(TypeError, match="column 'a' must return a Pyro or torch distribution; got int"):
        Columns([3], ["a"])
