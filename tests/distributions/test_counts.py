"""Counts: multinomials of any total, zero-inflated distributions that expand."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from pyro_vae.distributions.counts import Multinomial, ZeroInflatedNegativeBinomial


def test_any_total_has_the_probability_given_that_total():
    p = Multinomial(total_count=5, logits=torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64), validate_args=True)
    for counts in ([0, 0, 0], [1, 0, 0], [4, 3, 0], [100, 200, 50]):
        x = torch.tensor(counts, dtype=torch.float64)
        expected = stats.multinomial.logpmf(counts, sum(counts), p.probs.numpy())
        assert p.log_prob(x).item() == pytest.approx(expected, rel=1e-10, abs=1e-14)
    assert (p.sample((50,)).sum(-1) == 5).all()
    assert p.expand((2,)).sample().shape == (2, 3)
    assert p.expand((2,)).support.check(torch.ones(2, 3)).all()


@pytest.mark.parametrize("bad", [[0.5, 0.5, 0.0], [-1.0, 1.0, 1.0]])
def test_what_is_no_count_is_refused(bad):
    p = Multinomial(total_count=1, logits=torch.zeros(3), validate_args=True)
    with pytest.raises(ValueError, match="support"):
        p.log_prob(torch.tensor(bad))


def test_zero_inflated_distributions_expand_before_and_after_they_are_sampled():
    p = ZeroInflatedNegativeBinomial(torch.ones(3), logits=torch.zeros(3), gate_logits=torch.tensor([-1.0, 0.0, 1.0]))
    x = torch.tensor([0.0, 1.0, 2.0])
    before = p.expand((2, 3))
    p.sample()
    after = p.expand((2, 3))
    assert torch.equal(before.log_prob(x), after.log_prob(x))
    assert torch.equal(after.expand((4, 2, 3)).mean[3, 1], p.mean)
