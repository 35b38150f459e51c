"""CompiledSVI: pyro.infer.SVI with a step that runs as one graph."""

from __future__ import annotations

import functools
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import torch
from pyro.infer import SVI
from pyro.infer.util import zero_grads
from pyro.optim import PyroOptim
from torch import Tensor

from pyro_vae.svi import private
from pyro_vae.svi.first_run import Shown, watched
from pyro_vae.svi.losses import as_pyro, stacked
from pyro_vae.svi.optimizer import as_pyro_optim, steps_of
from pyro_vae.svi.places import Change, Key
from pyro_vae.svi.refusals import CannotCaptureError
from pyro_vae.svi.structure import Structure, alike, structure
from pyro_vae.svi.watch import Watch

if TYPE_CHECKING:
    # It imports private pieces of torch, so it is imported where it is used, once the constructor has looked for them.
    from pyro_vae.svi.step_graph import Captured

__all__ = ["CompiledSVI"]

_MOST_CAPTURES, _MOST_STRUCTURES, _MOST_CHANGES = 8, 32, 32
_told: set[str] = set()  # what this process has been told that torch and Pyro lack
_TOO_MANY = (
    "its arguments have another structure, or what it reads is another, again and again{change}. Where a number or a "
    "string changes at each step, hand it over as a float or a tensor, and a weight of an objective as a tensor that "
    "is changed in place, or as a schedule; read a batch size as x.shape[0], since len(x) is a number"
)
_SLOWER = "Steps are run by Pyro itself, which is slower"


