"""A process that takes pieces of torch and Pyro away, one at a time, and tells what CompiledSVI does without.

It reads {piece: how} as JSON, where how is "delete", or "hide" for a piece that torch and Pyro themselves need, and
writes {piece: what was seen} as JSON. Each piece is taken away in a process of its own, forked from one that has
imported torch and Pyro, which takes seconds, and nothing of `pyro_vae.svi`, which is to be imported without the piece.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import warnings

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch.distributions import constraints

import pyro_vae.model_guide  # svi needs it, and its import is slow
import pyro_vae.value_checks

X = torch.linspace(-1, 2, 6)
NOTHING = "nothing"


def model(x):
    assert pyro_vae.value_checks.holds(x.isfinite().all())
    weight = pyro.param("weight", torch.tensor(0.7))
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(weight * z, 1.0), obs=x)


def guide(x):
    slope = pyro.param("slope", torch.tensor(0.1))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(slope * x, scale))


def three_steps(svi):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    losses = [float(svi.step(X)) for _ in range(3)]
    return {"losses": losses, "weights": {name: p.tolist() for name, p in pyro.get_param_store().items()}}


def programs():
    return model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO()


def owner_of(path):
    """Return the object that has the last name of a path, and that name; import modules on the way."""
    first, *between, last = path.split(".")
    owner = importlib.import_module(first)
    for i, name in enumerate(between, 2):
        if hasattr(owner, name):
            owner = getattr(owner, name)
        else:  # which torch.optim, for one, hides
            owner = importlib.import_module(".".join(path.split(".")[:i]))
    return owner, last


def take_away(path, how):
    if how == "delete":
        owner, name = owner_of(path)
        delattr(owner, name)
        if path == "torch.compiler._is_exporting_flag":  # another torch would have another way to tell
            torch.compiler.is_exporting = lambda: False
        return
    from pyro_vae.svi import private

    find = private._is_there
    private._is_there = lambda asked: asked != path and find(asked)


def seen_without(path, how):
    if how is None:
        return three_steps(SVI(*programs()))
    if path != NOTHING:
        take_away(path, how)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        from pyro_vae import CompiledSVI
        from pyro_vae.svi import CannotCaptureError

        svi = CompiledSVI(*programs(), mode="exact")
        seen = three_steps(svi)
        CompiledSVI(*programs())
    seen |= {"captures": svi.captures, "refused": svi.refused, "heard": [str(w.message) for w in heard]}
    seen["imported"] = "pyro_vae.svi.step_graph" in sys.modules
    try:
        CompiledSVI(*programs(), fallback="error")
        seen["error"] = None
    except CannotCaptureError as error:
        seen["error"] = str(error)
    return seen


def in_a_fork(path, how):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            seen = seen_without(path, how)
        except BaseException:  # any error; the test shows it
            seen = {"failed": traceback.format_exc()}
        with os.fdopen(writer, "w") as pipe:
            json.dump(seen, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        seen = json.load(pipe)
    os.waitpid(child, 0)
    return seen


if __name__ == "__main__":
    pieces = json.load(sys.stdin)
    for piece, how in pieces.items():
        if how == "delete":
            owner_of(piece)  # imported once, and not in each process
    assert not any(name.startswith("pyro_vae.svi") for name in sys.modules)
    pieces = {"stock": None, NOTHING: "delete", **pieces}
    json.dump({piece: in_a_fork(piece, how) for piece, how in pieces.items()}, sys.stdout)
