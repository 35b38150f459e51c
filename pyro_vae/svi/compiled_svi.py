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
from pyro.infer import ELBO, SVI
from pyro.infer.util import zero_grads
from pyro.optim import PyroOptim
from torch import Tensor

from pyro_vae.argument_checks import one_of
from pyro_vae.svi import private
from pyro_vae.svi.arguments import Arguments, alike, args_of, known_ahead, take_apart
from pyro_vae.svi.first_run import FirstRun, run_first
from pyro_vae.svi.losses import Loss, as_pyro, stacked
from pyro_vae.svi.optimizer import as_pyro_optim, steps_of
from pyro_vae.svi.refusals import CannotCaptureError
from pyro_vae.svi.watch import Watch

if TYPE_CHECKING:
    # It imports private pieces of torch, so it is imported where it is used, after the constructor has looked for them.
    from pyro_vae.svi.step_graph import RunGraph

__all__ = ["CompiledSVI"]

_What = Literal["step", "loss"]
_MOST_GRAPHS, _MOST_STRUCTURES, _MOST_CHANGES = 8, 32, 32
_told: set[str] = set()  # the missing pieces of torch and Pyro that this process has been warned of
_TOO_MANY = (
    "the structure of its arguments, or something that it reads in Python, changes too often{change}. If a number "
    "changes in each step, pass it as a float or a tensor; make the weight of an objective a tensor that is changed in "
    "place, or a schedule; read the batch size as x.shape[0], since len(x) is a number"
)
_SLOWER = "Pyro runs the steps itself, which is slower"


