"""CompiledSVI: pyro.infer.SVI with a step that runs as one graph."""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.optim import PyroOptim
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_vae.programs import modules_around
from pyro_vae.svi.capture import CannotCaptureError
from pyro_vae.svi.captured import Captured, CapturedLoss, CapturedStep
from pyro_vae.svi.loss import Loss
from pyro_vae.svi.optimizer import as_pyro_optim
from pyro_vae.svi.structure import Structure, alike, structure

__all__ = ["CompiledSVI"]

# What objects hold that is known by its value.
_NUMBERS = (bool, int, float, str)
_MOST_CAPTURES, _MOST_STRUCTURES = 8, 32
_TOO_MANY = (
    "its arguments have another structure, or its modules other attributes, again and again. Where a number or a "
    "string changes at each step, hand it over as a float or a tensor, and a weight of an objective as a tensor that "
    "is changed in place, or as a schedule; read a batch size as x.shape[0], since len(x) is a number"
)


class CompiledSVI(SVI):
    """A drop-in for :class:`pyro.infer.SVI` whose step (loss, gradient and update) runs as one graph.

    The first step with arguments of a new structure is Pyro's own: it makes the parameters and validates the model.
    The next one captures what a step does, as tensor operations, and later ones run that. The contents of the
    arguments, their first dimension (the batch), floats among them, buffers, the learning rate and the other options of
    the optimiser may change from step to step. With floats the programs may compute and compare; what reads them
    otherwise (``int``, ``math.exp``, a format) is refused, and a comparison that goes another way makes another graph.
    A change of what modules, or the objects that model, guide and loss are methods of, hold in their attributes (parts,
    hooks, tensors, numbers, the mode) is seen, and makes another graph; so do other arguments of Python. What model and
    guide find elsewhere becomes a constant. A step within handlers, such as ``poutine.scale``, is Pyro's own.

    Args:
        model: a Pyro model; see what is refused at :class:`CannotCaptureError`.
        guide: its guide.
        optim: an optimiser of Pyro's, or one of torch's over the parameters. The updates of Adam, AdamW, ClippedAdam
            and SGD stand in the graph; another optimiser steps by itself, after the graph.
        loss: a Pyro ELBO, or a function ``loss(model, guide, *args, **kwargs)``.
        mode: ``"fast"`` compiles the graph with TorchInductor; ``"exact"`` runs it operation by operation, and the
            optimiser by itself, so that losses and parameters are those of ``pyro.infer.SVI`` to the last bit.
        fallback: what cannot be captured is run by Pyro itself after one warning (``"eager"``), or raises
            (``"error"``).
        also: called after the loss in each run, for what handlers around the programs have noted; its tensor becomes
            the attribute ``noted``.

    Attributes:
        captures: how many graphs were captured.
        refused: why steps are run by Pyro itself, or None.

    Raises:
        TypeError: where ``optim`` is no optimiser.
        ValueError: for another mode or fallback.

    Example:
        >>> import pyro, torch
        >>> from pyro.infer import Trace_ELBO
        >>> from pyro_vae import build
        >>> from pyro_vae.svi import CompiledSVI
        >>> vae = build((1, 8, 8), latent_dim=2, hidden=(8,))
        >>> svi = CompiledSVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO(), mode="exact")
        >>> losses = [svi.step(torch.rand(16, 1, 8, 8).bernoulli()) for _ in range(3)]
        >>> svi.captures
        1
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: PyroOptim | torch.optim.Optimizer | type[torch.optim.Optimizer],
        loss: Any,
        *,
        mode: Literal["fast", "exact"] = "fast",
        fallback: Literal["eager", "error"] = "eager",
        also: Callable[[], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        if mode not in ("fast", "exact"):
            raise ValueError(f'mode must be "fast" or "exact"; got {mode!r}')
        if fallback not in ("eager", "error"):
            raise ValueError(f'fallback must be "eager" or "error"; got {fallback!r}')
        super().__init__(model, guide, as_pyro_optim(optim), loss, **kwargs)
        self.mode = mode
        self.fallback = fallback
        self.also = also
        self.captures = 0
        self.refused: str | None = None
        self.noted: Tensor | None = None
        self.steps_taken: dict[int, int] = {}
        self._captured: dict[Hashable, list[Captured]] = defaultdict(list)
        self._parameters: dict[Hashable, dict[str, Tensor]] = {}
        self.rebound: list[tuple[Any, str, Any]] = []
        self._ran: CapturedStep | None = None
        self._whole = self._programs()
        self._held: list[tuple[dict[str, Any], str, Any]] = []
        self._numbers: list[tuple[dict[str, Any], str, Any]] = []
        self._sizes: list[tuple[dict[str, Any], int]] = []
        self._trainable: list[tuple[Tensor, bool]] = []
        self._had_gradient: dict[int, Tensor] = {}
        self._modules: dict[int, nn.Module] = {}
        self._in_store: dict[Hashable, set[str]] = {}

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a gradient step.

        Args:
            args: the arguments of model and guide.
            kwargs: those by name.

        Returns:
            The loss before the step, in nats: a sum over the examples, as Pyro has it; a :class:`Loss`, ``()``.

        Raises:
            CannotCaptureError: where the programs cannot be captured and ``fallback="error"``; the parameters are left
                as they were.
        """
        return self._run("step", args, kwargs)

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss without a step; its graph is not compiled.

        Args:
            args: the arguments of model and guide.
            kwargs: those by name.

        Returns:
            As :meth:`step`.
        """
        return self._run("loss", args, kwargs)

    def steps(self, batches: Iterable[Any]) -> Tensor:
        """Takes a step a batch, with less work between them where they are given as a list or a tensor.

        Args:
            batches: tensors, or tuples of arguments; or a tensor ``(steps, batch, ...)``.

        Returns:
            The losses, ``(steps,)``, in nats.

        Raises:
            CannotCaptureError: as in :meth:`step`.
        """
        if not isinstance(batches, (list, tuple, Tensor)):  # what supplies them may change things in between
            return _stacked([self.step(*_arguments(batch)) for batch in batches])
        ahead = deque(map(_arguments, batches))
        losses: list[Any] = []
        while ahead:
            args = ahead.popleft()
            losses.append(self.step(*args))
            same = []
            while self._ran is not None and ahead and alike(ahead[0], args):
                same.append(ahead.popleft())
            if self._ran is not None and same:
                losses += self._ran.several(same)
        return _stacked(losses)

    def explain(self, *args: Any, **kwargs: Any) -> None:
        """Runs model and guide by Pyro, for the error that a graph has only the sign of; no step is taken."""
        SVI.evaluate_loss(self, *args, **kwargs)

    def _run(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._ran = None
        if self.refused is not None or _PYRO_STACK:  # handlers around the step
            return self._by_pyro(what, args, kwargs)
        try:
            if self._changed():
                self._forget()
            found = structure(args, kwargs)
            key = self._key(what, found)
            if key not in self._parameters and len(self._parameters) >= _MOST_STRUCTURES:
                raise CannotCaptureError(_TOO_MANY)
            if key not in self._parameters or self._replaced(key):
                return self._first(what, found, args, kwargs)
            captured = next((c for c in self._captured[key] if c.takes(found.tensors)), None)
            captured = captured or self._capture(what, key, found)
        except CannotCaptureError as error:
            self._refuse(error)
            return self._by_pyro(what, args, kwargs)
        self._ran = captured if isinstance(captured, CapturedStep) else None
        return captured(found.tensors, args, kwargs)

    def _key(self, what: str, found: Structure) -> Hashable:
        """What two runs must have in common to share a graph."""
        around = torch.is_grad_enabled(), torch.get_default_dtype(), *map(_autocast, ("cpu", "cuda"))
        return (what, found.key, around, *[m.training for m in self._modules.values()])

    def _by_pyro(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if what == "step":
            for p in self._had_gradient.values():
                if p.grad is None:  # Pyro leaves zeros after a step
                    p.grad = torch.zeros_like(p)
        loss = super().step(*args, **kwargs) if what == "step" else super().evaluate_loss(*args, **kwargs)
        self.steps_taken.clear()  # the optimiser has counted
        if self.also is not None:
            self.noted = self.also()
        return torch.tensor(loss, dtype=torch.float64).as_subclass(Loss) if isinstance(loss, float) else loss

    def _first(self, what: str, found: Structure, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A step of Pyro's own, which shows the parameters and the modules."""
        ran: dict[int, nn.Module] = {}

        def note(module: nn.Module, _: Any) -> None:
            ran[id(module)] = module

        hook = register_module_forward_pre_hook(note)
        try:
            with poutine.trace(param_only=True) as seen:
                loss = self._by_pyro(what, args, kwargs)
        finally:
            hook.remove()
        leaves = {name: site["value"].unconstrained() for name, site in seen.trace.nodes.items()}
        for module in (*modules_around(self.model), *modules_around(self.guide), *ran.values()):
            for part in module.modules():
                self._modules.setdefault(id(part), part)
        key = self._key(what, found)
        self._parameters[key] = leaves
        self._note_held()
        self._had_gradient |= {id(p): p for p in leaves.values() if p.grad is not None}
        self._in_store[key] = {name for name, p in leaves.items() if pyro.get_param_store()._params.get(name) is p}
        self._captured.pop(key, None)
        return loss

    def _note_held(self) -> None:
        """Notes what modules and objects hold and what is trained, of which a change makes graphs wrong."""
        self._whole = self._programs()
        places = [vars(owner) for owner in self.owners()]
        for module in self._modules.values():
            places += [module._modules, module._parameters, module._buffers, module._forward_hooks]
            places += [module._forward_pre_hooks, module._backward_hooks]
        things = [(place, name, thing) for place in places for name, thing in place.items() if name != "training"]
        self._held = [(place, name, thing) for place, name, thing in things if _is_held(thing)]
        self._numbers = [(place, name, thing) for place, name, thing in things if type(thing) in _NUMBERS]
        self._sizes = [(place, len(place)) for place in places]
        parameters = [p for leaves in self._parameters.values() for p in leaves.values()]
        parameters += [p for module in self._modules.values() for p in module.parameters(recurse=False)]
        self._trainable = [(p, p.requires_grad) for p in {id(p): p for p in parameters}.values()]

    def _changed(self) -> bool:
        """Whether something is another now: a part, a parameter, a number that a module holds, what is trained."""
        return (
            self._programs() != self._whole
            or any(len(place) != size for place, size in self._sizes)
            or any(place.get(name) is not thing for place, name, thing in self._held)
            or any(place.get(name) != thing for place, name, thing in self._numbers)
            or any(p.requires_grad != trained for p, trained in self._trainable)
        )

    def _programs(self) -> list[Any]:
        return [self.model, self.guide, self.loss, self.loss_and_grads, self.optim]

    def owners(self) -> list[Any]:
        """The modules, and the objects that the programs and the loss are, or are methods of."""
        owners = [getattr(program, "__self__", program) for program in (self.model, self.guide, self.loss)]
        return [*self._modules.values(), *[o for o in owners if hasattr(o, "__dict__") and id(o) not in self._modules]]

    def _forget(self) -> None:
        """Starts anew."""
        for known in (self._captured, self._parameters, self._modules):
            known.clear()
        self._note_held()

    def _replaced(self, key: Hashable) -> bool:
        """Whether another parameter has taken the name of one, as after ``pyro.clear_param_store()``."""
        store, known = pyro.get_param_store()._params, self._in_store[key]
        return any(name in known and store.get(name) is not p for name, p in self._parameters[key].items())

    def _capture(self, what: str, key: Hashable, found: Structure) -> Captured:
        if self.captures >= _MOST_CAPTURES:
            raise CannotCaptureError(_TOO_MANY)
        captured: Captured
        if what == "step":
            leaves = list({id(p): p for p in self._parameters[key].values()}.values())  # one may have two names
            captured = CapturedStep(self, leaves, [p for p in leaves if id(p) in self._had_gradient], found)
        else:
            captured = CapturedLoss(self, found)
        self.captures += 1
        self._captured[key].append(captured)
        return captured

    def _refuse(self, error: CannotCaptureError) -> None:
        where = f"The model and guide cannot be captured as one graph: {error}"
        if self.fallback == "error":
            raise CannotCaptureError(where) from error.__cause__
        self.refused = str(error)
        warnings.warn(f"{where}. Steps are run by Pyro itself, which is slower", stacklevel=4)


def _is_held(thing: Any) -> bool:
    """Whether a graph holds this very object: a tensor, a module, a function, or the lack of one."""
    return thing is None or isinstance(thing, Tensor) or callable(thing)


def _autocast(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _arguments(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def _stacked(losses: list[Any]) -> Tensor:
    if not losses:
        return torch.empty(0)
    return torch.stack([torch.as_tensor(loss) for loss in losses]).as_subclass(Tensor)
