"""What fit() of any model and guide keeps and refuses: Pyro's store, run folders, programs that do not fit."""

from __future__ import annotations

import copy
import re

import pyro
import pyro.distributions as dist
import pytest
import safetensors.torch
import torch
import yaml
from pyro.nn import PyroModule, PyroParam

from pyro_vae import VAE, average_elbo, fit, load
from tests.conftest import make_vae, make_x
from tests.test_targets import OTHERS, TARGETS, User, functions, make_user, methods, with_params
from tests.training.fitting.conftest import records, same
from tests.training.fitting.pairs import X, by_hand, train

# Pyro's parameter store.


@pytest.fixture(autouse=True)
def store():
    """Pyro's parameter store, which is cleared afterwards."""
    yield pyro.get_param_store()
    pyro.clear_param_store()


def test_parameters_of_the_store_are_trained_and_stay_there(store):
    """They start from what the store has, and nothing else in it changes."""
    pyro.param("mine", torch.ones(2))
    start = torch.full((3,), 7.0, dtype=torch.float64)
    pyro.param("decoder.bias", start.clone())
    bias = dict(store.named_parameters())["decoder.bias"]
    train(with_params(), lr=1e-4)
    assert sorted(store) == ["decoder.bias", "decoder.weight", "encoder.bias", "encoder.weight", "mine"]
    assert dict(store.named_parameters())["decoder.bias"] is bias
    assert 0 < (pyro.param("decoder.bias") - start).abs().max() < 0.1
    assert torch.equal(pyro.param("mine"), torch.ones(2))


def test_constraints_of_the_store_hold(store):
    model, _ = functions()

    def scaled(x):
        scale = pyro.param("scale", torch.tensor(0.3, dtype=torch.float64), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(2), scale).to_event(1))

    train((model, scaled), lr=0.5)
    assert pyro.param("scale") > 0
    assert pyro.param("scale") != 0.3
    fit((model, scaled), X, epochs=1, progress=False)  # goes on from there
    assert list(store) == ["scale"]


def test_modules_leave_nothing_in_the_store(store):
    pyro.param("mine", torch.ones(2))
    train((UserLike(), make_user().guide))
    assert list(store) == ["mine"]


class UserLike(PyroModule):
    """A PyroModule with a parameter that has a constraint."""

    def __init__(self):
        super().__init__()
        self.net = make_user().decoder
        self.scale = PyroParam(torch.tensor(0.5, dtype=torch.float64), dist.constraints.positive)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), self.scale).to_event(1), obs=x)


def test_trainings_in_turns_share_nothing():
    """PyroModules of the same names, the second trained in the middle of the first."""

    def pair(scale):
        model = UserLike()
        model.scale = torch.tensor(scale, dtype=torch.float64)
        return model, make_user().guide

    alone = [records(train(pair(scale))) for scale in (0.5, 2.0)]
    first, second = pair(0.5), pair(2.0)
    inner = []
    outer = train(first, on_epoch=lambda r: inner.append(train(second)) if r.epoch == 2 else None)
    assert [records(outer), records(inner[0])] == alone


def test_namesakes_in_the_store_are_refused(store):
    """SVI would train them in the place of the module's parameters."""
    pyro.param("decoder$$$weight", torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=re.escape("another tensor than the module's under the name 'decoder$$$wei")):
        train(functions())
    store.clear()
    pyro.module("decoder", (user := make_user()).decoder)  # the module's own
    train((user.model, user.guide))


# Run folders.


@pytest.mark.parametrize("name", ["object", "functions", "PyroModules", "functions with pyro.param"])
def test_a_resumed_training_gives_the_bits_of_an_unbroken_one(tmp_path, name):
    whole = train(TARGETS[name](), valid=X[:9], epochs=4)
    pyro.clear_param_store()

    class StopError(Exception):
        pass

    def stop(record):
        if record.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train(TARGETS[name](), valid=X[:9], epochs=4, out=tmp_path, on_epoch=stop)
    pyro.clear_param_store()
    fresh = TARGETS[name]()
    resumed = train(fresh, valid=X[:9], epochs=4, out=tmp_path, resume=True)
    assert records(resumed) == records(whole)


