"""A program as users of ``pyro.infer.SVI`` write it, and what it does under SVI and under CompiledSVI."""

from __future__ import annotations

import contextlib
import math
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pyro
import pyro.optim
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from pyro_vae.svi import CannotCaptureError, CompiledSVI

# No audit comes at step CHANGE + 1, whether steps are counted from the first or from a capture: a rule has to see what
# the user changes there.
STEPS, CHANGE = 8, 6


@dataclass
class Program:
    """A program as a user writes it.

    ``steps`` takes the SVI and yields the loss of each step; in between it changes what the user changes. ``state``
    gives those of the user's objects that must be as after stock's step. ``modules`` have parameters or buffers, and
    are neither the model nor the guide.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    steps: Callable[[Any], Iterator[Any]]
    loss: Any = field(default_factory=Trace_ELBO)
    optim: pyro.optim.PyroOptim = field(default_factory=lambda: pyro.optim.SGD({"lr": 0.01}))
    loss_and_grads: Callable[..., Any] | None = None
    modules: tuple[nn.Module, ...] = ()
    state: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Case:
    """A row of a table.

    ``wants`` is "graph" where steps must run as a graph, "either" where Pyro may run them. ``notes`` says that a run
    only writes to the user's objects: a graph that leaves them alone and warns of it will do too.
    """

    name: str
    kind: str
    make: Callable[[], Program]
    wants: Literal["graph", "either"]
    raises: type[Exception] | None = None  # what stock raises in the end
    notes: bool = False


def table(cases: dict[str, Case]) -> Callable[..., Any]:
    """A decorator that puts the cases of a file into a table."""

    def case(kind: str, wants: Literal["graph", "either"], **options: Any):
        def register(make: Callable[[], Program]) -> Callable[[], Program]:
            name = make.__name__
            assert name not in cases, f"two cases are called {name}"
            cases[name] = Case(name, kind, make, wants, **options)
            return make

        return register

    return case


class Moment(NamedTuple):
    """The state after a step."""

    loss: Any
    parameters: dict[str, Any]
    state: Any
    generators: Any


class Run(NamedTuple):
    """The record of a run."""

    moments: list[Moment]
    error: Exception | None
    warned: list[str]
    svi: Any


def run(case: Case, make_svi: Callable[..., Any] = SVI) -> Run:
    """Run fresh objects, with the same seed and an empty store."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    program = case.make()
    more = () if program.loss_and_grads is None else (program.loss_and_grads,)
    moments: list[Moment] = []
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        svi = make_svi(program.model, program.guide, program.optim, program.loss, *more)
        with contextlib.closing(program.steps(svi)) as steps:
            try:
                moments.extend(moment(program, loss) for loss in steps)
            except Exception as raised:  # any error that stock raises; ``verdict`` compares it
                error = raised
    return Run(moments, error, [str(w.message) for w in caught], svi)


def compiled(mode: str, **options: Any) -> Callable[..., Any]:
    return lambda *programs: CompiledSVI(*programs, mode=mode, **options)


def moment(program: Program, loss: Any) -> Moment:
    return Moment(plain(loss), plain(parameters(program)), plain(program.state()), plain(generators()))


def parameters(program: Program) -> dict[str, Tensor]:
    """Return the parameters in the store, and the parameters and buffers of the modules."""
    found = {f"store {name}": p for name, p in pyro.get_param_store()._params.items()}
    modules = [*program.modules, *(m for m in (program.model, program.guide) if isinstance(m, nn.Module))]
    for i, module in enumerate(modules):
        found |= {f"module {i} {name}": p for name, p in (*module.named_parameters(), *module.named_buffers())}
    return found


def generators() -> list[Any]:
    """Return the states of the generators of torch, Python and NumPy."""
    return [torch.get_rng_state(), random.getstate(), list(np.random.get_state())]  # noqa: NPY002  the one for all


