"""The private pieces of torch and Pyro: all are listed, and without any of them CompiledSVI says so and runs Pyro."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_vae
from pyro_vae import CompiledSVI
from pyro_vae.evaluation.joint_density import JointDensity
from pyro_vae.model_guide import ModelGuide
from pyro_vae.svi import CannotCaptureError, compiled_svi, private
from tests.conftest import make_vae, make_x

ROOT = Path(pyro_vae.__file__).parent
SOURCES = [*(p for p in sorted((ROOT / "svi").glob("*.py")) if p.name != "private.py"), ROOT / "value_checks.py"]
LISTED = {**private.PIECES, **private.EXPORTS}

# What no process can lose and go on: torch or Pyro themselves break without, or it is C++. It is hidden from the
# look-up alone.
NEEDED = {
    "torch.distributions.Distribution._validate_args": "each distribution reads it",
    "pyro.poutine.runtime._PYRO_STACK": "each pyro.sample reads it",
    "pyro.params.param_store.ParamStoreDict.__setitem__": "each new pyro.param goes through it",
    "pyro.util.torch_isnan": "each loss goes through it",
    "torch.optim.optimizer._global_optimizer_pre_hooks": "each step of an optimiser reads it",
    "torch.optim.optimizer._global_optimizer_post_hooks": "each step of an optimiser reads it",
    "torch.Tensor._backward_hooks": "torch._C.TensorBase has it, from which nothing can be deleted",
    "torch.Tensor._version": "torch._C.TensorBase has it, from which nothing can be deleted",
    "torch.Tensor._post_accumulate_grad_hooks": "torch._C.TensorBase has it, from which nothing can be deleted",
}


def how(piece):
    # Constructors make the attributes of instances again, and torch finds an operation again on request.
    hidden = piece in NEEDED or "()" in piece or piece.startswith("torch.ops.aten._")
    return "hide" if hidden else "delete"


@pytest.fixture
def without(monkeypatch):
    """Hide pieces from the look-up, in a process that has not been warned yet."""
    monkeypatch.setattr(compiled_svi, "_told", set())
    find = private._is_there
    return lambda *pieces: monkeypatch.setattr(private, "_is_there", lambda path: path not in pieces and find(path))


def test_nothing_is_missing_here():
    assert private.missing([*LISTED, *private.ELSEWHERE]) == []
    assert private.lacking() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each piece is taken away in a fork")
def test_without_any_piece_pyro_takes_the_steps_and_one_warning_says_so():
    process = subprocess.run(
        [sys.executable, "-m", "tests.svi.taking_away"],
        input=json.dumps({piece: how(piece) for piece in LISTED}),
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    seen = json.loads(process.stdout)
    stock, complete = seen.pop("stock"), seen.pop("nothing")
    graph = {"captures": 1, "refused": None, "heard": [], "imported": True, "error": None}
    assert complete == {**stock, **graph}
    for piece in private.EXPORTS:  # steps go without
        assert seen.pop(piece) == {**stock, **graph}, piece
    assert set(seen) == set(private.PIECES)
    for piece, found in seen.items():
        assert "failed" not in found, f"{piece}\n{found['failed']}"
        assert f"{piece}, which {private.PIECES[piece]}" in found["refused"]  # a class among its methods
        assert found == {
            **stock,
            "captures": 0,
            "refused": found["refused"],
            "heard": [f"CompiledSVI: {found['refused']}. Pyro runs the steps itself, which is slower"],
            "imported": False,
            "error": found["refused"],
        }, piece


@pytest.mark.parametrize("fallback", ["eager", "error"])
def test_each_lack_is_said_once(without, fallback):
    def make():
        vae = make_vae()
        return CompiledSVI(vae.model, vae.guide, torch.optim.Adam(vae.parameters()), Trace_ELBO(), fallback=fallback)

    without("torch._ops.OpOverload")
    if fallback == "error":
        with pytest.raises(CannotCaptureError, match="lack torch._ops.OpOverload"):
            make()
        return
    with pytest.warns(UserWarning, match="lack torch._ops.OpOverload"):
        make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svi = make()
    assert svi.steps([make_x()] * 3).shape == (3,)
    assert svi.evaluate_loss(make_x()) > 0
    assert svi.captures == 0
    without("torch._inductor.compile")
    with pytest.warns(UserWarning, match="lack torch._inductor.compile"):
        make()


def test_importing_pyro_vae_asks_for_no_piece():
    code = (
        "import sys, pyro_vae\n"
        "assert all(getattr(pyro_vae, name) for name in pyro_vae.__all__)\n"
        "print(*[name for name in sys.modules if name.startswith('pyro_vae.svi.')])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(process.stdout.split())
    assert "pyro_vae.svi.compiled_svi" in imported
    for name in ("capture", "step_graph", "execution", "pyro_patches"):
        assert importlib.util.find_spec(f"pyro_vae.svi.{name}")
        assert f"pyro_vae.svi.{name}" not in imported


def test_three_pieces_are_named(without):
    without(*list(private.PIECES)[:10])
    named = list(private.PIECES)[:3]
    assert all(f"{piece}, which {private.PIECES[piece]};" in private.lacking() for piece in named)
    assert private.lacking().endswith("; and 7 more pieces")


def test_a_module_that_is_gone(monkeypatch):
    monkeypatch.delattr(torch._dynamo, "source")
    monkeypatch.setitem(sys.modules, "torch._dynamo.source", None)
    assert private.missing() == ["torch._dynamo.source.ConstantSource"]


def test_a_class_that_is_made_with_other_arguments(monkeypatch):
    monkeypatch.setattr(torch.SymInt, "__init__", lambda self, node, hint: None)
    assert private.missing() == ["torch.SymInt().node"]


def test_a_method_that_is_inherited_is_missing(monkeypatch):
    frame = pyro.poutine.indep_messenger.CondIndepStackFrame
    monkeypatch.delattr(frame, "__hash__")
    assert isinstance(hash(frame("data", -1, 2, 0)), int)
    assert private.missing() == ["pyro.poutine.indep_messenger.CondIndepStackFrame.__hash__"]


def test_log_joint_runs_uncaptured(without):
    without("torch.fx.experimental.proxy_tensor.make_fx")
    programs = ModelGuide(make_vae(), make_x())
    z = torch.randn(30, programs.batch, 2, dtype=torch.float64)
    joint = JointDensity(programs, 30, 70, True)
    with torch.no_grad():
        found = [joint(programs, z), joint(programs, z)]
        expected = JointDensity(programs, 30, 70, False)(programs, z)
    assert all(torch.equal(each, expected) for each in found)
    assert joint._graph is None


def is_private(name):
    return re.fullmatch(r"_[a-zA-Z]\w*", name) is not None


def dotted(node, homes):
    """Return the dotted path of a chain of names by the imports; "" if it starts at anything else."""
    if isinstance(node, ast.Name):
        return homes.get(node.id, "")
    if isinstance(node, ast.Attribute) and (before := dotted(node.value, homes)):
        return f"{before}.{node.attr}"
    return ""


def names_in(source):
    """Return the private names of torch and Pyro in a source, and what it replaces there; "?.name" for an unknown object.

    What `self` has is its class's own.
    """
    homes, found, replaced = {}, set(), set()
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, ast.Import):
            homes |= {
                n.asname or n.name.split(".")[0]: n.name if n.asname else n.name.split(".")[0] for n in node.names
            }
            found |= {n.name for n in node.names}
        if isinstance(node, ast.ImportFrom):
            homes |= {n.asname or n.name: f"{node.module}.{n.name}" for n in node.names}
            found |= {f"{node.module}.{n.name}" for n in node.names}
    for node in nodes:
        if isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found.add(dotted(node, homes) or ("" if is_own else f"?.{node.attr}"))
        if isinstance(node, ast.Constant) and re.fullmatch(r"_[a-z]\w*", str(node.value)):  # as in vars(x)["_buffers"]
            found.add(f"?.{node.value}")
        is_call = isinstance(node, ast.Call) and ast.unparse(node.func) in ("patch.object", "setattr")
        if is_call and isinstance(node.args[1], ast.Constant):
            replaced.add(f"{dotted(node.args[0], homes)}.{ast.literal_eval(node.args[1])}")
    theirs = [name.split(".") for name in found if name.split(".")[0] in ("torch", "pyro", "?")]
    hidden = {".".join(n) for n in theirs if any(map(is_private, n)) or n[:3] == ["torch", "fx", "experimental"]}
    return hidden | replaced


def is_listed(name):
    """Return True if a name is in the table, or is a module or a public part of an entry."""
    paths = [path.replace("()", "") for path in LISTED]
    if name.startswith("?."):
        return name[2:] in {path.rpartition(".")[2] for path in paths}
    return any(
        f"{path}.".startswith(f"{name}.")
        or (name.startswith(f"{path}.") and not any(map(is_private, name.removeprefix(path).split("."))))
        for path in paths
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_all_that_is_used_is_listed(path):
    assert sorted(name for name in names_in(path.read_text()) if not is_listed(name)) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from torch._dynamo.source import LocalSource", "torch._dynamo.source.LocalSource"),
        ("from torch.fx.experimental import meta_tracer", "torch.fx.experimental.meta_tracer"),
        ("import torch._lazy", "torch._lazy"),
        ("import torch\ntorch._C._jit_pass_lint()", "torch._C._jit_pass_lint"),
        ("from torch.utils import _pytree as tree\ntree.tree_map()", "torch.utils._pytree.tree_map"),
        (
            "from torch.distributions import Distribution as D\nD._get_checked_instance",
            "torch.distributions.Distribution._get_checked_instance",
        ),
        (
            "from torch._subclasses.fake_tensor import FakeTensorMode as M\nM._dispatch_impl",
            "torch._subclasses.fake_tensor.FakeTensorMode._dispatch_impl",
        ),
        ("def f(module): return module._load_state_dict_pre_hooks", "?._load_state_dict_pre_hooks"),
        ("def f(module): return vars(module)['_load_state_dict_pre_hooks']", "?._load_state_dict_pre_hooks"),
        ("import pyro\npatch.object(pyro.util, 'warn_if_nan', print)", "pyro.util.warn_if_nan"),
    ],
)
def test_what_is_not_listed_is_found(line, name):
    assert [found for found in names_in(line) if not is_listed(found)] == [name]


def test_all_that_is_listed_is_used():
    words = {word for path in SOURCES for word in re.findall(r"\w+", path.read_text())}
    assert [path for path in LISTED if path.rpartition(".")[2] not in words] == []


def test_other_rooms_use_listed_pieces_alone_and_all_of_them():
    structure = runpy.run_path(str(ROOT.parent / "benchmarks" / "structure.py"))
    modules = structure["read"](ROOT)
    own = structure["own_names"](modules)
    others = [module for module in modules if not module.name.startswith("pyro_vae.svi")]
    used = structure["distinct"]({name for module in others for name in structure["private_names"](module, own)})
    listed = {path.rpartition(".")[2] for path in (*LISTED, *private.ELSEWHERE)}
    assert [name for name in used if name.rpartition(".")[2] not in listed] == []
    words = {word for module in others for line in module.lines for word in re.findall(r"\w+", line)}
    assert [path for path in private.ELSEWHERE if path.rpartition(".")[2] not in words] == []
