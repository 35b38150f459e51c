"""What a VAE shows of itself in a notebook."""

from __future__ import annotations

import torch
from torch import nn

from pyro_vae import VAE, build, likelihoods, nets, posteriors, priors
from pyro_vae.vae.calls import summary


def test_a_vae_shows_its_parts_and_its_size():
    vae = build((1, 4, 4), 2, hidden=(3,), likelihood={"class": "normal", "scale": 0.1})
    size = (16 * 3 + 3) + (3 * 4 + 4) + (2 * 3 + 3) + (3 * 16 + 16)
    assert repr(vae) == (
        "VAE(\n"
        "  prior=StandardNormal(latent_dim=2),\n"
        "  likelihood=Normal(net=MLP, scale=0.1),\n"
        "  posterior=DiagonalNormal(net=MLP),\n"
        f"  {size} parameters\n"
        ")"
    )


def test_it_shows_the_shape_of_x_once_data_were_seen():
    vae = build((1, 4, 4), 2, hidden=(3,), missing=True, fill=0.5)
    vae.encode(torch.zeros(7, 1, 4, 4))
    lines = repr(vae).splitlines()
    assert lines[-3] == "  missing=True, fill=0.5,"
    assert lines[-2].startswith("  x of shape (1, 4, 4); ")


def test_functions_and_modules_of_the_users_show_by_name():
    def my_posterior(x):
        return torch.distributions.Independent(torch.distributions.Normal(x, 1.0), 1)

    vae = VAE(priors.StandardNormal(2), nn.Sequential(nn.LazyLinear(2)), my_posterior)
    assert "likelihood=Sequential(),\n  posterior=my_posterior,\n  0 parameters" in repr(vae)


def test_what_is_compiled_or_a_method_shows_the_name_inside():
    vae = build((4,), 2, hidden=(3,))
    shown = VAE(torch.compile(vae.prior), vae.likelihood.forward, vae.posterior)
    assert "prior=StandardNormal(latent_dim=2),\n  likelihood=Bernoulli.forward," in repr(shown)


def test_parts_show_the_arguments_that_are_not_modules():
    assert repr(priors.MixtureOfNormals(3, components=4)) == "MixtureOfNormals(latent_dim=3, components=4)"
    assert repr(likelihoods.Normal(nn.Identity(), scale=0.1)) == "Normal(\n  scale=0.1\n  (net): Identity()\n)"


def test_arguments_at_their_defaults_are_left_out():
    net = nets.MLP(2, (), 3)
    assert summary(likelihoods.Bernoulli(net)) == "Bernoulli(net=MLP)"
    assert summary(posteriors.LowRankNormal(net, rank=1)) == "LowRankNormal(net=MLP, rank=1)"