def plain(thing: Any) -> Any:
    """Return a copy that later steps cannot change, with the type of each tensor.

    Raises:
        TypeError: for an object of which it is not known what is to be compared.
    """
    if isinstance(thing, Tensor):
        kind = Tensor if isinstance(thing, nn.Parameter) else type(thing)
        return [kind.__name__, thing.requires_grad, thing.detach().numpy().copy()]
    if isinstance(thing, np.ndarray):
        return thing.copy()
    if isinstance(thing, dict):
        return {name: plain(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple, deque)):
        return [type(thing).__name__, *map(plain, thing)]
    if isinstance(thing, (set, frozenset)):
        return sorted(thing)
    if thing is None or isinstance(thing, (bool, int, float, str, np.generic)):
        return thing
    raise TypeError(f"of a {type(thing).__name__} it is not known what is to be compared")


def difference(found: Any, expected: Any, rtol: float = 0.0) -> str | None:
    """Return what differs, or None. Floats may differ by ``rtol``; 0 means equal bits."""
    if type(found) is not type(expected):
        return f"{type(found).__name__} {found!r}, not {type(expected).__name__} {expected!r}"
    if isinstance(expected, dict):
        if found.keys() != expected.keys():
            return f"{sorted(found)}, not {sorted(expected)}"
        return next((f"{k}: {d}" for k in expected if (d := difference(found[k], expected[k], rtol))), None)
    if isinstance(expected, (list, tuple)):
        if len(found) != len(expected):
            return f"{len(found)} things, not {len(expected)}: {found!r}, not {expected!r}"
        pairs = enumerate(zip(found, expected, strict=True))
        return next((f"[{i}] {d}" for i, (a, b) in pairs if (d := difference(a, b, rtol))), None)
    return None if _same(found, expected, rtol) else f"{found!r}, not {expected!r}"


def _same(found: Any, expected: Any, rtol: float) -> bool:
    if isinstance(expected, np.ndarray):
        if found.dtype != expected.dtype or found.shape != expected.shape:
            return False
        if rtol and expected.dtype.kind == "f":
            return np.allclose(found, expected, rtol=rtol, atol=rtol, equal_nan=True)
        return found.tobytes() == expected.tobytes()
    if isinstance(expected, (float, np.floating)):
        if math.isnan(expected):
            return math.isnan(found)
        return math.isclose(found, expected, rel_tol=rtol, abs_tol=rtol)
    return found == expected


def verdict(case: Case, make_svi: Callable[..., Any], loss_rtol: float = 0.0, rtol: float = 0.0) -> None:
    """Assert that a program does the same under another SVI, or says why it does not.

    Args:
        case: the program, and whether a graph is wanted.
        make_svi: makes the other SVI.
        loss_rtol: how far losses may be apart; 0 for equal bits.
        rtol: how far parameters and the user's floats may be apart.
    """
    expected, found = run(case), run(case, make_svi)
    if found.error is not None and (expected.error is None or len(found.moments) != len(expected.moments)):
        assert isinstance(found.error, CannotCaptureError), f"raises where stock does not: {found.error!r}"
        assert str(found.error)
        assert case.wants == "either", f"no graph holds it: {found.error}"
    else:
        assert repr(found.error) == repr(expected.error)
        assert len(found.moments) == len(expected.moments)
    own = [message for message in found.warned if message not in expected.warned]
    assert len(own) <= 1, f"more than one warning: {own}"
    left = case.notes and len(own) == 1 and found.svi.refused is None
    for i, (now, then) in enumerate(zip(found.moments, expected.moments, strict=False), 1):
        for what, here, there in zip(Moment._fields, now, then, strict=True):
            if left and what == "state":
                continue
            apart = difference(here, there, loss_rtol if what == "loss" else rtol)
            assert apart is None, f"after step {i} {what}: {apart}; refused: {found.svi.refused}"
    if case.wants == "graph":
        assert found.svi.refused is None, f"no graph holds it: {found.svi.refused}"
        assert found.svi.captures >= 1
        assert not own, f"a graph, but with a warning: {own}"
    elif found.svi.refused is not None:
        assert len(own) == 1, f"refused without a word: {found.svi.refused}"
        assert found.svi.refused in own[0]
