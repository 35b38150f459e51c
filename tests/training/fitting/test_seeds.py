"""Seeds of fit(): the same bits again, and nothing shared between trainings."""

from __future__ import annotations

import copy

import pyro
import pytest
import torch

from pyro_vae import VAE, build, data, fit
from tests.conftest import make_vae, make_x
from tests.training.fitting.conftest import records, same, train, weights
from tests.vae.test_parameters import ScaledPrior


def test_the_same_seed_gives_the_same_bits():
    first, second, other = make_vae(), make_vae(), make_vae()
    digits = data.load("digits", binarize="dynamic").train[:100]
    vaes = [build(digits.pixels.shape[1:], latent_dim=2, hidden=(8,)) for _ in range(3)]
    for vae in vaes[1:]:
        vae.load_state_dict(vaes[0].state_dict())
    histories = [
        fit(v, digits, valid=digits, epochs=2, seed=s, progress=False) for v, s in zip(vaes, (1, 1, 2), strict=True)
    ]
    first, second, other = map(weights, vaes)
    assert same(first, second)
    assert records(histories[0]) == records(histories[1])
    assert not same(first, other)


def test_generators_and_the_store_are_left_as_they_were():
    pyro.param("mine", torch.ones(2))
    before = torch.get_rng_state()
    train(make_vae(), valid=make_x())
    assert torch.equal(before, torch.get_rng_state())
    assert list(pyro.get_param_store().keys()) == ["mine"]
    pyro.clear_param_store()


def test_trainings_in_turns_give_what_each_gives_alone():
    def options(vae):
        return {"valid": make_x(n=10), "epochs": 4, "seed": 3}

    alone = [make_vae(seed=s) for s in (1, 2)]
    for vae in alone:
        train(vae, **options(vae))
    a, b = (make_vae(seed=s) for s in (1, 2))
    # The whole training of b, and a draw from the generator, take place after the second epoch of a.
    train(a, **options(a), on_epoch=lambda r: (torch.rand(3), train(b, **options(b))) if r.epoch == 2 else None)
    assert same(weights(a), weights(alone[0]))
    assert same(weights(b), weights(alone[1]))


def test_pyro_modules_of_the_same_names_do_not_share():
    """The best weights of b are chosen by b's own prior, whatever was trained before."""

    def options(vae):
        return {"valid": make_x(n=20), "epochs": 3, "seed": 1}

    whole = make_vae()
    alone, a, b = (
        VAE(ScaledPrior(s), copy.deepcopy(whole.likelihood), copy.deepcopy(whole.posterior)) for s in (5.0, 1.0, 5.0)
    )
    expected = records(train(alone, **options(alone)))
    train(a, **options(a))
    assert records(train(b, **options(b))) == expected


def test_parameters_in_pyros_store_are_refused():
    def prior():
        return pyro.distributions.Normal(pyro.param("loc", torch.zeros(2).double()), 1.0).to_event(1)

    whole = make_vae()
    with pytest.raises(ValueError, match="prior prior keeps the parameter 'loc' in Pyro's parameter store"):
        train(VAE(prior, whole.likelihood, whole.posterior))


def test_the_mode_of_the_vae_stays():
    vae = make_vae().eval()
    train(vae)
    assert not vae.training
