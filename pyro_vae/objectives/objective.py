"""What the objectives share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import pyro.infer.elbo
import torch
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled
from pyro.util import warn_if_nan
from torch import Tensor

from pyro_vae.argument_checks import at_least, is_finite_number
from pyro_vae.objectives.schedules import Weight
from pyro_vae.objectives.terms import Draws, draws_of
from pyro_vae.seeds import seeded

__all__ = ["Objective", "weight"]


class Objective(ELBO):
    """An objective of SVI over a model and guide whose latent variables can be reparametrised.

    It serves ``pyro.infer.SVI``, :class:`pyro_vae.CompiledSVI` and :func:`pyro_vae.fit`. A subclass says what is
    maximised, in :meth:`objective`. Scales and masks of Pyro's handlers are part of the log-densities; what a mask
    leaves out counts as an example all the same.

    Args:
        num_particles: draws of the latent variables an example.
        vectorize_particles: run the programs once for all particles, in a plate further left than all others, or once
            for each.
        max_plate_nesting: how many dimensions the plates take; found by a run where it is not given.

    Attributes:
        terms: what the last step was made of, in nats an example: ``recon``, ``kl`` and what else the objective knows.
        state: tensors that change from step to step, from 0 on: the number of the step, a log-multiplier.

    Raises:
        ValueError: for arguments out of range; in a step, where a draw cannot be reparametrised.
    """

    weighs_draws = False  # whether some draws of an example count more than others

    @property
    def bounds_log_prob(self) -> bool:
        """Whether log p(x) is what it bounds, so that the weights of the best validation elbo are the best."""
        return self.importance_particles is not None

    @property
    def importance_particles(self) -> int | None:
        """Of how many importance samples the expected bound is that it is, 1 for the ELBO; None for anything else."""
        return None

    def __init__(
        self, num_particles: int = 1, *, vectorize_particles: bool = True, max_plate_nesting: float = math.inf
    ) -> None:
        num_particles = at_least(1, "num_particles", num_particles)
        super().__init__(
            num_particles=num_particles,
            vectorize_particles=vectorize_particles and num_particles > 1,
            max_plate_nesting=max_plate_nesting,
        )
        self.num_particles = num_particles
        self.terms: dict[str, Tensor] = {}
        self.state: dict[str, Tensor] = {"steps": torch.zeros((), dtype=torch.float64)}

    def objective(self, draws: Draws) -> Tensor:
        """What is maximised, summed over the examples, ``()``.

        Args:
            draws: log-densities at draws of the latent variables.
        """
        raise NotImplementedError

    # What Pyro asks of an ELBO.

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The loss, in nats: a sum over the examples, as Pyro has it."""
        with torch.no_grad():
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        return _checked(loss)

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a tensor ``()``, to go backward from; the schedules stay where they are."""
        draws = self._draw(model, guide, args, kwargs)
        return -draws.scale * self.objective(draws)

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The loss, whose gradient is added to that of the parameters; a step of the schedules."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        self.state["steps"].add_(1)
        return _checked(loss.detach())

    # From one training to another.

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the state, from which a training can go on."""
        return {name: tensor.detach().clone() for name, tensor in self.state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes up a state; in place, since a captured graph may hold it."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    def reset(self) -> None:
        """Goes back to the start."""
        for tensor in self.state.values():
            tensor.zero_()

    def check_on(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Raises a ValueError where this objective cannot serve these programs."""
        self.loss(model, guide, *args, **kwargs)

    # For subclasses.

    def weigh(self, weight: Weight, like: Tensor) -> Tensor:
        """A weight or a schedule of one as it is at this step."""
        steps = self.state["steps"]
        if steps.device != like.device:
            steps = self.state["steps"] = steps.to(like.device)
        value = weight(steps) if callable(weight) else weight
        if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.numel() == 1):
            raise ValueError(f"a schedule must give a number or a tensor (); {weight!r} gave {value!r}")
        return torch.as_tensor(value, dtype=like.dtype, device=like.device)

    def note(self, draws: Draws, **terms: Tensor) -> None:
        """Keeps terms for who wants to read them.

        Args:
            draws: of which recon and kl are noted too.
            terms: sums over the examples, ``()``.
        """
        terms = {"recon": draws.mean(draws.recon).sum(), "kl": draws.mean(draws.kl).sum(), **terms}
        for name, value in terms.items():
            self.keep(self.terms, name, value / draws.examples)

    def keep(self, place: dict[str, Tensor], name: str, value: Tensor) -> None:
        """Writes a value into the tensor of this name; in place, so that a captured graph does too."""
        with torch.no_grad():
            if name in place and place[name].device == value.device:
                place[name].copy_(value)
            else:
                place[name] = value.detach().double().clone()

    def _get_trace(self, model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        traces = get_importance_trace("flat", self.max_plate_nesting, model, guide, args, kwargs)
        self.check(traces[1])
        return traces

    def _draw(self, model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any) -> Draws:
        return self._read(list(self._get_traces(model, guide, args, kwargs)))

    def _read(self, traces: Sequence[tuple[Any, Any]]) -> Draws:
        return draws_of(traces, -self.max_plate_nesting if self.vectorize_particles else None)

    def _guess_max_plate_nesting(self, model: Any, guide: Any, args: Any, kwargs: Any) -> None:
        said = pyro.infer.elbo.logger.disabled
        pyro.infer.elbo.logger.disabled = True  # it would tell what it found
        try:
            with seeded(0):  # the run that finds out is not one of those that count
                super()._guess_max_plate_nesting(model, guide, args, kwargs)
        finally:
            pyro.infer.elbo.logger.disabled = said

    def check(self, guide_trace: Any) -> None:
        """Raises a ValueError where no gradient goes through a draw of the guide's."""
        for name, site in guide_trace.nodes.items():
            if site["type"] == "sample" and not site["is_observed"] and not site["fn"].has_rsample:
                raise ValueError(
                    f"{type(self).__name__} needs draws through which gradients go; site {name!r} of the guide is a "
                    f"{type(site['fn']).__name__}, which has no rsample. Use TraceEnum_ELBO, which sums over discrete "
                    "codes exactly, TraceGraph_ELBO, or a relaxed posterior such as RelaxedCategorical"
                )


def _checked(loss: Tensor) -> Tensor:
    """The loss; warns where it is NaN, as Pyro does."""
    if is_validation_enabled():
        warn_if_nan(loss, "loss")
    return loss


def weight(name: str, value: Any) -> None:
    """Raises a ValueError for what is neither a number of at least 0, a tensor of one, nor a schedule."""
    if callable(value) and not isinstance(value, type):
        return
    given = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not is_finite_number(given) or given < 0:
        raise ValueError(
            f"{name} must be a finite number of at least 0, or a schedule such as Linear(steps=5000); got {value!r}"
        )