class CompiledSVI(SVI):
    """A drop-in for :class:`pyro.infer.SVI` whose step (loss, gradient and update) runs as one graph.

    The first step with arguments of a new structure is Pyro's own: it makes the parameters and validates the model.
    The next one captures what a step does, as tensor operations, and later ones run that. It gives the numbers of
    ``pyro.infer.SVI``, or one warning and its numbers from then on, or an error:

    - The contents of the arguments, their first dimension (the batch), floats among them, buffers, the learning rate
      and the other options of the optimiser may change from step to step. With floats the programs may compute and
      compare: a comparison that goes another way makes another graph. What reads them otherwise (``int``,
      ``math.exp``, a format) is left to Pyro.
    - What else the programs can reach in Python is looked at in each step: the attributes of modules and objects, what
      functions share, globals, containers, NumPy arrays, hooks. Where it changes between two steps, another graph is
      captured; where a run changes it itself, steps are left to Pyro.
    - A single step is Pyro's own within handlers, such as ``poutine.scale``, where a parameter has a gradient already,
      and where an argument requires one.
    - For what no rule can know, such as a file or an environment variable that a program reads, there is the audit:
      now and then Pyro and the graph both run, from the same state and random numbers. See
      :class:`pyro_vae.svi.audit.Audits` for when.
    - Where this torch or Pyro lacks a private piece that graphs rest on (:mod:`pyro_vae.svi.private` lists them), one
      warning a process says so, and all steps are Pyro's own.

    Args:
        model: a Pyro model; see what is refused at :class:`CannotCaptureError`.
        guide: its guide.
        optim: an optimiser of Pyro's, or one of torch's over the parameters. The updates of Adam, AdamW, ClippedAdam
            and SGD stand in the graph; another optimiser steps by itself, after the graph.
        loss: a Pyro ELBO, or a function ``loss(model, guide, *args, **kwargs)``.
        loss_and_grads: as of SVI.
        num_samples: as of SVI.
        num_steps: as of SVI.
        mode: ``"fast"`` compiles the graph with TorchInductor; ``"exact"`` runs it operation by operation, and the
            optimiser by itself, so that losses and parameters are those of ``pyro.infer.SVI`` to the last bit.
        fallback: what cannot be captured is run by Pyro itself after one warning (``"eager"``), or raises
            (``"error"``).
        audit: whether to compare graphs, also those of ``evaluate_loss``, with Pyro now and then. Losses and weights
            do not depend on it.
        also: called after the loss in each run, to hand out what handlers around the programs have noted; the tensor
            that it returns becomes the attribute ``noted``.
        **kwargs: as of SVI.

    Attributes:
        captures: how many graphs were captured.
        refused: why steps are run by Pyro itself, or None.
        number: the number of the last step, as the optimiser counts them.
        noted: what ``also`` returned in the last run, or None.

    Raises:
        CannotCaptureError: where a piece is missing and ``fallback="error"``.
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
        loss_and_grads: Callable[..., Any] | None = None,
        num_samples: int = 0,
        num_steps: int = 0,
        *,
        mode: Literal["fast", "exact"] = "fast",
        fallback: Literal["eager", "error"] = "eager",
        audit: bool = True,
        also: Callable[[], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        if mode not in ("fast", "exact"):
            raise ValueError(f'mode must be "fast" or "exact"; got {mode!r}')
        if fallback not in ("eager", "error"):
            raise ValueError(f'fallback must be "eager" or "error"; got {fallback!r}')
        super().__init__(model, guide, as_pyro_optim(optim), loss, loss_and_grads, num_samples, num_steps, **kwargs)
        self.mode = mode
        self.fallback = fallback
        self.audit = audit
        self.also = also
        self.captures = 0
        self.refused: str | None = None
        self.number = 0
        self.noted: Tensor | None = None
        self.steps_taken: dict[int, int] = {}
        self._said: set[str] = set()
        self._forgotten, self._last_change = 0, ""
        self.lasting = {*vars(self), "lasting"}  # what copies take along: all but the graphs
        self._start()
        lacking = private.lacking()
        if lacking is not None:
            self._refuse_all(lacking)

    def _start(self) -> None:
        self._captured: dict[Hashable, list[Captured]] = defaultdict(list)
        self._shown: dict[Hashable, Shown] = {}
        self._ran: Captured | None = None
        self._had_gradient: dict[int, Tensor] = {}
        self._watch = Watch(self)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a gradient step.

        Args:
            args: the arguments of model and guide.
            kwargs: those by name.

        Returns:
            The loss before the step, in nats: a sum over the examples, as Pyro has it; a float, or a tuple of them
            where the loss is one.

        Raises:
            CannotCaptureError: where the programs cannot be captured and ``fallback="error"``; the parameters are left
                as they were.
        """
        return as_pyro(self._run("step", args, kwargs))

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the loss without a step; its graph is not compiled.

        Args:
            args: the arguments of model and guide.
            kwargs: those by name.

        Returns:
            As :meth:`step`.

        Raises:
            CannotCaptureError: as in :meth:`step`.
        """
        return as_pyro(self._run("loss", args, kwargs))

    def steps(self, batches: Iterable[Any]) -> Tensor:
        """Takes a step per batch, with less work between the steps where the batches are a list or a tensor.

        Args:
            batches: tensors, or tuples of arguments; or a tensor ``(steps, batch, ...)``.

        Returns:
            The losses in nats, float64, ``(steps,)``, or ``(steps, losses)`` where a step has more; on a GPU without
            waiting for them.

        Raises:
            CannotCaptureError: as in :meth:`step`.
        """
        if not isinstance(batches, (list, tuple, Tensor)):  # what supplies them may change things in between
            return stacked([self._run("step", _arguments(batch), {}) for batch in batches])
        ahead = deque(map(_arguments, batches))
        losses: list[Any] = []
        while ahead:
            args = ahead.popleft()
            losses.append(self._run("step", args, {}))
            same: list[Any] = []
            while self._ran is not None and ahead and alike(ahead[0], args):
                if len(same) >= self._ran.audits.left(self.number):
                    break
                same.append(ahead.popleft())
            if self._ran is not None and same:
                before = len(losses)
                try:
                    losses.extend(self._ran.several(same))
                except CannotCaptureError as error:
                    self._refuse(error)
                    ahead.extendleft(reversed(same[len(losses) - before :]))
        return stacked(losses)

    def explain(self, *args: Any, **kwargs: Any) -> None:
        """Has Pyro evaluate the loss, for its error: a graph knows only that there is one."""
        SVI.evaluate_loss(self, *args, **kwargs)

    def _run(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._ran = None
        if self.refused is not None:
            return self._by_pyro(what, args, kwargs)
        try:
            if (change := self._watch.change()) is not None:
                self._forget(change)
            if _surroundings().something_around():
                return self._by_pyro(what, args, kwargs)
            found = structure(args, kwargs)
            key = self._key(what, found)
            shown = self._shown.get(key)
            if shown is None and len(self._shown) >= _MOST_STRUCTURES:
                raise CannotCaptureError(_TOO_MANY.format(change=self._last_change))
            if shown is None or shown.doubtful or shown.replaced():
                return self._first(what, found, args, kwargs)
            if what == "step" and (why := shown.gradient_elsewhere(found.tensors)):
                self._say_once(f"{why}, which no graph holds. Such steps are run by Pyro itself, which is slower")
                return self._by_pyro(what, args, kwargs)
            captured = next((c for c in self._captured[key] if c.takes(found.tensors)), None)
            captured = captured or self._capture(what, key, found)
            audited = captured.audits.due(captured.number + 1)
            loss = None if audited else captured(found.tensors, args, kwargs)
        except CannotCaptureError as error:
            self._refuse(error)
            return self._by_pyro(what, args, kwargs)
        if audited:
            return self._audited(what, captured, found, args, kwargs)
        self._ran = captured
        return loss

    def __getstate__(self) -> dict[str, Any]:
        """The state without the graphs, which a copy captures anew."""
        return {name: value for name, value in vars(self).items() if name in self.lasting}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a copy, without graphs."""
        self.__dict__.update(state)
        self._start()

    def _key(self, what: str, found: Structure) -> Hashable:
        """What two runs must have in common to share a graph."""
        around = torch.is_grad_enabled(), torch.get_default_dtype(), *map(_autocast, ("cpu", "cuda"))
        return (what, found.key, around, *[m.training for m in self._watch.modules])

    def _by_pyro(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A run by Pyro alone."""
        if what == "step":
            for p in self._had_gradient.values():
                if p.grad is None:  # Pyro leaves zeros after a step
                    p.grad = torch.zeros_like(p)
        loss = super().step(*args, **kwargs) if what == "step" else super().evaluate_loss(*args, **kwargs)
        if what == "step":
            self.number += 1
        self.steps_taken.clear()  # the optimiser has counted
        self._watch.note()
        if self.also is not None:
            self.noted = self.also()
        return loss

    def _first(self, what: str, found: Structure, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A run by Pyro, which shows what a graph has to know."""
        loss, shown = watched(lambda: self._by_pyro(what, args, kwargs), self.roots(found))
        parameters = shown.parameters.values()
        try:
            self._watch.add([*shown.modules, *found.callables()], parameters)
        except CannotCaptureError as error:  # the step is taken
            self._refuse(error)
            return loss
        key = self._key(what, found)  # which may be another, now that more modules are known
        again = key in self._shown and self._shown[key].doubtful
        shown.doubtful = shown.seed is not None and not again  # some guides set a seed in their first run only
        self._shown[key] = shown
        self._captured.pop(key, None)
        self._had_gradient |= {id(p): p for p in parameters if p.grad is not None}
        self.number = max(self.number, steps_of(self.optim, parameters))
        return loss

    def _audited(
        self, what: str, captured: Captured, found: Structure, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A run by Pyro and by the graph: the graph's stands where they agree, else Pyro's, which then takes over."""
        start = time.perf_counter()
        ran = captured.by_pyro(args, kwargs)
        number, agreed = captured.number + 1, captured.audits.agreed
        if ran.differs is None or ran.differs.rounding:
            if ran.differs is not None and self.mode == "exact":
                self._say_once(f"The graph rounds otherwise than Pyro does: {ran.differs.words}")
            self._watch.note()
            captured.audits.passed(number, time.perf_counter() - start)
            return captured(found.tensors, args, kwargs)
        kind = "step" if what == "step" else "evaluation"
        why = (
            f"an audit found that the graph does not do what Pyro does: at {kind} {number}, {ran.differs.words}. From "
            f"{kind} {agreed + 1} on, losses and weights may be wrong. Model, guide or loss read something that has "
            "changed, and that is not looked at; hand it over as an argument, or keep it in a buffer"
        )
        if self.fallback == "error":
            ran.undo()
            raise CannotCaptureError(why)
        self.refused = why
        warnings.warn(f"{why[0].upper()}{why[1:]}. {_SLOWER}", stacklevel=4)
        if what == "step":
            self.optim(ran.parameters)
            zero_grads(ran.parameters)
            self.number = number
        return ran.loss

    # What graphs rest on.

    def roots(self, found: Structure | None = None) -> list[Any]:
        """Where the walk through what the programs reach starts."""
        return [*self._watch.roots(), *(found.callables() if found is not None else [])]

    def look_no_more_at(self, keys: Iterable[Key]) -> None:
        """Leaves out places that each run changes: there, a change between two steps says nothing.

        Args:
            keys: of the places.
        """
        self._watch.without(keys)

    def changes_of_run(self) -> list[Change]:
        """What a run has just changed in Python of what is the user's own."""
        return self._watch.changes_by_user()

    def _forget(self, change: str) -> None:
        """Gives up all graphs after a change between two steps."""
        self._forgotten += 1
        self._last_change = f" (the last time {change})"
        if self._forgotten > _MOST_CHANGES:
            raise CannotCaptureError(_TOO_MANY.format(change=self._last_change))
        self._captured.clear()
        self._shown.clear()
        self._watch.start()

    def _capture(self, what: str, key: Hashable, found: Structure) -> Captured:
        parameters = self._shown[key].parameters
        if (why := self._shown[key].unrepeatable()) is not None:
            raise CannotCaptureError(why)
        if self.captures >= _MOST_CAPTURES:
            raise CannotCaptureError(_TOO_MANY.format(change=self._last_change))
        from pyro_vae.svi.step_graph import CapturedLoss, CapturedStep

        trained = [p for p in {id(p): p for p in parameters.values()}.values() if id(p) in self._had_gradient]
        captured: Captured
        if what == "step":
            captured = CapturedStep(self, found, parameters, trained)
        else:
            captured = CapturedLoss(self, found, parameters)
        self.captures += 1
        if not captured.takes(found.tensors):
            raise CannotCaptureError("its graph is right for no sizes of its arguments")
        self._captured[key].append(captured)
        self._forgotten = 0
        return captured

    def _refuse_all(self, lacking: str) -> None:
        """Leaves every step to Pyro; says so once per process, since it holds for each CompiledSVI."""
        if self.fallback == "error":
            raise CannotCaptureError(lacking)
        self.refused = lacking
        if lacking not in _told:
            _told.add(lacking)
            warnings.warn(f"CompiledSVI: {lacking}. {_SLOWER}", stacklevel=3)

    def _refuse(self, error: CannotCaptureError) -> None:
        where = f"The model and guide cannot be captured as one graph: {error}"
        if self.fallback == "error":
            raise CannotCaptureError(where) from error.__cause__
        self.refused = str(error)
        warnings.warn(f"{where}. {_SLOWER}", stacklevel=4)

    def _say_once(self, what: str) -> None:
        if what.partition(":")[0] not in self._said:
            self._said.add(what.partition(":")[0])
            warnings.warn(what, stacklevel=4)


@functools.cache
def _surroundings() -> ModuleType:
    """The module, which needs private pieces of torch; an import statement in each step would take its time."""
    from pyro_vae.svi import surroundings

    return surroundings


def _autocast(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _arguments(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
