"""Whether a clamp changes a value on the way to a density."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode

from pyro_vae.checks.inputs import Check, Inputs, loss_of
from pyro_vae.checks.report import Finding

__all__ = ["CHECKS"]

_CLAMPS = ("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", "nan_to_num")
# What is made of a clamped value element by element is clamped too, and so is a loss that sums it. What a layer of a
# net makes of it is not: there a clamp may be the activation.
_THROUGH = (
    *("add", "sub", "rsub", "mul", "div", "neg", "pow", "exp", "log", "log1p", "expm1", "sqrt", "square", "abs"),
    *("softplus", "sigmoid", "tanh", "expand", "expand_as", "view", "reshape", "unsqueeze", "squeeze", "flatten"),
    *("broadcast_tensors", "chunk", "unbind", "split", "to", "double", "float", "clone", "contiguous", "detach"),
    *("__getitem__", "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__pow__"),
    *(
        "sum",
        "mean",
        "__neg__",
        "__rtruediv__",
        "logsigmoid",
        "binary_cross_entropy",
        "true_divide",
        "multiply",
        "negative",
    ),
)
_PROBS = "torch's clamp of probs=; give logits= instead"


class _Watch(TorchFunctionMode):
    """Watches for clamps that change a value, and follows it element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.clamped: dict[int, tuple[Tensor, str]] = {}  # by id; the tensor is kept, so that no other takes its id
        self.of_probs: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        watched = name in _CLAMPS and args and isinstance(args[0], Tensor)
        before = args[0].detach().clone() if watched else None
        out = func(*args, **(kwargs or {}))
        if before is not None:
            changed = int((out.detach() != before).sum())
            if changed:
                self._note(out, f"{name} changed {changed:,} of {before.numel():,} values ({{}})")
        elif name in _THROUGH and (words := self.words(_tensors((args, kwargs)))):
            for tensor in _tensors(out):
                self.clamped[id(tensor)] = (tensor, words)
        return out

    def words(self, tensors: Iterator[Tensor]) -> str:
        """What was said of the first of these that is clamped; empty where none is."""
        return next((self.clamped[id(t)][1] for t in tensors if id(t) in self.clamped), "")

    def _note(self, out: Tensor, words: str) -> None:
        where = _line_of_user()
        if where == _PROBS:
            self.of_probs.append(words.format(where))
        elif where:
            self.clamped[id(out)] = (out, words.format(where))


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)


def _line_of_user() -> str:
    """The line of the user's code that clamps; empty where a library does so for reasons of its own.

    torch's clamp of ``probs=`` is no such reason: it changes what the user asked for.
    """
    frame: Any = sys._getframe(3)
    by_probs = False
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith("pyro_vae.model_guide"):
            return _PROBS if by_probs else ""
        if module.split(".")[0] not in ("torch", "pyro", "pyro_vae"):
            return _PROBS if by_probs else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        by_probs = by_probs or function == "probs_to_logits"
        if not by_probs and function != "clamp_probs" and module.startswith(("torch.distributions", "pyro")):
            return ""
        frame = frame.f_back
    return ""


def _parameters(distribution: Any) -> Iterator[Tensor]:
    """The tensors that a distribution was made of, through those around it."""
    for value in vars(distribution).values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Distribution):
            yield from _parameters(value)


def _clamps(inputs: Inputs) -> Finding:
    p = inputs.given
    with torch.no_grad(), _Watch() as watch:
        guide = p.trace_guide().nodes[p.latent]
        model = p.trace_model(guide["value"]).nodes
        sites = (guide, model[p.latent], model[p.observed])
        for site in sites:
            site["fn"].log_prob(site["value"])
        found = watch.of_probs + [w for site in sites if (w := watch.words(_parameters(site["fn"])))]
        if inputs.objective is not None and not found:
            words = watch.words(iter([loss_of(inputs)]))
            found = watch.of_probs + ([words] if words else [])
    if not found:
        return Finding("passed", difference=0.0)
    return Finding(
        "failed",
        f"{found[0]}: there the bound is that of another p or q, and the gradient is zero. Work with logits, and with "
        "softplus for scales",
        float(len(found)),
    )


CHECKS = [
    Check(
        "clamps",
        "Model and guide",
        "what p and q are made of, before and after each clamp in model, guide and objective",
        "Where a clamp is active the bound is that of another p or q, and no gradient leads back.",
        _clamps,
        "whether a clamp changes p or q",
    ),
]