def test_a_run_folder_names_the_programs_and_load_says_what_to_do(tmp_path):
    user = make_user()
    train(user, out=tmp_path)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["model"], config["guide"], config["dtype"]) == ("User.model", "User.guide", "float64")
    with pytest.raises(ValueError, match="is of a model and guide of your own, not of a VAE. Read weights.safetensors"):
        load(tmp_path)
    other = User().double()
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    assert same(other.state_dict(), user.state_dict())
    with pytest.raises(ValueError, match="holds the training of another"):
        train((UserLike(), make_user().guide), out=tmp_path, epochs=5, resume=True)


def test_the_run_folder_of_a_compiled_vae_is_that_of_the_vae(tmp_path):
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=20)
    train(torch.compile(vae), x, out=tmp_path, device="cpu")
    assert same(load(tmp_path).state_dict(), vae.state_dict())


class Shifted(VAE):
    """A VAE with a model of its own: p(x | z) for x - 1."""

    def model(self, x, *context, mask=None):
        return super().model(x - 1, *context, mask=mask)


def test_a_vae_with_a_model_of_its_own_is_trained_by_that(tmp_path):
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=40)
    shifted = Shifted(vae.prior, vae.likelihood, vae.posterior)
    assert average_elbo(shifted, x).elbo == average_elbo((shifted.model, lambda x: shifted.guide(x)), x).elbo
    assert average_elbo(shifted, x).elbo != average_elbo(vae, x).elbo
    expected = by_hand(copy.deepcopy(shifted), x)
    history = train(shifted, x, valid=x[:9], optimizer=torch.optim.SGD, out=tmp_path)
    assert [record.loss for record in history] == expected
    with pytest.raises(ValueError, match="is of a model and guide of your own"):
        load(tmp_path)


# What is refused.


@pytest.mark.parametrize("other", OTHERS)
def test_what_has_no_model_and_guide_is_refused_by_name(other):
    target, words = OTHERS[other]
    with pytest.raises(TypeError, match=f"^vae must .*{re.escape(words)}"):
        fit(target, make_x(), progress=False)


def test_parameters_that_svi_does_not_train_are_refused():
    user = make_user()
    decoder = user.decoder

    def undeclared(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)

    with pytest.raises(
        ValueError, match=r"use the parameter decoder\.(weight|bias), .* SVI does not train it. Declare"
    ):
        train((undeclared, user.guide))
    decoder.requires_grad_(False)
    before = copy.deepcopy(decoder.state_dict())
    train((undeclared, user.guide))
    assert same(decoder.state_dict(), before)


def test_parameters_that_come_later_are_refused():
    model, guide = functions()
    runs = []

    def later(x):
        runs.append(len(x))
        if len(runs) > 8:
            pyro.param("late", torch.zeros(1, dtype=torch.float64))
        guide(x)

    with pytest.raises(ValueError, match="made the parameter 'late' after their first run, so it is not trained"):
        train((model, later))


def test_a_parameter_with_the_name_of_another_is_refused():
    user = make_user()
    decoder = user.decoder

    def model(x):
        pyro.module("any", decoder)
        bias = pyro.param("decoder.bias", torch.zeros(3, dtype=torch.float64))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z) + bias, 0.5).to_event(1), obs=x)

    with pytest.raises(ValueError, match="pyro.param has the name 'decoder.bias', which a tensor of a module has too"):
        train((model, user.guide))


def test_a_latent_site_that_the_guide_lacks_is_refused():
    user = make_user()
    with pytest.raises(ValueError, match="the guide must draw each latent site of the model; it lacks .?z"):
        train((user.model, lambda x: pyro.module("encoder", user.encoder) and None))


def test_programs_without_parameters_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    with pytest.raises(ValueError, match=r"the pair \(model, guide\) has no parameters to train. Declare them"):
        train((model, guide))


def test_options_that_need_a_vae():
    with pytest.raises(
        ValueError, match="mixed_precision runs networks in bfloat16, those called net in the posterior"
    ):
        train(methods(), mixed_precision=True)
    with pytest.raises(ValueError, match=r"device moves a VAE. Move the modules and tensors of the pair"):
        train(functions(), device="cpu")
    assert len(train(make_user(), device="cpu")) == 3


def test_a_vae_whose_guide_is_the_users_own():
    """Its parameters are found, and the numbers are those of the VAE with the same guide."""
    vae, twin = make_vae("normal_fixed"), make_vae("normal_fixed")
    x = make_x("normal_fixed", n=40)
    found = train((vae.model, lambda x: vae.guide(x)), x)
    assert records(found) == records(train(twin, x))
    assert same(vae.state_dict(), twin.state_dict())