class CompiledSVI(SVI):
    """A drop-in for :class:`pyro.infer.SVI` that runs its step (loss, gradient and update) as one graph.

    Pyro takes the first step with arguments of a new structure: it makes the parameters and validates the model. The
    next step is captured as tensor operations, and later steps run that graph. You get the numbers of
    ``pyro.infer.SVI``; or one warning, and Pyro's numbers from then on; or an error:

    - The contents and the first dimension (the batch) of the arguments, floats among them, buffers, the learning rate
      and the other options of the optimiser may change from step to step. The programs may compute with floats and
      compare them; if a comparison goes the other way, another graph is captured. If they read a float in any other
      way (``int``, ``math.exp``, a format), Pyro takes the steps.
    - Each step compares what else the programs can reach in Python: attributes of modules and objects, variables that
      functions share, globals, containers, NumPy arrays, hooks. If something changes between two steps, another graph
      is captured. If a run itself changes it, Pyro takes the steps.
    - Pyro takes a single step within handlers, such as ``poutine.scale``, if a parameter already has a gradient, and if
      an argument requires one.
    - No rule sees files or environment variables that a program reads. For these there are audits: now and then Pyro
      and the graph both run, from the same state and random numbers. :class:`pyro_vae.svi.audit.AuditSchedule` says
      when.
    - If this torch or Pyro lacks a private piece that graphs need (:mod:`pyro_vae.svi.private` lists them), one
      warning per process says so, and Pyro takes all steps.

    Args:
        model: a Pyro model; :class:`CannotCaptureError` says what is refused.
        guide: its guide.
        optim: an optimiser of Pyro's, or one of torch's over the parameters. The updates of Adam, AdamW, ClippedAdam
            and SGD are part of the graph; any other optimiser steps by itself, after the graph.
        loss: a Pyro ELBO, or a function ``loss(model, guide, *args, **kwargs)``.
        loss_and_grads: as in SVI.
        num_samples: as in SVI.
        num_steps: as in SVI.
        mode: ``"fast"`` compiles the graph with TorchInductor. ``"exact"`` runs the graph operation by operation, and
            the optimiser by itself: losses and parameters equal those of ``pyro.infer.SVI`` to the last bit.
        fallback: what happens if the programs cannot be captured: ``"eager"`` warns once, and Pyro takes the steps;
            ``"error"`` raises.
        audit: whether to compare graphs with Pyro now and then, including those of ``evaluate_loss``. Losses and
            weights do not depend on it.
        also: called after the loss in each run, to return what handlers around the programs have collected; its
            tensor becomes the attribute ``noted``.
        **kwargs: as in SVI.

    Attributes:
        captures: how many graphs were captured.
        refused: why Pyro takes the steps, or None.
        number: the number of the last step, as the optimiser counts them.
        noted: what ``also`` returned in the last run, or None.
        steps_taken: how many steps each parameter has taken, for optimisers that count them on a GPU.
        watch: what the programs can reach in Python.
        lasting: the names of the attributes that copies keep: all but the graphs.

    Raises:
        CannotCaptureError: if a private piece is missing and ``fallback="error"``.
        TypeError: if ``optim`` is no optimiser.
        ValueError: for another mode or fallback.

    Example:
        >>> import pyro, torch
        >>> from pyro.infer import Trace_ELBO
        >>> from pyro_vae import CompiledSVI, build
        >>> vae = build((1, 8, 8), latent_dim=2, hidden=(8,))
        >>> svi = CompiledSVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO(), mode="exact")
        >>> losses = [svi.step(torch.rand(16, 1, 8, 8).bernoulli()) for _ in range(3)]
        >>> svi
        CompiledSVI(mode='exact', captures=1, refused=None)
    """

    def __init__(
        self,
        model: Callable[..., object],
        guide: Callable[..., object],
        optim: PyroOptim | torch.optim.Optimizer | type[torch.optim.Optimizer],
        loss: ELBO | Callable[..., float | Tensor],
        loss_and_grads: Callable[..., float | Tensor] | None = None,
        num_samples: int = 0,
        num_steps: int = 0,
        *,
        mode: Literal["fast", "exact"] = "fast",
        fallback: Literal["eager", "error"] = "eager",
        audit: bool = True,
        also: Callable[[], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        one_of("mode", mode, "fast", "exact")
        one_of("fallback", fallback, "eager", "error")
        super().__init__(model, guide, as_pyro_optim(optim), loss, loss_and_grads, num_samples, num_steps, **kwargs)
        self.mode: Literal["fast", "exact"] = mode
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
        self.lasting = {*vars(self), "lasting"}
        self._start()
        lacking = private.lacking()
        if lacking is not None:
            self._refuse_all(lacking)

    def _start(self) -> None:
        self._graphs: dict[Hashable, list[RunGraph]] = defaultdict(list)
        self._first_runs: dict[Hashable, FirstRun] = {}
        self._ran: RunGraph | None = None
        self._had_gradient: dict[int, Tensor] = {}
        self.watch = Watch(self)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a gradient step.

        Args:
            args: the arguments of model and guide.
            kwargs: those by name.

        Returns:
            The loss before the step, in nats, as Pyro returns it: a sum over the examples; a float, or a tuple of
            floats if the loss is a tuple.

        Raises:
            CannotCaptureError: if the programs cannot be captured and ``fallback="error"``; the parameters then stay
                as they were.
        """
        return as_pyro(self._run("step", args, kwargs))

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the loss without a step; its graph is not compiled.

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
        """Take a step per batch, with less work between the steps if the batches are a list or a tensor.

        Args:
            batches: tensors, or tuples of arguments; or a tensor ``(steps, batch, ...)``.

        Returns:
            The losses in nats, float64: ``(steps,)``, or ``(steps, losses)`` if a step has several. On a GPU they may
            still be in the queue.

        Raises:
            CannotCaptureError: as in :meth:`step`.
        """
        if not known_ahead(batches):  # an iterator may change things between the steps
            return stacked([self._run("step", args_of(batch), {}) for batch in batches])
        ahead = deque(map(args_of, batches))
        losses: list[Loss] = []
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mode={self.mode!r}, captures={self.captures}, refused={self.refused!r})"

    def explain(self, *args: Any, **kwargs: Any) -> None:
        """Let Pyro evaluate the loss, for its error message: a graph knows only that there is an error."""
        SVI.evaluate_loss(self, *args, **kwargs)

    def _run(self, what: _What, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Loss:
        self._ran = None
        if self.refused is not None:
            return self._by_pyro(what, args, kwargs)
        try:
            if (change := self.watch.change()) is not None:
                self._forget(change)
            if _active_handlers().is_any_active():
                return self._by_pyro(what, args, kwargs)
            arguments = take_apart(args, kwargs)
            key = self._key(what, arguments)
            first = self._first_runs.get(key)
            if first is None and len(self._first_runs) >= _MOST_STRUCTURES:
                raise CannotCaptureError(_TOO_MANY.format(change=self._last_change))
            if first is None or first.doubtful or first.replaced():
                return self._first(what, arguments, args, kwargs)
            if what == "step" and (why := first.gradient_elsewhere(arguments.tensors)):
                self._say_once(f"{why}, which graphs do not support. Pyro runs such steps itself, which is slower")
                return self._by_pyro(what, args, kwargs)
            graph = next((g for g in self._graphs[key] if g.takes(arguments.tensors)), None)
            graph = graph or self._capture(what, key, arguments)
            audited = graph.audits.due(graph.number + 1)
            loss = None if audited else graph(arguments.tensors, args, kwargs)
        except CannotCaptureError as error:
            self._refuse(error)
            return self._by_pyro(what, args, kwargs)
        if loss is None:
            return self._audited(what, graph, arguments, args, kwargs)
        self._ran = graph
        return loss

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the graphs; a copy captures its own."""
        return {name: value for name, value in vars(self).items() if name in self.lasting}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, without graphs."""
        self.__dict__.update(state)
        self._start()

    def _key(self, what: _What, arguments: Arguments) -> Hashable:
        """What two runs must have in common to share a graph."""
        settings = torch.is_grad_enabled(), torch.get_default_dtype(), *map(_autocast, ("cpu", "cuda"))
        return (what, arguments.key, settings, *[m.training for m in self.watch.modules])

    def _by_pyro(self, what: _What, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Loss:
        """Run with Pyro alone."""
        if what == "step":
            for p in self._had_gradient.values():
                if p.grad is None:  # Pyro leaves zeros after a step
                    p.grad = torch.zeros_like(p)
        loss: Loss = super().step(*args, **kwargs) if what == "step" else super().evaluate_loss(*args, **kwargs)
        if what == "step":
            self.number += 1
        self.steps_taken.clear()  # the optimiser has counted
        self.watch.note()
        if self.also is not None:
            self.noted = self.also()
        return loss

    def _first(self, what: _What, arguments: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Loss:
        """Run with Pyro, and record what a graph has to know."""
        roots = [*self.watch.roots(), *arguments.callables()]
        loss, first = run_first(lambda: self._by_pyro(what, args, kwargs), roots)
        parameters = first.parameters.values()
        try:
            self.watch.add([*first.modules, *arguments.callables()], parameters)
        except CannotCaptureError as error:  # the step is taken
            self._refuse(error)
            return loss
        key = self._key(what, arguments)  # it may differ, now that more modules are known
        again = key in self._first_runs and self._first_runs[key].doubtful
        first.doubtful = first.seed is not None and not again  # some guides set a seed in their first run only
        self._first_runs[key] = first
        self._graphs.pop(key, None)
        self._had_gradient |= {id(p): p for p in parameters if p.grad is not None}
        self.number = max(self.number, steps_of(self.optim, parameters))
        return loss

    def _audited(
        self, what: _What, graph: RunGraph, arguments: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Loss:
        """Run with Pyro and with the graph: keep the graph's run if they agree, else Pyro's, which then takes over."""
        from pyro_vae.svi.comparison import run_both

        start = time.perf_counter()
        ran = run_both(graph, args, kwargs)
        number, agreed = graph.number + 1, graph.audits.agreed
        if ran.differs is None or ran.differs.rounding:
            if ran.differs is not None and self.mode == "exact":
                self._say_once(f"The graph rounds differently from Pyro: {ran.differs.words}")
            self.watch.note()
            graph.audits.passed(number, time.perf_counter() - start)
            return graph(arguments.tensors, args, kwargs)
        kind = "step" if what == "step" else "evaluation"
        why = (
            f"an audit found that the graph differs from Pyro: at {kind} {number}, {ran.differs.words}. From {kind} "
            f"{agreed + 1} on, losses and weights may be wrong. The model, guide or loss reads something that has "
            "changed and that no rule watches; pass it as an argument, or keep it in a buffer"
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

    def _forget(self, change: str) -> None:
        """Drop all graphs after a change between two steps."""
        self._forgotten += 1
        self._last_change = f" (the last change: {change})"
        if self._forgotten > _MOST_CHANGES:
            raise CannotCaptureError(_TOO_MANY.format(change=self._last_change))
        self._graphs.clear()
        self._first_runs.clear()
        self.watch.start()

    def _capture(self, what: _What, key: Hashable, arguments: Arguments) -> RunGraph:
        first = self._first_runs[key]
        if (why := first.unrepeatable()) is not None:
            raise CannotCaptureError(why)
        if self.captures >= _MOST_GRAPHS:
            raise CannotCaptureError(_TOO_MANY.format(change=self._last_change))
        from pyro_vae.svi.step_graph import LossGraph, StepGraph

        graph: RunGraph
        if what == "step":
            trained = {id(p): p for p in first.parameters.values() if id(p) in self._had_gradient}
            graph = StepGraph(self, arguments, first.parameters, list(trained.values()))
        else:
            graph = LossGraph(self, arguments, first.parameters)
        self.captures += 1
        if not graph.takes(arguments.tensors):
            raise CannotCaptureError("its graph fits no sizes of its arguments")
        self._graphs[key].append(graph)
        self._forgotten = 0
        return graph

    def _refuse_all(self, lacking: str) -> None:
        """Leave every step to Pyro; warn once per process, since it holds for each CompiledSVI."""
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
def _active_handlers() -> ModuleType:
    """Import the module, which needs private pieces of torch; an import statement in each step would take time."""
    from pyro_vae.svi import active_handlers

    return active_handlers


def _autocast(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
