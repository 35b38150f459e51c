"""The private and undocumented pieces of torch and Pyro that graphs rest on: which, why, and whether they are there.

A graph is captured by the machinery that ``torch.export`` is made of, which has no public names. Another version may
rename any of it. So :class:`~pyro_vae.svi.CompiledSVI` asks here before it imports what uses these pieces, and leaves
the steps to Pyro where one is missing. Only names are looked up: where a piece takes other arguments than it did, the
capture fails, and is refused as that of any program is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pyro
import torch

__all__ = ["EXPORTS", "PIECES", "lacking", "missing"]

_FAKE, _PROXY = "torch._subclasses.fake_tensor.", "torch.fx.experimental.proxy_tensor."
_SHAPES, _STORE = "torch.fx.experimental.symbolic_shapes.", "pyro.params.param_store.ParamStoreDict"

# Where each is, and what it does here. `Class().name` is an attribute that instances have and the class has not.
PIECES: dict[str, str] = {
    # The capture of a program.
    _PROXY + "make_fx": "writes down the operations of a program",
    _PROXY + "get_proxy_mode": "has what is known of the tensors in a capture",
    _PROXY + "get_proxy_slot": "has what is known of one of them, such as a value that is not to be read",
    "torch.Tensor._version": "says which tensors a program writes to",
    _FAKE + "FakeTensor": "tells tensors without values from others",
    _FAKE + "FakeTensorMode": "runs operations on tensors without values",
    _FAKE + "FakeTensorMode.dispatch": "is where the values of all other tensors are taken away",
    _FAKE + "FakeTensorMode.from_tensor": "makes a tensor without values for each argument",
    _FAKE + "FakeTensorMode().fake_tensor_converter": "keeps one tensor without values for each with values",
    _FAKE + "FakeTensorConverter.from_real_tensor": "makes a tensor without values for each that a program finds",
    _FAKE + "is_fake": "tells a mask that a module holds from one without values",
    _SHAPES + "DimDynamic": "says which dimensions may change",
    _SHAPES + "StatelessSymbolicContext": "says so for each tensor",
    _SHAPES + "ShapeEnv": "holds what is known of dimensions that may change",
    _SHAPES + "ShapeEnv().guards": "says for which sizes a graph is right",
    _SHAPES + "ShapeEnv().replacements": "says which sizes turned out to be fixed",
    _SHAPES + "ShapeGuard.expr": "is a condition on sizes",
    "torch.SymInt().node": "holds the expression of a size",
    "torch.fx.experimental.sym_node.SymNode.expr": "is the expression of a size",
    "torch._dynamo.source.ConstantSource": "names an argument whose first dimension may change",
    "torch.utils._pytree.tree_map_only": "takes the values away from the tensors among the arguments of an operation",
    "torch.utils._pytree.tree_flatten": "takes the arguments of a step apart",
    "torch.utils._pytree.tree_unflatten": "puts the arguments of a step together again",
    "torch.utils._pytree.tree_leaves": "finds the tensors in what a run leaves behind",
    "torch.utils._sympy.functions.ToFloat": "is a size as a float",
    "torch.utils._sympy.functions.FloatTrueDiv": "is a quotient with a size in it",
    "torch.utils._sympy.functions.IntTrueDiv": "is a quotient of sizes",
    "torch.utils._python_dispatch._disable_current_modes": "reads the values of constants during a capture",
    "torch._C._dispatch_has_kernel_for_dispatch_key": "says for which draws torch does not know the shape",
    "torch.ops.aten._standard_gamma": "draws from a gamma",
    "torch.ops.aten._standard_gamma_grad": "is the gradient of a draw from a gamma",
    "torch.ops.aten._sample_dirichlet": "draws from a Dirichlet",
    "torch.ops.aten._dirichlet_grad": "is the gradient of a draw from a Dirichlet",
    "torch._ops.OpOverload": "tells the operations of torch from other nodes of a graph",
    "torch.ops.aten.copy_.default._schema": "says which arguments an operation writes to",
    # The compilation of a graph.
    "torch._inductor.compile": "compiles a graph",
    "torch._guards.TracingContext": "tells the compiler that all sizes are fixed",
    "torch._guards.tracing": "tells the compiler that all sizes are fixed",
    "torch._dynamo.exc.TorchDynamoException": "says that a graph could not be compiled",
    # What changes between steps, of which a graph would not know.
    "torch.nn.Module()._modules": "is looked at for parts that are replaced",
    "torch.nn.Module()._parameters": "is looked at for parameters that are replaced",
    "torch.nn.Module()._buffers": "is looked at for buffers that are replaced",
    "torch.nn.Module()._forward_hooks": "is looked at for hooks that are added",
    "torch.nn.Module()._forward_pre_hooks": "is looked at for hooks that are added",
    "torch.nn.Module()._backward_hooks": "is looked at for hooks that are added",
    "torch.nn.Module()._backward_pre_hooks": "is looked at for hooks that are added",
    "torch.nn.modules.module._global_forward_hooks": "is looked at for hooks that are added",
    "torch.nn.modules.module._global_forward_pre_hooks": "is looked at for hooks that are added",
    "torch.nn.modules.module._global_backward_hooks": "is looked at for hooks that are added",
    "torch.nn.modules.module._global_backward_pre_hooks": "is looked at for hooks that are added",
    "torch.Tensor._backward_hooks": "is looked at for hooks that are added",
    "torch.Tensor._post_accumulate_grad_hooks": "is looked at for hooks, which no graph runs",
    "torch._C._dynamo.guards.TensorGuards": "compares shapes, strides and dtypes of the tensors around a graph",
    "torch._C._len_torch_dispatch_stack": "says whether something looks at the operations of a step",
    "torch.overrides._get_current_function_mode_stack": "says whether something looks at the functions of a step",
    "torch.utils._device.DeviceContext": "tells the default device from what looks at functions",
    "torch.optim.optimizer._global_optimizer_pre_hooks": "is looked at for hooks, which no graph runs",
    "torch.optim.optimizer._global_optimizer_post_hooks": "is looked at for hooks, which no graph runs",
    "pyro.nn.PyroModule()._pyro_params": "is looked at for parameters that are replaced",
    "pyro.nn.PyroModule()._pyro_samples": "is looked at for priors that are replaced",
    "torch.optim.Optimizer()._optimizer_step_pre_hooks": "is looked at for hooks, which no graph runs",
    "torch.optim.Optimizer()._optimizer_step_post_hooks": "is looked at for hooks, which no graph runs",
    "pyro.optim.PyroOptim().optim_objs": "has the optimiser of each parameter",
    "pyro.optim.PyroOptim().grad_clip": "has the parameters whose gradients are clipped",
    # Pyro, and torch's distributions, without values.
    "torch.distributions.Distribution._validate_args": "is put back after a capture, which goes without validation",
    "pyro.poutine.runtime._PYRO_STACK": "has the handlers around a step, with which Pyro takes it",
    _STORE: "has its entries written to in place",
    _STORE + ".__setitem__": "would put another tensor in the place of one that a graph holds",
    _STORE + "()._params": "has the tensors that a graph holds",
    _STORE + "()._param_to_name": "is put back after a capture",
    _STORE + "()._constraints": "is put back after an audit",
    "pyro.infer.traceenum_elbo._get_common_scale": "compares scales, which may be floats of the arguments",
    "pyro.util.torch_isnan": "reads values, for warnings",
    "pyro.ops.provenance.ProvenanceTensor": "marks what depends on what",
    "pyro.ops.provenance.ProvenanceTensor.__new__": "needs the memory of a tensor, which none without values has",
    "pyro.ops.provenance.ProvenanceTensor()._t": "is the tensor that is marked",
    "pyro.ops.provenance.ProvenanceTensor()._provenance": "is the mark",
    "pyro.poutine.indep_messenger.CondIndepStackFrame": "is a plate",
    "pyro.poutine.indep_messenger.CondIndepStackFrame.__hash__": "reads the size of a plate, which may be open",
}

# What only exported graphs (`pyro_vae.value_checks`) use: steps are captured without.
EXPORTS: dict[str, str] = {
    "torch.compiler._is_exporting_flag": "tells an export from a compilation, which torch 2.10 takes for one too",
    "torch._assert_async": "checks values in an exported graph",
}

# Instances that need arguments.
_MADE: dict[str, Callable[[Any], object]] = {
    "torch.SymInt": lambda cls: cls(None),
    "torch.optim.Optimizer": lambda _: torch.optim.SGD([torch.zeros(1)]),  # the class itself has no step
    "pyro.optim.PyroOptim": lambda cls: cls(torch.optim.SGD, {}),
    "pyro.ops.provenance.ProvenanceTensor": lambda cls: cls(torch.zeros(1), frozenset("z")),
}


def missing(pieces: Iterable[str] = PIECES) -> list[str]:
    """The pieces that torch or Pyro lack here; none with the versions that the tests run with.

    Args:
        pieces: dotted paths, as in :data:`PIECES`.

    Example:
        >>> missing()
        []
        >>> missing(["torch._C.no_such_thing"])
        ['torch._C.no_such_thing']
    """
    return [path for path in pieces if not _is_there(path)]


def lacking() -> str | None:
    """What to tell a user where pieces are missing: which (the first three), and why they are wanted; else None."""
    absent = missing()
    if not absent:
        return None
    named = [f"{path}, which {PIECES[path]}" for path in absent[:3]]
    named += [f"and {len(absent) - 3} more pieces"] if len(absent) > 3 else []
    versions = f"torch {torch.__version__} and Pyro {pyro.__version__}"
    return f"this version of pyro_vae cannot make graphs with {versions}, which lack {'; '.join(named)}"


def _is_there(path: str) -> bool:
    try:
        _found(path)
    except (AttributeError, ImportError, KeyError, TypeError):  # TypeError: an instance needs other arguments now
        return False
    return True


def _found(path: str) -> Any:
    """What a dotted path leads to."""
    if path.endswith("()"):
        path = path.removesuffix("()")
        return _MADE.get(path, lambda cls: cls())(_found(path))
    where, _, name = path.rpartition(".")
    if not where:
        return importlib.import_module(name)
    owner = _found(where)
    if isinstance(owner, type) and name.startswith("__"):
        return vars(owner)[name]  # every class inherits one; its own is asked for
    if isinstance(owner, ModuleType) and not hasattr(owner, name):
        return importlib.import_module(path)
    return getattr(owner, name)
