"""The updates of Adam, AdamW, ClippedAdam and SGD as tensor operations, for the graph of a step.

Each follows the rule of its optimiser and uses the optimiser's state, so the optimiser can take over at any step. What
changes from step to step (the learning rate, the bias corrections of Adam, the other options) enters as numbers in
float64, computed in Python as the optimiser does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import is_, itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from pyro_vae.svi.optimizer import SharedOptim

__all__ = ["Updates", "updates_of"]


class Rule(NamedTuple):
    """How one optimiser changes a parameter.

    Args:
        numbers: computes the numbers of a step from the options of a parameter group and the number of the step.
        apply: changes a parameter and its state in place, given parameter, gradient, state, options and numbers.
        state: the names of the tensors of the state.
        refuses: options that must be off.
    """

    numbers: Callable[[dict[str, Any], int], tuple[float, ...]]
    apply: Callable[[Tensor, Tensor, dict[str, Any], dict[str, Any], Tensor], None]
    state: tuple[str, ...]
    refuses: tuple[str, ...] = ()


def _decayed(g: Tensor, p: Tensor, l2: Tensor, group: dict[str, Any]) -> Tensor:
    """Add the gradient of the weight decay; without decay, save a pass over the weights."""
    return g + l2 * p if group["weight_decay"] and not group.get("decoupled_weight_decay") else g


def _adam_numbers(group: dict[str, Any], step: int) -> tuple[float, ...]:
    beta1, beta2 = group["betas"]
    root = math.sqrt(1 - beta2**step)
    decay = float(group["weight_decay"])
    decoupled = group.get("decoupled_weight_decay", False)
    l2, shrink = (0.0, 1 - group["lr"] * decay) if decoupled else (decay, 1.0)
    return 1 - beta1, beta2, 1 - beta2, group["lr"] / (1 - beta1**step), root, group["eps"], l2, shrink


def _adam(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], c: Tensor) -> None:
    new, beta2, new_square, size, root, eps, l2, shrink = c.unbind()
    g = _decayed(-g if group["maximize"] else g, p, l2, group)
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(g, new)
    square.mul_(beta2).add_(new_square * g * g)
    p.copy_(p * shrink - size * (mean / (square.sqrt() / root + eps)))


def _clipped_numbers(group: dict[str, Any], step: int) -> tuple[float, ...]:
    beta1, beta2 = group["betas"]
    size = group["lr"] * group["lrd"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
    return beta1, 1 - beta1, beta2, 1 - beta2, size, group["eps"], group["weight_decay"], group["clip_norm"]


def _clipped(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], c: Tensor) -> None:
    beta1, new, beta2, new_square, size, eps, l2, clip = c.unbind()
    g = torch.minimum(torch.maximum(g, -clip), clip)
    g = _decayed(g, p, l2, group)
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.mul_(beta1).add_(new * g)
    spread = g - mean if group["centered_variance"] else g
    square.mul_(beta2).add_(new_square * spread * spread)
    p.copy_(p - size * (mean / (square.sqrt() + eps)))


def _sgd_numbers(group: dict[str, Any], step: int) -> tuple[float, ...]:
    return group["lr"], group["weight_decay"], group["momentum"]


def _sgd(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], c: Tensor) -> None:
    lr, l2, momentum = c.unbind()
    g = _decayed(-g if group["maximize"] else g, p, l2, group)
    if group["momentum"]:
        buffer = state["momentum_buffer"]
        buffer.mul_(momentum).add_(g)
        g = g + momentum * buffer if group["nesterov"] else buffer
    p.copy_(p - lr * g)


_RULES: dict[type, Rule] = {
    torch.optim.Adam: Rule(_adam_numbers, _adam, ("exp_avg", "exp_avg_sq"), ("amsgrad", "differentiable")),
    torch.optim.AdamW: Rule(_adam_numbers, _adam, ("exp_avg", "exp_avg_sq"), ("amsgrad", "differentiable")),
    ClippedAdam: Rule(_clipped_numbers, _clipped, ("exp_avg", "exp_avg_sq")),
    torch.optim.SGD: Rule(_sgd_numbers, _sgd, ("momentum_buffer",), ("differentiable", "dampening")),
}


_BAKED = ("maximize", "nesterov", "centered_variance", "decoupled_weight_decay", "amsgrad", "dampening")


# Optimisers with another ``__call__`` do more than the rule.
_CALLS = (PyroOptim.__call__, PyroLRScheduler.__call__, SharedOptim.__call__)


class _Member(NamedTuple):
    parameter: Tensor
    optimizer: torch.optim.Optimizer
    group_number: int
    rule: Rule

    @property
    def group(self) -> dict[str, Any]:
        """The options; looked up each time, since loading a state replaces the dictionaries."""
        return self.optimizer.param_groups[self.group_number]

    @property
    def state(self) -> dict[str, Any]:
        """The optimiser's state of this parameter."""
        return self.optimizer.state[self.parameter]


