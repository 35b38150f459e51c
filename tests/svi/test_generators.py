"""Seeds that a run sets are seen by whatever name; drawing is none; and generators are compared and put back."""

from __future__ import annotations

import random
import random as chance
import sys
from pathlib import Path
from random import seed as sow

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.random import default_rng
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import manual_seed
from torch import manual_seed as set_it
from torch.random import fork_rng

from pyro_vae.svi import CompiledSVI
from pyro_vae.svi.generators import Generators, seeds_set

OWN, OWN_PYTHON = torch.Generator(), random.Random(0)
plant = torch.manual_seed
by_default = torch.default_generator.manual_seed


@pytest.fixture(autouse=True)
def _put_back():
    before = Generators()
    yield
    before.restore()
    pyro.clear_param_store()


def forked():
    with fork_rng():
        torch.rand(1)


def in_a_class():
    class Sower:
        def __init__(self):
            manual_seed(0)

    Sower()


SETS = {
    "torch.manual_seed": lambda: torch.manual_seed(0),
    "from torch import manual_seed": lambda: manual_seed(0),
    "manual_seed as set_it": lambda: set_it(0),
    "another name": lambda: plant(0),
    "torch.seed": torch.seed,
    "torch.random.manual_seed": lambda: torch.random.manual_seed(0),
    "default_generator.manual_seed": lambda: torch.default_generator.manual_seed(0),
    "a bound method": lambda: by_default(0),
    "by getattr": lambda: getattr(torch, "manual" + "_seed")(0),
    "by map": lambda: list(map(torch.manual_seed, [0])),
    "an unbound method": lambda: torch.Generator.manual_seed(OWN, 0),
    "an unbound method of Python's": lambda: random.Random.seed(OWN_PYTHON, 0),
    "torch.set_rng_state": lambda: torch.set_rng_state(torch.get_rng_state()),
    "Generator.manual_seed": lambda: OWN.manual_seed(0),
    "Generator.seed": OWN.seed,
    "Generator.set_state": lambda: OWN.set_state(OWN.get_state()),
    "pyro.set_rng_seed": lambda: pyro.set_rng_seed(0),
    "pyro.util.set_rng_state": lambda: pyro.util.set_rng_state(pyro.util.get_rng_state()),
    "poutine.seed": lambda: poutine.seed(lambda: None, rng_seed=0)(),
    "random.seed": lambda: random.seed(0),
    "from random import seed": lambda: sow(0),
    "import random as": lambda: chance.seed(0),
    "random.setstate": lambda: random.setstate(random.getstate()),
    "random.Random.seed": lambda: OWN_PYTHON.seed(0),
    "a new random.Random": lambda: random.Random(0),
    "fork_rng": forked,
    "deep inside": in_a_class,
}

DRAWS = {
    "torch.rand": lambda: torch.rand(3),
    "from a generator": lambda: torch.rand(3, generator=OWN),
    "in place": lambda: torch.empty(3).normal_(),
    "dropout": lambda: torch.nn.functional.dropout(torch.ones(3)),
    "a distribution": lambda: dist.Gamma(1.0, 1.0).sample(),
    "random.random": random.random,
    "random.shuffle": lambda: random.shuffle([1, 2, 3]),
    "random.choice": lambda: random.choice([1, 2]),
    "NumPy's": lambda: np.random.normal(),  # noqa: NPY002  as users have it
    "NumPy's new": lambda: default_rng(0).normal(),
    "reading a state": lambda: (torch.get_rng_state(), random.getstate(), torch.initial_seed()),
    "something else of that name": lambda: type("Farmer", (), {"seed": lambda self: None})().seed(),
    "nothing": lambda: None,
}


@pytest.mark.parametrize("call", SETS.values(), ids=SETS)
def test_a_seed_is_seen_by_any_name(call):
    with seeds_set() as seeds:
        assert seeds.line is None
        call()
    assert seeds.line is not None
    assert sys.getprofile() is None


@pytest.mark.parametrize("call", DRAWS.values(), ids=DRAWS)
def test_drawing_sets_no_seed(call):
    with seeds_set() as seeds:
        call()
    assert seeds.line is None


def test_the_first_that_sets_one_is_named():
    with seeds_set() as seeds:
        OWN.manual_seed(0)
        OWN_PYTHON.seed(0)
    assert "manual_seed" in seeds.line
    assert f"{Path(__file__).name}:" in seeds.line


def test_an_elbos_trial_run_does_not_count():
    """It forks the generators, once, to count the plates."""

    def model(x):
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0))

    elbo = Trace_ELBO(vectorize_particles=True, num_particles=2)
    svi = CompiledSVI(model, guide, pyro.optim.SGD({"lr": 0.01}), elbo, mode="exact", fallback="error")
    for _ in range(4):
        svi.step(torch.ones(3))
    assert svi.captures == 1


def test_a_seed_after_the_block_is_not_seen():
    with seeds_set() as seeds:
        pass
    torch.manual_seed(0)
    assert seeds.line is None


def test_a_profiler_that_is_there_stays():
    events = []

    def profile(frame, event, function):
        events.append(event)

    sys.setprofile(profile)
    try:
        with seeds_set() as seeds:
            torch.manual_seed(0)
            assert sys.getprofile() is profile
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert seeds.line is None
    assert "c_call" in events


def test_after_an_error_no_profiler_is_left():
    with pytest.raises(KeyError), seeds_set():
        raise KeyError
    assert sys.getprofile() is None


# Generators stay as they were.


DRAWN = {
    "torch": lambda: torch.rand(1).item(),
    "Python": random.random,
    "NumPy": lambda: np.random.random(),  # noqa: NPY002
    "NumPy's normal": lambda: np.random.standard_normal(),  # noqa: NPY002
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_was_drawn_is_seen_and_put_back(name):
    draw = DRAWN[name]
    generators = Generators()
    assert generators.same_torch()
    assert generators.same_python()
    first, second = draw(), draw()
    assert generators.same_torch() is (name != "torch")
    assert generators.same_python() is (name == "torch")
    generators.restore()
    assert generators.same_torch()
    assert generators.same_python()
    assert (draw(), draw()) == (first, second)


def test_a_normal_number_that_numpy_has_kept_is_seen():
    """It draws two and keeps one, of which the keys say nothing."""
    np.random.standard_normal()  # noqa: NPY002
    generators = Generators()
    kept = np.random.standard_normal()  # noqa: NPY002
    assert not generators.same_python()
    generators.restore()
    assert np.random.standard_normal() == kept  # noqa: NPY002


def test_states_are_kept_as_they_were():
    generators = Generators()
    (before,) = (state.clone() for state in generators.of_torch[:1])
    torch.rand(10)
    assert torch.equal(generators.of_torch[0], before)
    assert torch.equal(Generators().of_torch[0], before) is False
