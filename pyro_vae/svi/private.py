"""The private and undocumented pieces of torch and Pyro that graphs need: which, why, and whether they exist here.

The machinery behind ``torch.export`` captures a graph, and it has no public names. Another version may rename any of
it. So :class:`~pyro_vae.svi.CompiledSVI` checks this list before it imports the modules that use these pieces, and
leaves the steps to Pyro if one is missing. Only names are checked: if a piece takes different arguments in another
version, the capture fails, and is refused like that of any program.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pyro
import torch

__all__ = ["ELSEWHERE", "EXPORTS", "PIECES", "lacking", "missing"]

_FAKE, _PROXY = "torch._subclasses.fake_tensor.", "torch.fx.experimental.proxy_tensor."
_SHAPES, _STORE = "torch.fx.experimental.symbolic_shapes.", "pyro.params.param_store.ParamStoreDict"

# The path of each piece, and what it does here. `Class().name` is an attribute of instances, not of the class.
PIECES: dict[str, str] = {
    # The capture of a program.
    _PROXY + "make_fx": "records the operations of a program",
    _PROXY + "get_proxy_mode": "knows the tensors of a capture",
    _PROXY + "get_proxy_slot": "knows one of them, such as a value that must not be read",
    "torch.Tensor._version": "shows which tensors a program writes to",
    _FAKE + "FakeTensor": "tells tensors without values from others",
    _FAKE + "FakeTensorMode": "runs operations on tensors without values",
    _FAKE + "FakeTensorMode.dispatch": "removes the values of all other tensors",
    _FAKE + "FakeTensorMode.from_tensor": "makes a tensor without values for each argument",
    _FAKE + "FakeTensorMode().fake_tensor_converter": "keeps one tensor without values for each with values",
    _FAKE + "FakeTensorConverter.from_real_tensor": "makes a tensor without values for each other tensor",
    _FAKE + "is_fake": "tells a mask that a module holds from one without values",
    _SHAPES + "DimDynamic": "says which dimensions may change",
    _SHAPES + "StatelessSymbolicContext": "says so for each tensor",
    _SHAPES + "ShapeEnv": "knows the dimensions that may change",
    _SHAPES + "ShapeEnv().guards": "says which sizes a graph fits",
    _SHAPES + "ShapeEnv().replacements": "says which sizes turned out to be fixed",
    _SHAPES + "ShapeGuard.expr": "is a condition on sizes",
    "torch.SymInt().node": "holds the expression of a size",
    "torch.fx.experimental.sym_node.SymNode.expr": "is the expression of a size",
    "torch._dynamo.source.ConstantSource": "names an argument whose first dimension may change",
    "torch.utils._pytree.tree_map_only": "removes the values from the arguments of an operation",
    "torch.utils._pytree.tree_flatten": "takes the arguments of a step apart",
    "torch.utils._pytree.tree_unflatten": "puts the arguments of a step together again",
    "torch.utils._pytree.tree_leaves": "finds the tensors in what a run changes",
    "torch.utils._sympy.functions.ToFloat": "is a size as a float",
    "torch.utils._sympy.functions.FloatTrueDiv": "is a quotient with a size in it",
    "torch.utils._sympy.functions.IntTrueDiv": "is a quotient of sizes",
    "torch.utils._python_dispatch._disable_current_modes": "reads the values of constants during a capture",
    "torch._C._dispatch_has_kernel_for_dispatch_key": "says for which draws torch lacks the shape",
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
    "torch._dynamo.exc.TorchDynamoException": "reports that a graph could not be compiled",
    # Changes between steps that a graph would not see.
    "torch.nn.Module()._modules": "shows replaced parts",
    "torch.nn.Module()._parameters": "shows replaced parameters",
    "torch.nn.Module()._buffers": "shows replaced buffers",
    "torch.nn.Module()._forward_hooks": "shows new hooks",
    "torch.nn.Module()._forward_pre_hooks": "shows new hooks",
    "torch.nn.Module()._backward_hooks": "shows new hooks",
    "torch.nn.Module()._backward_pre_hooks": "shows new hooks",
    "torch.nn.modules.module._global_forward_hooks": "shows new hooks",
    "torch.nn.modules.module._global_forward_pre_hooks": "shows new hooks",
    "torch.nn.modules.module._global_backward_hooks": "shows new hooks",
    "torch.nn.modules.module._global_backward_pre_hooks": "shows new hooks",
    "torch.Tensor._backward_hooks": "shows new hooks",
    "torch.Tensor._post_accumulate_grad_hooks": "shows hooks, which graphs do not run",
    "torch._C._dynamo.guards.TensorGuards": "compares shapes, strides and dtypes of the tensors around a graph",
    "torch._C._len_torch_dispatch_stack": "shows modes that see the operations of a step",
    "torch.overrides._get_current_function_mode_stack": "shows modes that see the functions of a step",
    "torch.utils._device.DeviceContext": "tells the default device from other such modes",
    "torch.optim.optimizer._global_optimizer_pre_hooks": "shows hooks, which graphs do not run",
    "torch.optim.optimizer._global_optimizer_post_hooks": "shows hooks, which graphs do not run",
    "pyro.nn.PyroModule()._pyro_params": "shows replaced parameters",
    "pyro.nn.PyroModule()._pyro_samples": "shows replaced priors",
    "torch.optim.Optimizer()._optimizer_step_pre_hooks": "shows hooks, which graphs do not run",
    "torch.optim.Optimizer()._optimizer_step_post_hooks": "shows hooks, which graphs do not run",
    "pyro.optim.PyroOptim().optim_objs": "has the optimiser of each parameter",
    "pyro.optim.PyroOptim().grad_clip": "has the parameters whose gradients are clipped",
    # Pyro, and torch's distributions, without values.
    "torch.distributions.Distribution._validate_args": "is restored after a capture, which runs without validation",
    "pyro.poutine.runtime._PYRO_STACK": "shows the handlers around a step, which Pyro then takes",
    _STORE: "is written to in place",
    _STORE + ".__setitem__": "would replace a tensor that a graph holds",
    _STORE + "()._params": "has the tensors that a graph holds",
    _STORE + "()._param_to_name": "is restored after a capture",
    _STORE + "()._constraints": "is restored after an audit",
    "pyro.infer.traceenum_elbo._get_common_scale": "compares scales, which may be floats of the arguments",
    "pyro.util.torch_isnan": "reads values, for warnings",
    "pyro.ops.provenance.ProvenanceTensor": "marks what depends on what",
    "pyro.ops.provenance.ProvenanceTensor.__new__": "needs the memory of a tensor, which tensors without values lack",
    "pyro.ops.provenance.ProvenanceTensor()._t": "is the tensor that is marked",
    "pyro.ops.provenance.ProvenanceTensor()._provenance": "is the mark",
    "pyro.poutine.indep_messenger.CondIndepStackFrame": "is a plate",
    "pyro.poutine.indep_messenger.CondIndepStackFrame.__hash__": "reads the size of a plate, which may be open",
}

# Pieces that only exported graphs (`pyro_vae.value_checks`) use; steps are captured without them.
EXPORTS: dict[str, str] = {
    "torch.compiler._is_exporting_flag": "tells an export from a compilation, which torch 2.10 takes for one too",
    "torch._assert_async": "checks values in an exported graph",
}

# Pieces that other rooms use, for which there is no public name.
ELSEWHERE: dict[str, str] = {
    "torch.distributions.Distribution._validate_sample": "checks values in log_prob, as every subclass does",
    "torch.distributions.Distribution._extended_shape": "is the shape of draws, as every subclass computes it",
    "torch.distributions.Distribution._get_checked_instance": "makes the result of expand, as every subclass does",
    "torch.distributions.ExpTransform()._cached_x_y": "tells whether a value was made by this transform",
    "torch.distributions.Transform._inverse": "tells whether a transform has an inverse",
    "torch.distributions.transforms._InverseTransform": "tells whether a transform is turned around",
    "torch.distributions.Multinomial()._categorical": "holds the probabilities of a multinomial",
    "torch.distributions.Categorical()._param": "tells probabilities from logits",
    "torch.nn.modules.batchnorm._BatchNorm": "is the base of all batch norms",
    "torch.utils._python_dispatch.TorchDispatchMode": "sees the operations whose work or memory is estimated",
    "torch.utils._pytree.tree_map": "moves the arguments of an operation to the device meta",
    "pyro.infer.elbo.ELBO._get_traces": "runs model and guide for an objective, as every ELBO does",
    "pyro.infer.elbo.ELBO._vectorized_num_particles": "adds a plate for draws of z",
    "pyro.infer.elbo.ELBO._guess_max_plate_nesting": "counts the plates of a model",
    "pyro.distributions.RelaxedBernoulliStraightThrough.rsample()._unquantize": "marks draws that were rounded",
}

# Instances that need arguments.
_MADE: dict[str, Callable[[Any], object]] = {
    "torch.SymInt": lambda cls: cls(None),
    "torch.optim.Optimizer": lambda _: torch.optim.SGD([torch.zeros(1)]),  # the class itself has no step
    "pyro.optim.PyroOptim": lambda cls: cls(torch.optim.SGD, {}),
    "pyro.ops.provenance.ProvenanceTensor": lambda cls: cls(torch.zeros(1), frozenset("z")),
    "torch.distributions.ExpTransform": lambda cls: cls(cache_size=1),
    "torch.distributions.Multinomial": lambda cls: cls(1, torch.ones(2)),
    "torch.distributions.Categorical": lambda cls: cls(torch.ones(2)),
    "pyro.distributions.RelaxedBernoulliStraightThrough.rsample": lambda rsample: rsample(
        pyro.distributions.RelaxedBernoulliStraightThrough(torch.ones(()), logits=torch.zeros(()))
    ),
}


def missing(pieces: Iterable[str] = PIECES) -> list[str]:
    """Return the pieces that torch or Pyro lack here; none for the versions in the tests.

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
    """Say which pieces are missing (the first three) and what they are for; return None if none is."""
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
    """Return the object at a dotted path."""
    if path.endswith("()"):
        path = path.removesuffix("()")
        return _MADE.get(path, lambda cls: cls())(_found(path))
    where, _, name = path.rpartition(".")
    if not where:
        return importlib.import_module(name)
    owner = _found(where)
    if isinstance(owner, type) and name.startswith("__"):
        return vars(owner)[name]  # not an inherited one
    if isinstance(owner, ModuleType) and not hasattr(owner, name):
        return importlib.import_module(path)
    return getattr(owner, name)