class Updates:
    """The updates of some parameters, each by the rule of its optimiser.

    Args:
        optim: has the optimisers.
        members: parameters, and what updates each.
        steps: the number of steps of each parameter, if the optimiser counts them on a GPU, where reading would wait;
            all graphs of one CompiledSVI share it.
    """

    def __init__(
        self, optim: PyroOptim | torch.optim.Optimizer, members: Sequence[_Member], steps: dict[int, int]
    ) -> None:
        self.optim = optim
        self.members = list(members)
        self.steps = steps
        self._device = self.members[0].parameter.device
        groups = list({id(m.group): m for m in self.members}.values())
        self._readers = [(m, _reader(m.group)) for m in groups]
        keys = self._keys()
        self._leaders = [keys.index(key) for key in keys]  # for each member, the first that shares its row of numbers
        self._rows = list(dict.fromkeys(self._leaders))
        self._width = max(len(m.rule.numbers(m.group, 1)) for m in self.members)
        self._count_in_python = [m for m in self.members if isinstance(m.state.get("step"), int)]
        self._decayed = [m for m, _ in self._readers if "lrd" in m.group]  # ClippedAdam's
        tensors = [_tensors(m) for m in self.members]
        self._names = [(i, name) for i, held in enumerate(tensors) for name in held]
        self._held = [t for held in tensors for t in held.values()]
        self._structure = self._structural()
        self._options: list[tuple[Any, ...]] = []
        self._fit = True
        self._objects = getattr(optim, "optim_objs", None)
        optimizers = {id(m.optimizer): m.optimizer for m in self.members}.values()
        self._hooks = list({id(hooks): hooks for o in optimizers for hooks in _hooks_of(o)}.values())
        self._attributes = [vars(optimizer) for optimizer in optimizers]
        self._methods = [attributes.get("step") for attributes in self._attributes]

    def _keys(self) -> list[tuple[Rule, tuple[Any, ...], int]]:
        """Return for each member what those who share a row of numbers have in common."""
        options = {id(m.group): read(m.group) for m, read in self._readers}
        return [(m.rule, options[id(m.group)], self._steps_taken(m, m.state)) for m in self.members]

    def _together(self) -> bool:
        """Return True if members that share a row still can."""
        keys = self._keys()
        return all(key == keys[leader] for key, leader in zip(keys, self._leaders, strict=True))

    def _structural(self) -> list[Any]:
        """Return the options that are fixed in the graph."""
        return [
            [isinstance(g["lr"], Tensor), bool(g["weight_decay"]), bool(g.get("momentum")), *[g.get(n) for n in _BAKED]]
            for g in (m.group for m, _ in self._readers)
        ]

    def fit(self, tensors: list[Tensor]) -> bool:
        """Return True if a graph fits the present options, steps and state of the optimisers.

        Args:
            tensors: those that the graph reads and writes. If the optimisers have another state, as after loading one,
                its tensors replace the old ones here.
        """
        if getattr(self.optim, "optim_objs", None) is not self._objects or any(self._hooks) or self._own_steps():
            return False
        states = [m.state for m in self.members]
        if not all(map(is_, [states[i].get(name) for i, name in self._names], self._held)):
            self._follow(states, tensors)
        options = [read(m.group) for m, read in self._readers]
        if options != self._options:
            self._options = options
            self._fit = self._structural() == self._structure and self._together()
        taken = list(map(self._steps_taken, self.members, states))
        return self._fit and taken == [taken[leader] for leader in self._leaders]

    def _own_steps(self) -> bool:
        """Return True if an optimiser has another ``step`` since."""
        return not all(map(is_, map(dict.get, self._attributes, repeat("step")), self._methods))

    def _follow(self, states: list[dict[str, Any]], tensors: list[Tensor]) -> None:
        """Replace the old state by the present state of the optimisers."""
        for place, ((i, name), old) in enumerate(zip(self._names, self._held, strict=True)):
            if name not in states[i]:  # it was cleared, to start again
                states[i][name] = torch.zeros_like(old)
            new = states[i][name]
            if new is not old:
                tensors[:] = [new if t is old else t for t in tensors]
                self._held[place] = new
                self.steps.pop(id(self.members[i].parameter), None)

    def numbers(self, steps: int = 1) -> Tensor:
        """Return the numbers of the next steps: float64 ``(steps, rows, columns)``, a row per kind of parameter.

        Args:
            steps: how many.
        """
        leaders = [self.members[i] for i in self._rows]
        known = [(m.rule, m.group, self._steps_taken(m, m.state) + 1) for m in leaders]
        table = np.zeros((steps, len(known), self._width))  # faster than torch.tensor
        for i in range(steps):
            for row, (rule, group, step) in enumerate(known):
                decayed = group if i == 0 else {**group, "lr": group["lr"] * group.get("lrd", 1.0) ** i}
                numbers = rule.numbers(decayed, step + i)
                table[i, row, : len(numbers)] = numbers
        return torch.from_numpy(table).to(self._device)

    def apply(self, gradients: Sequence[Tensor], numbers: Tensor) -> None:
        """Change the parameters and the state of their optimisers in place.

        Args:
            gradients: one per member.
            numbers: those of one step, from :meth:`numbers`.
        """
        for member, leader, g in zip(self.members, self._leaders, gradients, strict=True):
            p, state = member.parameter, member.state
            used = numbers[self._rows.index(leader), : len(member.rule.numbers(member.group, 1))].to(p.dtype)
            member.rule.apply(p, g, state, member.group, used)
            if isinstance(state.get("step"), Tensor):
                state["step"].add_(1)

    def tensors(self) -> list[Tensor]:
        """Return the parameters and the state, which the updates change."""
        return [m.parameter for m in self.members] + [t for m in self.members for t in _tensors(m).values()]

    def count(self, steps: int = 1) -> None:
        """Count steps for the optimisers, except where the graph has.

        Args:
            steps: how many.
        """
        for member in self.members if self.steps else ():  # empty on a CPU
            if id(member.parameter) in self.steps:  # if not, it is read when needed
                self.steps[id(member.parameter)] += steps
        for member in self._decayed:
            member.group["lr"] *= member.group["lrd"] ** steps
        for member in self._count_in_python:
            member.state["step"] = member.state.get("step", 0) + steps

    def _steps_taken(self, member: _Member, state: dict[str, Any]) -> int:
        step = state.get("step", 0)
        if isinstance(step, int):
            return step
        if not step.is_cuda:
            return int(step.item())  # faster than int(step)
        key = id(member.parameter)
        if key not in self.steps:
            self.steps[key] = int(step)
        return self.steps[key]


