"""Each function takes the same targets: a VAE, a pair of functions, methods or PyroModules, and a VAE compiled."""

from __future__ import annotations

import functools
import re
from dataclasses import astuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule
from torch import nn

from pyro_vae import VAE, CompiledSVI, average_elbo, check, evaluation
from tests.conftest import make_vae, make_x


@pytest.fixture(autouse=True)
def _clear_store():
    yield
    pyro.clear_param_store()


class User(nn.Module):
    """A class of a user's, as in Pyro's tutorial: it declares its networks itself."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 3).double()
        self.encoder = nn.Linear(3, 4).double()

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        loc, raw = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, nn.functional.softplus(raw) + 1e-3).to_event(1))


def make_user():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return User()


class UserModel(PyroModule):
    def __init__(self):
        super().__init__()
        self.user = make_user()

    def forward(self, x):
        return self.user.model(x)


class UserGuide(UserModel):
    def forward(self, x):
        return self.user.guide(x)


def functions():
    user = make_user()
    return (lambda x: user.model(x)), (lambda x: user.guide(x))


def methods():
    user = make_user()
    return user.model, user.guide


def with_params():
    """Functions whose parameters are in Pyro's store alone."""
    start = make_user().state_dict()

    def param(name):
        return pyro.param(name, lambda: start[name].clone())

    def model(x):
        weight, bias = param("decoder.weight"), param("decoder.bias")
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weight.T + bias, 0.5).to_event(1), obs=x)

    def guide(x):
        loc, raw = (x @ param("encoder.weight").T + param("encoder.bias")).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, nn.functional.softplus(raw) + 1e-3).to_event(1))

    return model, guide


TARGETS = {
    "vae": lambda: make_vae("normal_fixed"),
    "compiled vae": lambda: torch.compile(make_vae("normal_fixed")),
    "methods of a vae": lambda: (lambda vae: (vae.model, vae.guide))(make_vae("normal_fixed")),
    "object": make_user,
    "compiled object": lambda: torch.compile(make_user()),
    "functions": functions,
    "methods": methods,
    "PyroModules": lambda: (UserModel(), UserGuide()),
    "functions with pyro.param": with_params,
    "within handlers": lambda: tuple(poutine.mask(program, mask=True) for program in functions()),
}


def data_for(name, n=20):
    if "vae" in name:
        return make_x("normal_fixed", n=n)
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=TARGETS)
def case(request):
    """A target, its data, and the object that it is another form of."""
    first = make_vae("normal_fixed") if "vae" in request.param else make_user()
    return TARGETS[request.param](), data_for(request.param), first


@pytest.fixture
def target(case):
    return case[:2]


kls = pytest.mark.parametrize("kl", ["sampled", "analytic"])


@kls
def test_average_elbo(case, kl):
    """The same as of the object, draw for draw."""
    target, x, first = case
    found, expected = (average_elbo(t, x, num_particles=20, kl=kl) for t in (target, first))
    assert astuple(found) == pytest.approx(astuple(expected), rel=1e-12)


@kls
@pytest.mark.parametrize("name", ["vae", "object"])
def test_average_elbo_of_the_object_is_near_pyros_own_loss(name, kl):
    first, x = TARGETS[name](), data_for(name)
    found = average_elbo(first, x, num_particles=500, kl=kl)
    loss = Trace_ELBO(num_particles=100).loss(first.model, first.guide, x)
    assert found.elbo == pytest.approx(-loss / len(x), rel=0.1)


def test_importance_sampling(case):
    target, x, first = case
    found, expected = (evaluation.importance_sampling(t, x, num_particles=10).log_prob for t in (target, first))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_latent_use(case):
    target, x, first = case
    assert evaluation.latent_use(target, x).kl == pytest.approx(evaluation.latent_use(first, x).kl, rel=1e-12)


def test_check(target):
    target, x = target
    report = check(target, x, only=["shapes", "trace-elbo"], progress=False)
    assert report.passed, str(report)


@pytest.mark.usefixtures("uncompiled")
def test_compiled_svi(target):
    """A step of CompiledSVI is that of SVI."""
    target, x = target
    model, guide = target if isinstance(target, tuple) else (target.model, target.guide)

    def losses(cls):
        pyro.set_rng_seed(0)
        svi = cls(model, guide, pyro.optim.SGD({"lr": 0.0}), Trace_ELBO())
        return [svi.step(x) for _ in range(3)]

    assert losses(CompiledSVI) == pytest.approx(losses(SVI), rel=1e-12)


OTHERS = {
    "a class": (VAE, "the class VAE itself"),
    "a module": (nn.Linear(2, 2), "a Linear, a module without them"),
    "one function": (make_x, "one function alone, make_x"),
    "three": ((make_x, make_x, make_x), "a tuple"),
    "a class in a pair": ((User, make_x), "the class User in it"),
    "text": ("runs/mnist-1", "the text 'runs/mnist-1'. Open a run folder with pyro_vae.load"),
    "nothing": (None, "a NoneType"),
}
FUNCTIONS = {
    "average_elbo": average_elbo,
    "importance_sampling": evaluation.importance_sampling,
    "latent_use": evaluation.latent_use,
    "check": functools.partial(check, progress=False),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("other", OTHERS)
def test_what_has_no_model_and_guide_is_refused_by_name(function, other):
    target, words = OTHERS[other]
    with pytest.raises(TypeError, match=f"^vae must .*{re.escape(words)}"):
        FUNCTIONS[function](target, make_x())
