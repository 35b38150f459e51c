"""torch's and Zuko's distributions under Pyro's interface."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
import zuko
from pyro.contrib.zuko import ZukoToPyro
from pyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, Independent, MixtureSameFamily, Normal, kl_divergence

from pyro_vae import VAE, elbo_terms
from pyro_vae.distributions import TorchToPyro, as_pyro, inverse_positive, positive
from tests.conftest import X, make_vae, make_x


def normal(loc, scale, batch=()):
    return Independent(Normal(torch.full((*batch, 2), loc).double(), torch.full((2,), scale).double()), 1)


def test_pyros_distributions_stay_as_they_are():
    d = dist.Normal(0.0, 1.0)
    assert as_pyro(d) is d


def test_an_adapter_passes_everything_on():
    base = normal(0.3, 0.7, (5,))
    d = as_pyro(base)
    assert isinstance(d, TorchToPyro)
    assert (d.batch_shape, d.event_shape, d.has_rsample) == (base.batch_shape, base.event_shape, True)
    z = base.sample((3,))
    assert torch.equal(d.log_prob(z), base.log_prob(z))
    assert torch.equal(d.mean, base.mean)
    assert torch.equal(d.variance, base.variance)
    assert torch.equal(d.entropy(), base.entropy())
    assert d.support is not None
    for draw in ("sample", "rsample"):
        torch.manual_seed(1)
        ours = getattr(d, draw)((3,))
        torch.manual_seed(1)
        assert torch.equal(ours, getattr(base, draw)(torch.Size((3,))))
    assert d.expand((4, 5)).batch_shape == (4, 5)


@pytest.mark.parametrize("wrapped", [(True, False), (False, True), (True, True)])
def test_closed_forms_reach_through_the_adapter(wrapped):
    pair: list[Distribution] = [normal(0.3, 0.7), normal(-0.2, 1.1)]
    adapted = [as_pyro(d) if wrap else d for d, wrap in zip(pair, wrapped, strict=True)]
    assert torch.equal(kl_divergence(*adapted), kl_divergence(*pair))


def test_a_vae_of_torch_distributions_equals_one_of_pyros():
    ours, x = make_vae("normal_fixed"), make_x("normal_fixed")

    def posterior(x):
        q = ours.posterior(x).base_dist
        return Independent(Normal(q.loc, q.scale), 1)

    torchs = VAE(lambda: normal(0.0, 1.0), ours.likelihood, posterior)
    for loss in (Trace_ELBO(), TraceMeanField_ELBO()):
        values = []
        for vae in (ours, torchs):
            pyro.set_rng_seed(5)
            values.append(loss.loss(vae.model, vae.guide, x))
        assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert elbo_terms(torchs, x, kl="analytic").kl.shape == (7,)


def test_a_mixture_of_torch_as_prior_in_predictive():
    def prior():
        parts = Independent(Normal(torch.tensor([[-9.0, 0.0], [9.0, 0.0]]).double(), 0.1), 1)
        return MixtureSameFamily(TorchCategorical(torch.ones(2).double()), parts)

    z = Predictive(VAE(prior, make_vae().likelihood, make_vae().posterior).model, num_samples=200, parallel=True)(None)[
        "z"
    ]
    assert z.shape == (200, 1, 2)
    assert bool((z[..., 0].abs() > 8).all())
    assert 50 < int((z[..., 0] > 0).sum()) < 150  # 7 standard deviations of a fair coin


def test_zuko_flows_fit_in_as_they_are():
    torch.manual_seed(0)
    whole = make_vae()
    flow = zuko.flows.MAF(2, transforms=1, hidden_features=(8,)).double()
    conditional = zuko.flows.NICE(2, context=6, transforms=2, hidden_features=(8,)).double()

    class Posterior(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.flow = conditional

        def forward(self, x):
            return self.flow(x.flatten(1))

    vae, x = VAE(flow, whole.likelihood, Posterior()), make_x()
    pyro.set_rng_seed(5)
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert -loss == pytest.approx(elbo_terms(vae, x, kl="sampled", seed=5).elbo.sum().item(), rel=1e-9)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=Trace_ELBO())
    before = [p.clone() for p in (*flow.parameters(), *conditional.parameters())]
    svi.step(x)
    after = [*flow.parameters(), *conditional.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True) if b.requires_grad and b.numel() > 8)
    assert Predictive(vae.model, num_samples=3, parallel=True)(None)["z"].shape == (3, 1, 2)
    with pytest.raises(ValueError, match="no closed form is known"):
        elbo_terms(vae, x, kl="analytic")


@pytest.mark.parametrize("bad", [torch.zeros(2), None, "normal"])
def test_what_is_no_distribution_is_refused(bad):
    with pytest.raises(TypeError, match=f"prior f must return a Pyro or torch distribution; got {type(bad).__name__}"):
        as_pyro(bad, "prior f")


def test_scales_are_softplus_and_invert():
    raw = torch.linspace(-8, 8, 33, dtype=torch.float64)
    torch.testing.assert_close(positive(raw), torch.log1p(torch.exp(raw)) + 1e-6)
    torch.testing.assert_close(inverse_positive(positive(raw)), raw)
    assert positive(torch.tensor(-1e4)).item() == pytest.approx(1e-6)


def test_pyros_own_adapter_of_zuko_flows_is_replaced():
    """With Pyro's adapter alone, Predictive and particles in a plate fail."""
    flow = zuko.flows.NSF(2, transforms=1).double()
    whole = make_vae()
    vae = VAE(lambda: ZukoToPyro(flow()), whole.likelihood, whole.posterior)
    assert Predictive(vae.model, num_samples=3)()["x"].shape == (3, 1, *X)
    loss = RenyiELBO(num_particles=3, vectorize_particles=True).loss(vae.model, vae.guide, make_x())
    assert math.isfinite(loss)