def updates_of(
    optim: PyroOptim | torch.optim.Optimizer, leaves: Sequence[Tensor], steps: dict[int, int]
) -> Updates | None:
    """Return the updates of parameters that an optimiser has stepped already; None if its rule is not among these."""
    members = [_member(optim, p) for p in leaves]
    known = [m for m in members if m is not None]
    return Updates(optim, known, steps) if known and len(known) == len(members) else None


def _member(optim: PyroOptim | torch.optim.Optimizer, p: Tensor) -> _Member | None:
    if isinstance(optim, PyroOptim) and type(optim).__call__ not in _CALLS:
        return None
    if isinstance(optim, PyroOptim) and not hasattr(optim, "optimizer"):
        if optim.grad_clip.get(p) is not None or p not in optim.optim_objs:
            return None
        found = optim.optim_objs[p]
        optimizer = getattr(found, "optimizer", found)  # if it is a schedule
    else:
        optimizer = getattr(optim, "optimizer", optim)
    rule = _RULES.get(type(optimizer))
    number = next((i for i, g in enumerate(optimizer.param_groups) if any(q is p for q in g["params"])), None)
    if (
        rule is None
        or number is None
        or p.is_complex()
        or any(optimizer.param_groups[number].get(option) for option in rule.refuses)
    ):
        return None
    if any(_hooks_of(optimizer)) or not _counted(vars(optimizer).get("step")):
        return None
    state = optimizer.state.get(p)
    if optimizer.param_groups[number].get("momentum") and (state or {}).get("momentum_buffer") is None:
        return None
    if isinstance(optimizer.param_groups[number]["lr"], Tensor) or ("exp_avg" in rule.state and not state):
        return None
    return _Member(p, optimizer, number, rule)


def _counted(step: Callable[..., Any] | None) -> bool:
    """Return True if an object's own ``step`` is None, or the one by which a schedule counts steps."""
    code = getattr(getattr(step, "__func__", step), "__code__", None)
    return step is None or (code is not None and code.co_filename == torch.optim.lr_scheduler.__file__)


def _hooks_of(optimizer: torch.optim.Optimizer) -> list[dict[int, Any]]:
    """Return the hooks that run with a step."""
    mine: list[Any] = [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
    return [*mine, _global_optimizer_pre_hooks, _global_optimizer_post_hooks]


def _reader(group: dict[str, Any]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return a function that reads all options of a group."""
    return itemgetter(*[name for name in group if name != "params"])


def _tensors(member: _Member) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's state that a step changes."""
    state = member.state
    return {name: t for name in (*member.rule.state, "step") if isinstance(t := state.get(name), Tensor)}
