"""Outlier scores in closed form, and areas under ROC curves by hand."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pyro_vae import build
from pyro_vae.evaluation import importance_sampling
from pyro_vae.evaluation.gaps import inference_gaps
from pyro_vae.evaluation.outliers import outlier_scores, separation
from pyro_vae.model_guide import ModelGuide
from tests.conftest import make_context, make_vae, make_x


def test_scores_in_closed_form(linear):
    """At the true posterior log p(x) is exact; the other two scores are within 5 standard errors of 4,000 draws."""
    x, vae = linear.marginal().sample((70,)), linear.vae()  # more than one block
    found = outlier_scores(vae, x, num_particles=4000)
    truth, q = linear.marginal().log_prob(x), vae.encode(x)
    torch.testing.assert_close(found["log_prob"], -truth, rtol=1e-10, atol=1e-10)
    kl = kl_divergence(q, vae.prior_of()).detach()
    # The variance of log q − log p in each dimension of a normal comes from half its curvature and from its slope.
    curvature, slope = q.variance - 1, q.mean * q.stddev
    spread = (curvature.square() / 2 + slope.square()).sum(-1).sqrt().detach()
    assert ((found["kl"] - kl).abs() < 5 * spread / 4000**0.5).all()
    # The weight is p(x) at every draw, so both scores have the same error.
    torch.testing.assert_close(found["recon"] + found["kl"], -truth, rtol=1e-10, atol=1e-10)


def test_log_prob_is_that_of_importance_sampling():
    """Two independent estimates, within 5 standard errors of their difference: 6e-7 each, on a fixed seed."""
    vae, x, c = make_vae(context=4), make_x(), make_context(4)
    found = outlier_scores(vae, x, *c, num_particles=2000)
    other = importance_sampling(vae, x, *c, num_particles=20_000, seed=5)
    assert ((found["log_prob"] + other.log_prob).abs() < 5 * 3.5 * other.standard_error).all()
    assert (found["log_prob"] <= found["kl"] + found["recon"]).all()  # −ELBO
    again = outlier_scores(ModelGuide(vae, x, *c), num_particles=2000)
    torch.testing.assert_close(found, again, rtol=0, atol=0)


def test_typicality(linear):
    """An example that is too likely scores as high as one that is too unlikely."""
    x, vae = linear.marginal().sample((500,)), linear.vae()
    reference = linear.marginal().log_prob(x).detach()
    middle = linear.bias.unsqueeze(0)  # the most likely x
    far = linear.bias + 10 * torch.ones(1, 4, dtype=torch.float64)
    ordinary = outlier_scores(vae, x, reference=reference, num_particles=10)
    strange = outlier_scores(vae, torch.cat([middle, far]), reference=reference, num_particles=10)
    expected = (linear.marginal().log_prob(torch.cat([middle, far])) - reference.mean()).abs()
    torch.testing.assert_close(strange["typicality"], expected)
    assert strange["log_prob"][0] < ordinary["log_prob"].min()
    assert separation(ordinary, {name: s[:1] for name, s in strange.items()})["typicality"] > 0.75
    assert separation(ordinary, {name: s[1:] for name, s in strange.items()})["typicality"] == 1.0


def test_regret_is_what_the_search_finds():
    vae, x = make_vae(), make_x()
    found = outlier_scores(vae, x, num_particles=100, regret=True, steps=20, seed=3)
    gaps = inference_gaps(vae, x, importance_particles=100, steps=20, seed=3)
    torch.testing.assert_close(found["regret"], gaps.amortisation, rtol=0, atol=0)
    assert (found["regret"] > 0).any()
    assert "regret" not in outlier_scores(vae, x, num_particles=2)


def test_all_is_left_as_it_was():
    vae, state = make_vae(), torch.get_rng_state()
    found = outlier_scores(vae, make_x(), num_particles=3, regret=True, steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(score.requires_grad for score in found.values())
    assert all(p.grad is None and p.requires_grad for p in vae.parameters())
    assert vae.training


@pytest.mark.parametrize("posterior", ["iaf", "full", "categorical"])
def test_other_posteriors(posterior):
    options = {"prior": "categorical"} if posterior == "categorical" else {}
    vae = build((1, 8, 8), 4, hidden=(8,), posterior=posterior, **options)
    found = outlier_scores(vae, torch.rand(5, 1, 8, 8).round(), num_particles=20)
    assert all(score.shape == (5,) and torch.isfinite(score).all() for score in found.values())


def test_bad_arguments():
    vae, x = make_vae(), make_x()
    for name in ("num_particles", "steps"):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got 0"):
            outlier_scores(vae, x, **{name: 0})
    with pytest.raises(ValueError, match=r"reference must be \(n,\), one number per example; got shape \(0,\)"):
        outlier_scores(vae, x, reference=torch.zeros(0))
    with pytest.raises(ValueError, match=r"reference must be \(n,\), one number per example; got shape \(3, 1\)"):
        outlier_scores(vae, x, reference=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="reference must be finite; got 1 values that are not"):
        outlier_scores(vae, x, reference=torch.tensor([0.0, -torch.inf]))
    point = build((2, 3), 2, hidden=(), posterior="delta")
    with pytest.raises(ValueError, match="outlier_scores needs a guide with a density"):
        outlier_scores(point, x.float())


# Areas.


def by_hand(inside, outside):
    """Return the share of pairs in which the outlier is higher; ties count half."""
    difference = outside.unsqueeze(0) - inside.unsqueeze(1)
    return ((difference > 0).double() + (difference == 0).double() / 2).mean().item()


def test_areas_by_hand():
    generator = torch.Generator().manual_seed(0)
    inside = {"a": torch.randn(40, generator=generator), "b": torch.randint(4, (40,), generator=generator).float()}
    outside = {"b": torch.randint(5, (30,), generator=generator).float(), "a": torch.randn(30, generator=generator) + 1}
    found = separation(inside, outside)
    assert list(found) == ["a", "b"]
    for name, area in found.items():
        assert area == pytest.approx(by_hand(inside[name], outside[name]), rel=1e-12)
        assert 0.5 < area < 0.95
    swapped = separation(outside, inside)
    assert swapped["a"] == pytest.approx(1 - found["a"], rel=1e-12)


def test_area_of_normals():
    """The probability that N(1, 1) is above N(0, 1) is Φ(1/√2); 20,000 each, within 5 standard errors of at most 0.003."""
    generator = torch.Generator().manual_seed(0)
    inside, outside = torch.randn(2, 20_000, generator=generator)
    truth = Normal(0.0, 1.0).cdf(torch.tensor(0.5**0.5)).item()
    assert separation({"s": inside}, {"s": outside + 1})["s"] == pytest.approx(truth, abs=0.015)


def test_infinite_scores_are_the_strangest():
    inside, outside = torch.tensor([0.0, 1.0, torch.inf]), torch.tensor([torch.inf, 0.5])
    assert separation({"s": inside}, {"s": outside})["s"] == pytest.approx((2.5 + 1) / 6)


def test_bad_scores():
    with pytest.raises(ValueError, match=r"same names; got \['a'\] and \['b'\]"):
        separation({"a": torch.zeros(1)}, {"b": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"outside\['a'\] must be \(n,\), one number per example; got shape \(0,\)"):
        separation({"a": torch.zeros(1)}, {"a": torch.zeros(0)})
    with pytest.raises(ValueError, match=r"inside\['a'\] must be numbers; got 1 NaN"):
        separation({"a": torch.tensor([0.0, torch.nan])}, {"a": torch.zeros(1)})


def test_separation_of_other_things_than_scores():
    scores = {"kl": torch.ones(2)}
    with pytest.raises(TypeError, match="^outside must be tensors .* by name, as outlier_scores returns; got Tensor"):
        separation(scores, torch.ones(2))
    with pytest.raises(TypeError, match=r"^inside\['kl'\] must be a tensor \(n,\); got list"):
        separation({"kl": [1.0]}, scores)
