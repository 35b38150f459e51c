"""Mixed precision: networks in bfloat16 while they train, and nothing else."""

from __future__ import annotations

import pytest
import torch

from pyro_vae import VAE, average_elbo, build, fit, likelihoods, posteriors, priors
from pyro_vae.seeds import derive
from pyro_vae.training.precision import in_mixed_precision
from pyro_vae.training.streams import VALID_NOISE

X = torch.bernoulli(torch.full((64, 1, 8, 8), 0.3), generator=torch.Generator().manual_seed(0))


def make_vae(nets="mlp", **options):
    torch.manual_seed(0)
    return build((1, 8, 8), 3, hidden=(32,), nets=nets, **options)


def train(vae, **options):
    return fit(vae, X, **{"epochs": 3, "batch_size": 16, "progress": False, "mixed_precision": True, **options})


@pytest.mark.parametrize("nets", ["mlp", "gated_mlp", "conv", "resnet"])
def test_a_network_gives_what_it_gives_under_autocast_in_float32(nets):
    vae = make_vae(nets)
    net = vae.posterior.net
    exact = net(X)
    with torch.autocast("cpu", torch.bfloat16):
        expected = net(X)
    assert expected.dtype is torch.bfloat16
    with in_mixed_precision(vae):
        out = net(X)
        assert out.dtype is torch.float32
        assert torch.equal(out, expected.float())
        assert not torch.equal(out, exact)
        torch.testing.assert_close(out, exact, rtol=0.05, atol=0.05)
        vae.eval()
        assert torch.equal(net(X), exact)
    assert torch.equal(net.train()(X), exact)


@pytest.mark.parametrize("prior", ["StandardNormal", {"class": "Flow", "flow": "MAF"}, "VampPrior"])
def test_densities_stay_in_float32(prior):
    """log p(x|z) and log p(z) of the same z and parameters are those of float32, to its last digits."""
    vae = make_vae(prior=prior)
    if prior == "VampPrior":
        vae.prior.start_from(X)
    z = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    with in_mixed_precision(vae), torch.no_grad():
        likelihood = vae.likelihood(z)
        ours = likelihood.log_prob(X[:16])
        logits = vae.likelihood.net(z)
        of_prior = vae.prior().log_prob(z)
    double = torch.distributions.Bernoulli(logits=logits.double()).log_prob(X[:16].double()).sum((1, 2, 3))
    torch.testing.assert_close(ours.double(), double, rtol=1e-6, atol=0)
    assert of_prior.dtype is torch.float32
    if prior != "VampPrior":  # which is made of the encoder's outputs
        with torch.no_grad():
            assert torch.equal(of_prior, vae.prior().log_prob(z))


@pytest.mark.parametrize("engine", ["pyro", "compiled"])
def test_a_training_is_that_of_float32_but_for_rounding(engine):
    mixed, exact = make_vae(), make_vae()
    history = train(mixed, engine=engine, valid=X, epochs=20)
    reference = train(exact, engine=engine, valid=X, epochs=20, mixed_precision=False)
    assert history[-1].loss != reference[-1].loss
    assert history[-1].loss == pytest.approx(reference[-1].loss, rel=0.01)
    assert history[-1].loss < history[0].loss - 3
    assert all(p.dtype is torch.float32 for p in mixed.parameters())


def test_validation_is_in_float32():
    vae = make_vae()
    history = train(vae, valid=X)
    assert history.best.valid_elbo == pytest.approx(average_elbo(vae, X, seed=derive(0, VALID_NOISE)).elbo, rel=1e-6)


def test_nothing_of_it_is_left_even_after_an_error():
    vae = make_vae()
    with in_mixed_precision(vae), pytest.raises(ValueError, match="MLP"):
        vae.posterior.net(torch.zeros(4, 5))
    assert not torch.is_autocast_enabled("cpu")
    net = vae.posterior.net
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
    assert torch.equal(net(X), make_vae().posterior.net(X))


def test_a_resumed_training_is_that_of_one_go(tmp_path):
    once, twice = make_vae(), make_vae()
    train(once, epochs=4, schedule="constant")
    train(twice, epochs=2, schedule="constant", out=tmp_path)
    train(twice, epochs=4, schedule="constant", out=tmp_path, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))


def test_a_training_may_end_in_float32(tmp_path):
    vae, x = make_vae(), X[:16]
    options = {"epochs": 2, "schedule": "constant", "lr": 1e-30, "out": tmp_path, "progress": False}  # nothing moves
    mixed = fit(vae, x, mixed_precision=True, **options)
    ended = fit(vae, x, **options | {"epochs": 4}, resume=True)
    exact = fit(make_vae(), x, **options | {"epochs": 4, "out": None})
    assert [e.loss for e in ended[2:]] == [e.loss for e in exact[2:]]
    assert [e.loss for e in ended[:2]] == [e.loss for e in mixed] != [e.loss for e in exact[:2]]


def test_weights_of_other_types_are_refused():
    with pytest.raises(ValueError, match=r"mixed_precision needs networks with weights of torch.float32; got torch.fl"):
        train(make_vae().double())


def test_a_vae_without_networks_is_refused():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

    class Posterior(Scaled):
        def forward(self, x):
            return posteriors.DiagonalNormal(lambda x: torch.cat([x.flatten(1)[:, :3] * self.weight] * 2, -1))(x)

    class Likelihood(Scaled):
        def forward(self, z):
            return likelihoods.Bernoulli(
                lambda z: (z * self.weight).sum(-1)[..., None, None, None].expand(-1, 1, 8, 8)
            )(z)

    vae = VAE(priors.StandardNormal(3), Likelihood(), Posterior())
    with pytest.raises(ValueError, match="this VAE has none. Leave mixed_precision out"):
        train(vae)
