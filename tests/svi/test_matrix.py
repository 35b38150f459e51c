"""Every prior with every posterior, every likelihood, contexts and missing values: losses and gradients to the bit."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_vae import build
from pyro_vae.config import make_objective
from pyro_vae.svi import CompiledSVI
from pyro_vae.svi.optimizer import SharedOptim
from tests.combinations.parts import (
    COMBINATIONS,
    LIKELIHOODS,
    ONE_HOT,
    POSTERIORS,
    PRIORS,
    make_context,
    make_likelihood_vae,
    make_vae,
    make_x,
    name_of,
    partner,
)
from tests.conftest import make_context as contexts
from tests.conftest import make_vae as small_vae
from tests.conftest import make_x as small_x
from tests.likelihoods.cases import ELEMENTWISE

SIZES = (4, 4, 7, 4)
CASES = [*COMBINATIONS, *LIKELIHOODS]
# Programs with different parts of graphs; all others are slow.
FAST = {
    ("StandardNormal", "DiagonalNormal"),
    ("MixtureOfNormals", "FullNormal"),
    ("Flow-MAF", "Laplace"),
    ("StandardNormal", "Flow-NICE"),
    ("VampPrior", "LogisticNormal"),
    ("Categorical-groups", "Categorical-groups"),
    ("UniformOnSphere", "PowerSpherical"),
    "normal_optimal",
    "student_learned",
}


def params(cases, fast=FAST):
    return [pytest.param(c, id=name_of(c), marks=[] if c in fast else [pytest.mark.slow]) for c in cases]


class Notes(torch.optim.SGD):
    """Gradient descent that keeps a copy of each gradient."""

    def __init__(self, parameters, lr=1e-3):
        super().__init__(parameters, lr=lr)
        self.noted = []

    def step(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        # A parameter without a gradient does not move, like one with a gradient of zero.
        self.noted.append([None if g is None or not g.any() else g.clone() for g in grads])
        return super().step(closure)


def run(svi_of, vae, objective, calls):
    """Losses, gradients, parameters and buffers of the steps, and the SVI."""
    optimizer = Notes(vae.parameters())
    svi = svi_of(vae.model, vae.guide, SharedOptim(optimizer), objective)
    pyro.set_rng_seed(3)
    losses = [float(svi.step(*args, **kwargs)) for args, kwargs in calls]
    generator = torch.get_rng_state()
    return losses, optimizer.noted, {**vae.state_dict(), "generator": generator}, svi


def exact(*args):
    return CompiledSVI(*args, mode="exact", fallback="error")


def assert_the_same(make, objective, calls, captures=1):
    """``make`` gives the same VAE each time; the graph's numbers equal eager ones bit for bit."""
    losses, grads, state, _ = run(SVI, make(), objective(), calls)
    ours, found, our_state, svi = run(exact, make(), objective(), calls)
    assert all(map(math.isfinite, losses))
    assert ours == losses
    for step, (expected, got) in enumerate(zip(grads, found, strict=True)):
        assert any(g is not None for g in expected)
        for i, (g, h) in enumerate(zip(expected, got, strict=True)):
            same = h is None if g is None else h is not None and torch.equal(g, h)
            assert same, f"gradient {i} of step {step}: {h}, not {g}"
    assert all(torch.equal(our_state[name], value) for name, value in state.items())
    assert svi.refused is None
    assert svi.captures == captures or captures is None


def calls_of(case, sizes=SIZES):
    if isinstance(case, str):
        likelihood = LIKELIHOODS[case]
        return [((likelihood.x(n),), {}) for n in sizes]
    return [((make_x(n, seed=i), *make_context(case[0], n, seed=i)), {}) for i, n in enumerate(sizes)]


def vae_of(case):
    return make_likelihood_vae(case)[0] if isinstance(case, str) else make_vae(*case)


def is_discrete(case):
    return not isinstance(case, str) and POSTERIORS[case[1]].space == ONE_HOT


@pytest.mark.parametrize("case", params(CASES))
def test_the_usual_objective(case):
    """Trace_ELBO, or TraceEnum_ELBO for discrete codes, which has a graph for each batch size."""
    captures = 2 if is_discrete(case) else 1
    assert_the_same(lambda: vae_of(case), lambda: make_objective("auto", vae_of(case)), calls_of(case), captures)


