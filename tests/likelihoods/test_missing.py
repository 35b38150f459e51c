"""Missing values: only observed elements count, in the density and in every gradient."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae import likelihoods, nets
from pyro_vae.data_checks import check_support
from pyro_vae.distributions.observed import fill_missing, observed
from tests.likelihoods.cases import CASES, CODES, ELEMENTWISE, X

PRODUCTS = [name for name in CASES if name != "multinomial"]
FUNCTIONS_OF_EACH = [*ELEMENTWISE, "mixed"]


def mask_of(case):
    mask = torch.rand(7, *case.shape, generator=torch.Generator().manual_seed(4)) > 0.4
    mask[0], mask[1] = True, False
    return mask


@pytest.mark.parametrize("name", FUNCTIONS_OF_EACH)
def test_masked_density_is_the_sum_over_observed_elements(name):
    case = CASES[name]
    p, x, mask = case.with_mlp(), case.x(), mask_of(case)
    d = p(CODES)
    if name == "mixed":
        each = torch.stack([c.log_prob(x[:, i : i + 1]) for i, c in enumerate(d.columns)], dim=-1)
    else:
        each = d.base_dist.log_prob(x)
    expected = torch.where(mask, each, 0).flatten(1).sum(1)
    holes = torch.where(mask, x, torch.nan)
    filled = fill_missing(d, holes, mask)
    assert torch.equal(filled[mask], x[mask])
    check_support(p, d, filled)
    torch.testing.assert_close(observed(p, d, mask).log_prob(filled), expected, rtol=1e-12, atol=1e-12)
    # With particles in front.
    both = observed(p, p(torch.stack([CODES, CODES])), mask).log_prob(filled)
    torch.testing.assert_close(both, torch.stack([expected, expected]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PRODUCTS)
def test_missing_elements_get_no_gradient(name):
    """Each output of the net belongs to one element: its gradient is exactly 0 where that element is missing."""
    case = CASES[name]
    raw = torch.randn(7, *case.net_shape(), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    p, mask = case.with_raw(raw), mask_of(case)
    x = torch.where(mask, case.x(), torch.nan)
    d = p(CODES)
    observed(p, d, mask).log_prob(fill_missing(d, x, mask)).sum().backward()
    assert all(torch.isfinite(q.grad).all() for q in p.parameters())
    grad = p.net.raw.grad
    if name == "mixed":
        sizes = torch.tensor(p.sizes)
        missing = (~mask).repeat_interleave(sizes, dim=1)
    else:
        missing = (~mask).unsqueeze(1).expand(7, grad[0].numel() // 6, *X).reshape(grad.shape)
    assert (grad[missing] == 0).all()
    assert (grad[~missing] != 0).float().mean() > 0.6


def test_the_optimal_scale_is_of_observed_elements_alone():
    p = CASES["normal_optimal"].with_raw(torch.zeros(7, *X, dtype=torch.float64))
    mask = mask_of(CASES["normal_optimal"])
    x = torch.where(mask, 2.0, 1e6).double()
    d = observed(p, p(CODES), mask)
    expected = dist.Normal(0.0, torch.tensor(4.0 + 1e-12).double().sqrt()).log_prob(torch.tensor(2.0).double())
    torch.testing.assert_close(d.log_prob(x), expected * mask.flatten(1).sum(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(p.running_variance, torch.tensor(0.9 * 0.25 + 0.1 * 4.0).double())
    nothing = observed(p, p(CODES), torch.zeros_like(mask)).log_prob(x)
    assert (nothing == 0).all()


def test_torch_distributions_can_be_masked_too():
    d = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3, 2), 1.0), 1)
    mask = torch.tensor([[True, False]]).expand(3, 2)
    from pyro_vae.distributions import as_pyro

    one = torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(0.5))
    for given in (d, as_pyro(d)):
        masked = observed("x", given, mask)
        assert masked.event_shape == (2,)
        torch.testing.assert_close(masked.log_prob(torch.full((3, 2), 0.5)), one.expand(3))


def test_a_distribution_for_all_examples_is_masked_for_each():
    d = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    masked = observed("x", d, mask)
    torch.testing.assert_close(
        masked.log_prob(torch.zeros(3, 2)) / dist.Normal(0.0, 1.0).log_prob(torch.zeros(())),
        torch.tensor([2.0, 1.0, 0.0]),
    )


@pytest.mark.parametrize(
    ("distribution", "name"),
    [
        (lambda: likelihoods.Multinomial(nets.MLP(2, (), 3))(torch.zeros(7, 2)), "Multinomial"),
        (lambda: dist.LowRankMultivariateNormal(torch.zeros(7, 3), torch.ones(7, 3, 1), torch.ones(7, 3)), "LowRank"),
        (lambda: dist.MultivariateNormal(torch.zeros(7, 3, 2), torch.eye(2)).to_event(1), "rows"),
    ],
)
def test_what_is_no_product_is_refused(distribution, name):
    d = distribution()
    part = type(name, (nn.Module,), {})()
    with pytest.raises(
        ValueError, match=f"likelihood {name} is not a product over the elements of x, so missing values"
    ):
        observed(part, d, torch.ones(7, *d.event_shape, dtype=torch.bool))


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (dist.Normal(torch.zeros(1), 1.0), 0.0),
        (dist.Poisson(torch.ones(1)), 0.0),
        (dist.Uniform(torch.tensor([2.0]), torch.tensor([4.0])), 3.0),
        (dist.Exponential(torch.ones(1)), 1.0),
        (dist.Beta(torch.ones(1), torch.ones(1)), 0.5),
        (dist.Bernoulli(logits=torch.zeros(1)), 0.0),
    ],
)
def test_what_is_put_in_place_of_missing_values_is_in_the_support(distribution, expected):
    filled = fill_missing(distribution.to_event(1), torch.tensor([[torch.nan], [1.0]]), torch.tensor([[False], [True]]))
    assert filled.flatten().tolist() == [expected, 1.0]
