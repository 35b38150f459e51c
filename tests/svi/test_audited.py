"""A run with audits and one without them give the same bits: losses, parameters, buffers, optimisers and generators."""

from __future__ import annotations

import copy
import itertools
import warnings
from typing import Any, NamedTuple

import pyro
import pytest
from torch import Tensor

from pyro_vae.svi import CompiledSVI
from tests.svi.drop_in.harness import difference, generators, plain
from tests.svi.programs import CASES
from tests.svi.test_conformance import assert_equal, state

STEPS = 20
PROGRAMS = (  # those with state beside the weights first
    "vae_with_batch_norm",
    "graph_elbo_neural_and_decaying_baseline",
    "vae_with_dropout",
    "semi_supervised_vae",
    "nested_subsampled_plates",
    "optim_exponential_lr",
    "gaussian_mixture_map",
    "amortised_by_pyro_subsample",
    "bayesian_neural_network",
    "renyi_vectorised",
    "loss_is_a_function",
    "optim_adam_clipped_norm",
    "annealed_by_a_number",
    "dirichlet_multinomial",
)
SOON = {*itertools.product(PROGRAMS[:4], ["exact"]), *itertools.product(PROGRAMS[:2], ["fast"])}


class Ran(NamedTuple):
    """The losses of a run, and the state after it."""

    losses: list[Any]
    tensors: dict[str, Tensor]
    rest: Any


@pytest.fixture(autouse=True)
def _store():
    yield
    pyro.clear_param_store()


@pytest.fixture
def audits(monkeypatch):
    """The numbers of the audited steps."""
    found, audited = [], CompiledSVI._audited

    def noting(self, what, *rest):
        found.append(self.number + 1)
        return audited(self, what, *rest)

    monkeypatch.setattr(CompiledSVI, "_audited", noting)
    return found


def run(name: str, **options: Any) -> tuple[Ran, CompiledSVI]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    program = CASES[name].make()
    svi = CompiledSVI(program.model, program.guide, program.optim, program.loss, fallback="error", **options)
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the programs' own
        warnings.filterwarnings("error", message="(?i).*(audit|the graph rounds|captured)")
        for args, kwargs in itertools.islice(itertools.cycle(program.calls()), STEPS):
            losses.append(svi.step(*copy.deepcopy(args), **kwargs))
            if program.after is not None:
                program.after(losses[-1])
    name_of = pyro.get_param_store().param_name
    optimisers = {name_of(p): getattr(o, "optimizer", o).state_dict() for p, o in svi.optim.optim_objs.items()}
    return Ran(losses, state(program), plain((optimisers, generators()))), svi


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(*case, marks=[] if case in SOON else [pytest.mark.slow])
        for case in itertools.product(PROGRAMS, ["exact", "fast"])
    ],
)
def test_an_audited_run_equals_one_without_audits(name, mode, audits):
    with_audits, svi = run(name, mode=mode)
    if svi.captures == 1:
        assert audits == [2, 3, 5, 9, 17]  # the 1st, 2nd, 4th, 8th, 16th of the graph that the second step makes
    assert len(audits) >= 5
    audits.clear()
    without, other = run(name, mode=mode, audit=False)
    assert audits == []
    assert svi.captures == other.captures
    assert with_audits.losses == without.losses
    assert_equal(with_audits.tensors, without.tensors)
    assert difference(with_audits.rest, without.rest) is None
