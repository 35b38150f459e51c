"""Models of the mask: their logits by hand, and that units of x change nothing."""

from __future__ import annotations

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from scipy.special import expit

from pyro_vae import MaskLikelihood, build, nets
from pyro_vae.config import describe
from pyro_vae.mask_likelihoods import LinearMasking, NetMasking, SelfMasking

N, D = 40, 3


def table(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 20.0, 3000.0]) + 7
    observed = torch.rand(N, D, generator=generator) > 0.3
    return x, observed


def every(**options):
    torch.manual_seed(0)
    masking = [SelfMasking(D, tail) for tail in ("either", "upper", "lower")]
    masking += [LinearMasking(D), NetMasking(D, nets.MLP(D, (4,), D))]
    for part in masking:
        part.double()
        with torch.no_grad():
            for parameter in part.parameters():
                parameter.copy_(torch.randn_like(parameter))
    return masking


@pytest.mark.parametrize(("tail", "sign"), [("either", None), ("upper", 1), ("lower", -1)])
def test_self_masking_is_the_papers_logit(tail, sign):
    x, observed = table()
    masking = SelfMasking(D, tail).double()
    masking.start_at(x, observed)
    with torch.no_grad():
        masking.slope.copy_(torch.tensor([-1.0, 0.3, 2.0]))
        masking.intercept.copy_(torch.tensor([0.5, -1.0, 0.2]))
    steepness, threshold = masking.steepness.numpy(), masking.threshold.numpy()
    by_hand = stats.bernoulli.logpmf(observed.numpy(), expit(-steepness * (x.numpy() - threshold))).sum(1)
    np.testing.assert_allclose(masking(x).log_prob(observed.double()).detach(), by_hand, rtol=1e-10)
    if sign is not None:
        assert (np.sign(steepness) == sign).all()


def test_standardised_with_the_observed_values_and_started_at_their_share():
    x, observed = table()
    given = x.where(observed, torch.nan)
    masking = SelfMasking(D).double()
    masking.start_at(given, observed)
    mean, deviation = np.nanmean(given, 0), np.nanstd(given, 0)
    np.testing.assert_allclose(masking.standardize(x), (x.numpy() - mean) / deviation, rtol=1e-6)
    share = (observed.sum(0).numpy() + 1) / (N + 2)
    np.testing.assert_allclose(masking(x).base_dist.probs.detach(), np.broadcast_to(share, (N, D)), rtol=1e-6)
    before = masking.intercept.clone()
    masking.start_at(2 * x, observed)  # the start is the first one
    assert torch.equal(masking.intercept, before)


def test_constant_and_empty_elements_stay_finite():
    x, observed = table()
    x[:, 0], observed[:, 1] = 5.0, False
    masking = SelfMasking(D).double()
    masking.start_at(x.where(observed, torch.nan), observed)
    assert masking.standardize.spread[:2].tolist() == [1.0, 1.0]
    assert masking.standardize.center[:2].tolist() == [5.0, 0.0]
    assert torch.isfinite(masking(x).log_prob(observed.double())).all()


@pytest.mark.parametrize("i", range(5))
def test_units_change_nothing(i):
    x, observed = table()
    scale, shift = torch.tensor([1e3, 1e-2, 0.5]), torch.tensor([-4.0, 100.0, 0.0])
    found = []
    for values in (x, x * scale + shift):
        masking = every()[i]
        masking.start_at(values, observed)
        found.append(masking(values).log_prob(observed.double()))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("i", range(5))
def test_shapes_and_a_density_that_sums_to_one(i):
    masking = every()[i]
    x = torch.randn(2, 4, D, dtype=torch.float64)
    found = masking(x)
    assert found.batch_shape == (2, 4)
    assert found.event_shape == (D,)
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * D)
    total = masking(x[:, :, None]).log_prob(masks).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_linear_and_net_see_every_element_and_self_only_its_own():
    x = torch.randn(5, D, dtype=torch.float64)
    for masking, sees_others in zip(every(), (False, False, False, True, True), strict=True):
        at = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(masking(at).base_dist.logits[:, 0].sum(), at)
        assert (gradient[:, 1:] != 0).any() == sees_others
        assert (gradient[:, 0] != 0).all()


def test_images_keep_their_shape():
    for masking in (SelfMasking((1, 2, 3)), LinearMasking((1, 2, 3))):
        assert masking(torch.zeros(5, 1, 2, 3)).event_shape == (1, 2, 3)


def test_a_net_sees_the_context():
    vae = build(D, 2, hidden=(4,), likelihood="normal", missing=True, context_features=2, mask_likelihood="net")
    x, c = torch.randn(5, D), torch.eye(2)[[0, 1, 0, 1, 0]]
    assert not torch.equal(vae.mask_of(x, c).base_dist.logits, vae.mask_of(x, c.flip(1)).base_dist.logits)


@pytest.mark.parametrize(
    ("spec", "cls", "arguments"),
    [
        ("SelfMasking", SelfMasking, {"tail": "either"}),
        ({"class": "self", "tail": "upper"}, SelfMasking, {"tail": "upper"}),
        ("linear_masking", LinearMasking, {}),
        ("net", NetMasking, {}),
    ],
)
def test_built_by_name_and_described(spec, cls, arguments):
    vae = build(D, 2, hidden=(4,), likelihood="normal", missing=True, mask_likelihood=spec)
    assert type(vae.mask_likelihood) is cls
    assert all(getattr(vae.mask_likelihood, name) == value for name, value in arguments.items())
    again = build(D, 2, hidden=(4,), likelihood="normal", missing=True, mask_likelihood=describe(vae.mask_likelihood))
    assert str(again.mask_likelihood) == str(vae.mask_likelihood)


def test_bad_arguments():
    with pytest.raises(ValueError, match='tail must be "either", "upper" or "lower"; got .high.'):
        SelfMasking(D, tail="high")
    with pytest.raises(ValueError, match=r"SelfMasking was built for x of shape \(n, 3\) .*; got \(5, 4\)"):
        SelfMasking(D).start_at(torch.zeros(5, 4), torch.ones(5, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="unknown mask_likelihood 'selfie'; there are LinearMasking"):
        build(D, 2, missing=True, mask_likelihood="selfie")
    with pytest.raises(NotImplementedError, match=r"Mine has no forward. Define forward\(self, x, \*context\) in Mine"):
        type("Mine", (MaskLikelihood,), {})()(torch.zeros(1))


def test_a_function_is_a_model_too():
    vae = build(D, 2, hidden=(4,), likelihood="normal", missing=True)
    vae.mask_likelihood = lambda x: dist.Bernoulli(logits=-x).to_event(1)
    x = torch.randn(5, D)
    torch.testing.assert_close(vae.mask_of(x).log_prob(torch.ones(5, D)), torch.nn.functional.logsigmoid(-x).sum(1))