@pytest.mark.parametrize(
    "case",
    params(
        [c for c in CASES if not is_discrete(c)],
        {("Laplace", "Laplace")},
    ),
)
def test_the_divergence_in_closed_form(case):
    """TraceMeanField_ELBO, which samples the divergence where no closed form is known."""
    assert_the_same(lambda: vae_of(case), TraceMeanField_ELBO, calls_of(case))


DISCRETE = [case for case in COMBINATIONS if is_discrete(case)]


@pytest.mark.parametrize("case", params(DISCRETE, {("Categorical", "Categorical")}))
@pytest.mark.parametrize("objective", [Trace_ELBO, pytest.param(TraceGraph_ELBO, marks=pytest.mark.slow)])
def test_the_score_function_of_discrete_codes(case, objective):
    assert_the_same(lambda: vae_of(case), objective, calls_of(case), captures=None)


@pytest.mark.slow
@pytest.mark.parametrize("case", DISCRETE, ids=name_of)
def test_several_particles_of_enumerated_codes(case):
    def objective():
        return TraceEnum_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)

    assert_the_same(lambda: vae_of(case), objective, calls_of(case), captures=2)


EACH_ONCE = dict.fromkeys([*(partner(prior=p) for p in PRIORS), *(partner(posterior=q) for q in POSTERIORS)])


@pytest.mark.parametrize("case", params(EACH_ONCE, {("Normal", "DiagonalNormal")}))
@pytest.mark.parametrize(
    "vectorize", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["vectorized", "one-by-one"]
)
def test_the_importance_weighted_bound(case, vectorize):
    def objective():
        return RenyiELBO(alpha=0, num_particles=3, vectorize_particles=vectorize, max_plate_nesting=1)

    assert_the_same(lambda: vae_of(case), objective, calls_of(case))


@pytest.mark.parametrize("likelihood", ["bernoulli", pytest.param("normal_learned", marks=pytest.mark.slow)])
def test_context(likelihood):
    calls = [((small_x(likelihood, n), *contexts(4, n)), {}) for n in SIZES]
    assert_the_same(lambda: small_vae(likelihood, context=4), Trace_ELBO, calls)


def missing_vae(likelihood):
    case = LIKELIHOODS[likelihood]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = {"class": case.cls.__name__, **case.options}
        return build(case.shape, 2, hidden=(4,), activation="Tanh", likelihood=spec, missing=True).double()


def missing_calls(likelihood, with_mask):
    """Other values are missing at each step."""
    calls = []
    for i, n in enumerate(SIZES):
        x = LIKELIHOODS[likelihood].x(n)
        seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(i)) < 0.6
        seen[0] = i % 2 == 0  # all of a row, or nothing
        calls.append(((x,), {"mask": seen}) if with_mask else ((torch.where(seen, x, math.nan),), {}))
    return calls


@pytest.mark.parametrize("likelihood", params(ELEMENTWISE, {"categorical"}))
@pytest.mark.parametrize("with_mask", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["mask", "nan"])
def test_missing_values(likelihood, with_mask):
    assert_the_same(lambda: missing_vae(likelihood), Trace_ELBO, missing_calls(likelihood, with_mask))


class Convolutions(nn.Module):
    """A net with what images have, in train mode."""

    def __init__(self, latent_dim):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.LazyLinear(2 * latent_dim),
        )

    def forward(self, x):
        return self.layers(x)


def test_images_through_convolutions_with_dropout_and_batch_normalisation():
    """The running means and the draws of the dropout are those of eager steps too."""

    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            vae = build((1, 6, 6), 2, hidden=(4,))
            vae.posterior.net = Convolutions(2)
            vae.double().encode(images(4)[0])
        return vae

    def images(n):
        x = torch.rand(n, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
        return ((x > 0.5).double(),)

    assert_the_same(make, Trace_ELBO, [(images(n), {}) for n in SIZES])


def test_the_table_of_fast_cases_is_up_to_date():
    assert set(CASES) >= FAST
