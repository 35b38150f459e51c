"""The line that checks whether a clamp changes a value on its way into a density."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode

from pyro_vae.checks.inputs import Check, Inputs, loss_of
from pyro_vae.checks.report import Finding

__all__ = ["CHECKS"]

_CLAMPS = ("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", "nan_to_num")
# What is computed from a clamped value element by element counts as clamped too, and so does a loss that sums it. The
# output of a net's layer does not: there the clamp may be an activation.
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
    """Finds clamps that change a value, and follows the value through elementwise operations."""

    def __init__(self) -> None:
        super().__init__()
        self.clamped: dict[int, tuple[Tensor, str]] = {}  # by id; keeping the tensor keeps its id
        self.of_probs: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = getattr(func, "__name__", "")
        clamped = args[0] if name in _CLAMPS and args else None
        before = clamped.detach().clone() if isinstance(clamped, Tensor) else None
        out = func(*args, **(kwargs or {}))
        if before is not None and isinstance(out, Tensor):
            changed = int((out.detach() != before).sum())
            if changed:
                self._note(out, f"{name} changed {changed:,} of {before.numel():,} values ({{}})")
        elif name in _THROUGH and (words := self.words(_tensors((args, kwargs)))):
            for tensor in _tensors(out):
                self.clamped[id(tensor)] = (tensor, words)
        return out

    def words(self, tensors: Iterator[Tensor]) -> str:
        """Return the words about the first of these tensors that is clamped; empty if none is."""
        return next((self.clamped[id(t)][1] for t in tensors if id(t) in self.clamped), "")

    def _note(self, out: Tensor, words: str) -> None:
        where = _line_of_user()
        if where == _PROBS:
            self.of_probs.append(words.format(where))
        elif where:
            self.clamped[id(out)] = (out, words.format(where))


def _tensors(values: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)


def _line_of_user() -> str:
    """Return the line of the user's code that clamps; empty if a library clamps for its own purposes.

    torch's clamp of ``probs=`` is reported: it changes what the user asked for.
    """
    frame: FrameType | None = sys._getframe(3)
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


def _parameters(distribution: Distribution) -> Iterator[Tensor]:
    """Yield the tensors from which a distribution is made, also inside nested distributions."""
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
        f"{found[0]}: there the bound belongs to another p or q, and the gradient is zero. Use logits, and softplus "
        "for scales",
        float(len(found)),
    )


CHECKS = [
    Check(
        "clamps",
        "Model and guide",
        "the inputs of p and q before each clamp in model, guide and objective against those after it",
        "An active clamp makes the bound that of another p or q, and stops the gradient.",
        _clamps,
        "whether a clamp changes p or q",
    ),
]
