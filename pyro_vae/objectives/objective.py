"""What the objectives share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ParamSpec, TypedDict

import pyro.infer.elbo
import torch
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.util import warn_if_nan
from torch import Tensor

from pyro_vae.argument_checks import at_least, is_finite_number
from pyro_vae.distributions.parameters import given_arguments
from pyro_vae.objectives.schedules import Weight
from pyro_vae.seeds import seeded
from pyro_vae.terms import Terms, read_terms

__all__ = ["Objective", "Options", "check_weight"]

_P = ParamSpec("_P")


class Options(TypedDict, total=False):
    """The keyword arguments of :class:`Objective` that all objectives take."""

    vectorize_particles: bool
    max_plate_nesting: float


class Objective(ELBO):
    """An objective of SVI for a model and a guide with reparametrised latent variables.

    It works with ``pyro.infer.SVI``, :class:`pyro_vae.CompiledSVI` and :func:`pyro_vae.fit`. A subclass defines what is
    maximised, in :meth:`objective`. Scales and masks of Pyro's handlers are part of the log-densities; a masked example
    still counts as an example.

    Args:
        num_particles: draws of the latent variables per example.
        vectorize_particles: run the programs once for all particles, in a plate to the left of all others; otherwise
            once for each particle.
        max_plate_nesting: the number of dimensions that the plates take; by default, a run of the programs finds it.

    Attributes:
        terms: the parts of the last step's value, in nats per example: ``recon``, ``kl`` and others that the objective
            has.
        state: tensors that change from step to step and start at 0, such as the number of steps.
        on_terms: a function that each step calls with the :class:`pyro_vae.terms.Terms` that it has read; None for
            none.

    Raises:
        TypeError: for an argument that the class does not have.
        ValueError: if an argument is out of range; in a step, if a draw cannot be reparametrised.
    """

    weighs_draws = False  # True if some draws of an example count more than others

    @property
    def bounds_log_prob(self) -> bool:
        """True if this objective is a lower bound on log p(x); :func:`pyro_vae.fit` then keeps the best epoch."""
        return self.importance_particles is not None

    @property
    def importance_particles(self) -> int | None:
        """The number of importance samples of the bound that the objective is: 1 for the ELBO, None for no bound."""
        return None

    def __init__(
        self,
        num_particles: int = 1,
        *,
        vectorize_particles: bool = True,
        max_plate_nesting: float = math.inf,
        **unknown: object,
    ) -> None:
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {next(iter(unknown))!r}; it has {_names(self)}")
        num_particles = at_least("num_particles", num_particles, 1)
        super().__init__(
            num_particles=num_particles,
            vectorize_particles=vectorize_particles and num_particles > 1,
            max_plate_nesting=max_plate_nesting,
        )
        self.num_particles = num_particles
        self.terms: dict[str, Tensor] = {}
        self.state: dict[str, Tensor] = {"steps": torch.zeros((), dtype=torch.float64)}
        self.on_terms: Callable[[Terms], None] | None = None

    def __repr__(self) -> str:
        """Return the class and its arguments, without those at their defaults."""
        return f"{type(self).__name__}({given_arguments(self, vars(self))})"

    def objective(self, terms: Terms) -> Tensor:
        """Return the value to maximise, a sum over the examples, ``()``.

        Args:
            terms: log-densities at draws of the latent variables.
        """
        raise NotImplementedError

    # What Pyro asks of an ELBO.

    def loss(
        self, model: Callable[_P, object], guide: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> float | Tensor:
        """Return the loss in nats, a sum over the examples."""
        with torch.no_grad():
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        return _checked(loss)

    def differentiable_loss(
        self, model: Callable[_P, object], guide: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> Tensor:
        """Return the loss as a tensor ``()`` with a gradient; the schedules do not advance."""
        terms = self._read(list(self._get_traces(model, guide, args, kwargs)))
        return -terms.scale * self.objective(terms)

    def loss_and_grads(
        self, model: Callable[_P, object], guide: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> float | Tensor:
        """Return the loss, add its gradient to the parameters' gradients, and advance the schedules."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        self.state["steps"].add_(1)
        return _checked(loss.detach())

    # From one training to another.

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state, to resume training from."""
        return {name: tensor.detach().clone() for name, tensor in self.state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state; in place, since a captured graph may hold the tensors."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    def reset(self) -> None:
        """Return to the state before the first step."""
        for tensor in self.state.values():
            tensor.zero_()

    def check_on(
        self, model: Callable[_P, object], guide: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """Raise a ValueError if this objective cannot be used with these programs."""
        self.loss(model, guide, *args, **kwargs)

    # For subclasses.

    def weigh(self, weight: Weight, like: Tensor) -> Tensor:
        """Return a weight, or the value of a schedule at this step, in the dtype and on the device of ``like``."""
        steps = self.state["steps"]
        if steps.device != like.device:
            steps = self.state["steps"] = steps.to(like.device)
        value = weight(steps) if callable(weight) else weight
        if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.numel() == 1):
            raise ValueError(f"a schedule must give a number or a tensor (); {weight!r} gave {value!r}")
        return torch.as_tensor(value, dtype=like.dtype, device=like.device)

    def note(self, terms: Terms, **values: Tensor) -> None:
        """Store recon, kl and other values of this step in :attr:`terms`, per example.

        With several observed or latent sites, recon or KL of each is stored too, such as ``recon/image`` or ``kl/z1``.

        Args:
            terms: the terms of this step.
            values: sums over the examples, ``()``.
        """
        found = {"recon": terms.mean(terms.recon).sum(), "kl": terms.mean(terms.kl).sum(), **values}
        for name, value in {**found, **_by_site(terms)}.items():
            self.keep(self.terms, name, value / terms.examples)

    def keep(self, place: dict[str, Tensor], name: str, value: Tensor) -> None:
        """Write a value into the tensor of this name; in place, so that a captured graph does so too."""
        with torch.no_grad():
            if name in place and place[name].device == value.device:
                place[name].copy_(value)
            else:
                place[name] = value.detach().double().clone()

    def _get_trace(
        self,
        model: Callable[..., object],
        guide: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Trace, Trace]:
        traces: tuple[Trace, Trace] = get_importance_trace("flat", self.max_plate_nesting, model, guide, args, kwargs)
        self.check(traces[1])
        return traces

    def _read(self, traces: Sequence[tuple[Trace, Trace]]) -> Terms:
        terms = read_terms(traces, -self.max_plate_nesting if self.vectorize_particles else None)
        if self.on_terms is not None:
            self.on_terms(terms)
        return terms

    def _guess_max_plate_nesting(
        self,
        model: Callable[..., object],
        guide: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        was_disabled = pyro.infer.elbo.logger.disabled
        pyro.infer.elbo.logger.disabled = True  # Pyro would log the number that it found
        try:
            with seeded(0):  # so that this extra run does not change the draws of the training
                super()._guess_max_plate_nesting(model, guide, args, kwargs)
        finally:
            pyro.infer.elbo.logger.disabled = was_disabled

    def check(self, guide_trace: Trace) -> None:
        """Raise a ValueError if a draw of the guide cannot be reparametrised."""
        for name, site in guide_trace.nodes.items():
            if site["type"] == "sample" and not site["is_observed"] and not site["fn"].has_rsample:
                raise ValueError(
                    f"{type(self).__name__} needs draws with gradients; site {name!r} of the guide is a "
                    f"{type(site['fn']).__name__}, which has no rsample. Use TraceEnum_ELBO, which sums over discrete "
                    "codes exactly, TraceGraph_ELBO, or a relaxed posterior such as RelaxedCategorical"
                )


def _names(objective: Objective) -> str:
    """Return the names of the arguments of an objective."""
    parameters = inspect.signature(type(objective)).parameters.values()
    own = (p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD)
    return ", ".join(dict.fromkeys([*own, *Options.__annotations__]))


def _by_site(terms: Terms) -> dict[str, Tensor]:
    """Return recon of each observed site and KL of each latent site, if there are several, summed over the examples."""
    found: dict[str, Tensor] = {}
    run = terms.runs[0]
    if len(run["recon"]) > 1:
        found |= {f"recon/{name}": log_prob for name, log_prob in terms.by_site("recon").items()}
    shared = [latent.posterior.name for latent in terms.latents()[0]]
    if len(shared) > 1:
        prior, posterior = terms.by_site("prior"), terms.by_site("posterior")
        found |= {f"kl/{name}": posterior[name] - prior[name] for name in shared}
    return {name: terms.mean(value).sum() for name, value in found.items()}


def _checked(loss: Tensor) -> Tensor:
    """Return the loss; warn if it is NaN, as Pyro does."""
    if is_validation_enabled():
        warn_if_nan(loss, "loss")
    return loss


def check_weight(name: str, value: object) -> None:
    """Raise a ValueError if a value is neither a number of at least 0, a tensor of one, nor a schedule."""
    if callable(value) and not isinstance(value, type):
        return
    given = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not (isinstance(given, Real) and is_finite_number(given) and float(given) >= 0):
        raise ValueError(
            f"{name} must be a finite number of at least 0, or a schedule such as Linear(steps=5000); got {value!r}"
        )
