"""Sums over the values of a discrete z, beside sums by hand."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.checks.enumeration import enumerated, enumerated_elbo
from pyro_vae.model_guide import ModelGuide

LOC = torch.tensor([0.0, 1.0, -2.0])


def pair(q_logits, p_probs=(0.5, 0.3, 0.2)):
    """A class as code, with a normal of its own location for each class."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(torch.tensor(p_probs).expand(len(x), 3)))
            pyro.sample("x", dist.Normal(LOC[z.long()], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(logits=q_logits.expand(len(x), 3)))

    return ModelGuide((model, guide), torch.tensor([0.3, -1.0]))


def test_terms_by_hand():
    q, p = torch.tensor([0.2, 0.7, 0.1]), torch.tensor([0.5, 0.3, 0.2])
    found = enumerated(pair(q.log()))
    x = torch.tensor([0.3, -1.0])
    log_x = -0.5 * (x[:, None] - LOC) ** 2 - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found.recon, log_x @ q)
    torch.testing.assert_close(found.kl, (q * (q / p).log()).sum().expand(2))
    torch.testing.assert_close(found.reverse_kl, (p * (p / q).log()).sum().expand(2))


def test_a_value_that_q_excludes_counts_nothing_and_has_no_gradient():
    logits = torch.tensor([0.4, -0.3, -math.inf], requires_grad=True)
    elbo = enumerated_elbo(pair(logits)).sum()
    q = torch.softmax(torch.tensor([0.4, -0.3]), 0)
    by_hand = (q * (torch.tensor([0.5, 0.3]) / q).log()).sum() * 2
    log_x = -0.5 * (torch.tensor([[0.3], [-1.0]]) - LOC[:2]) ** 2 - 0.5 * math.log(2 * math.pi)
    assert elbo.item() == pytest.approx((by_hand + (log_x @ q).sum()).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(elbo, logits)
    assert torch.isfinite(gradient).all()
    assert gradient[2] == 0
