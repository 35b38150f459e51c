"""Runs of the user's objective and of the terms of the bound, each pair under one seed.

If both draw in the same way, as ``mean + scale * randn_like(mean)`` and a normal do, their noise is the same, and the
difference of the two has hardly any noise. If they do not, the pairs are still independent of one another.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from pyro_vae.checks.directions import Directions
from pyro_vae.checks.enumeration import enumerated
from pyro_vae.checks.inputs import Inputs, in_mode, loss_of, named_leaves
from pyro_vae.distributions import without_independent
from pyro_vae.model_guide import ModelGuide, scale_of

__all__ = ["Part", "Trials", "in_training_mode", "plate_scale", "trials"]

_KEY = 22


@dataclass(frozen=True)
class Part:
    """A term of the bound under several seeds, and its gradient.

    Args:
        values: of the batch, ``(n,)``, in nats.
        slopes: the gradient along each direction, ``(n, columns)``.
    """

    values: Tensor
    slopes: Tensor

    def __mul__(self, weight: float) -> Part:
        return Part(weight * self.values, weight * self.slopes)

    def __add__(self, other: Part) -> Part:
        return Part(self.values + other.values, self.slopes + other.slopes)

    def __sub__(self, other: Part) -> Part:
        return Part(self.values - other.values, self.slopes - other.slopes)


@dataclass(frozen=True)
class Trials:
    """The objective and the terms of the bound, run under the same seeds.

    Args:
        inputs: of the check.
        loss: the objective.
        parts: ``"recon"`` and ``"kl"``; ``"bound"`` and ``"elbo"`` for several importance samples.
        scale: how often each example counts in the model's plate.
        directions: of the gradients.
    """

    inputs: Inputs
    loss: Part
    parts: dict[str, Part]
    scale: float
    directions: Directions

    @property
    def bound(self) -> Part:
        """The bound of the batch, as the plate scales it."""
        unscaled = self.parts["bound"] if "bound" in self.parts else self.parts["recon"] - self.parts["kl"]
        return unscaled * self.scale

    @functools.cached_property
    def mistaken(self) -> dict[str, Part]:
        """Both terms, and what a loss with a common mistake has in place of one.

        They run when they are first needed, in the mode that the modules have then.
        """
        return self.parts | _parts(self.inputs, self.directions, len(self.loss.values), _mistaken)

    @functools.cached_property
    def cut(self) -> dict[str, Part]:
        """Both terms, and both with parts of their gradients cut, run as :attr:`mistaken` is."""
        return self.parts | _parts(self.inputs, self.directions, len(self.loss.values), _cut)


def trials(inputs: Inputs, training: bool = False) -> Trials:
    """Return the runs of the objective, made once.

    Args:
        inputs: with an objective.
        training: True if the modules are in training mode.
    """
    return inputs.cached("trials in training" if training else "trials", lambda: _trials(inputs))


def _trials(inputs: Inputs) -> Trials:
    directions = Directions.of(named_leaves(inputs.given), inputs.seed)
    values, slopes, n = [], [], _number(inputs)
    for i in range(n):
        with inputs.seeded(_KEY, i):
            value, gradients = _loss_and_gradients(inputs, directions.parameters)
        values.append(value)
        slopes.append(directions.slopes(gradients))
    parts = _parts(inputs, directions, n, _usual)
    return Trials(inputs, Part(torch.stack(values), torch.stack(slopes)), parts, plate_scale(inputs.given), directions)


def _number(inputs: Inputs) -> int:
    """Return the number of runs; they cost more than other gradients, because each uses the whole batch."""
    if inputs.repeats_asked:
        return inputs.repeats
    return inputs.affordable("runs of the objective", inputs.repeats, 12 * inputs.given.batch, least=20)


def plate_scale(p: ModelGuide) -> float:
    """Return how often each example counts in Pyro's losses."""
    return scale_of(p.trace_model().nodes[p.observed])


@contextlib.contextmanager
def in_training_mode(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Run the block with these modules in training mode; afterwards modes and buffers are as before."""
    buffers = {b: b.clone() for module in modules for b in module.buffers()}
    try:
        with in_mode(modules, True):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers.items():  # such as the running means of batch norm
                buffer.copy_(before)


# The objective.


def _loss_and_gradients(inputs: Inputs, parameters: list[Tensor]) -> tuple[Tensor, Sequence[Tensor | None]]:
    """Return the objective's loss and its gradient by each parameter."""
    if isinstance(inputs.objective, ELBO) and not hasattr(inputs.objective, "differentiable_loss"):
        return _through_grad(inputs.objective, inputs.given, parameters)
    loss = loss_of(inputs)
    if not loss.requires_grad or not parameters:
        return loss.detach().double(), [None] * len(parameters)
    return loss.detach().double(), torch.autograd.grad(loss, parameters, allow_unused=True)


def _through_grad(objective: ELBO, p: ModelGuide, parameters: list[Tensor]) -> tuple[Tensor, Sequence[Tensor | None]]:
    """Return loss and gradients of an objective that only writes to ``.grad``, such as TraceGraph_ELBO."""
    before = [q.grad for q in parameters]
    for q in parameters:
        q.grad = None
    try:
        loss = objective.loss_and_grads(p.model, p.guide, p.x, *p.context, **p.named)
        return torch.as_tensor(loss, dtype=torch.float64), [q.grad for q in parameters]
    finally:
        for q, grad in zip(parameters, before, strict=True):
            q.grad = grad


# The terms of the bound.


def _parts(
    inputs: Inputs, directions: Directions, n: int, make: Callable[[Inputs, int], dict[str, Tensor]]
) -> dict[str, Part]:
    """Run ``make`` under each of n seeds, or once if its parts have no noise."""
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
    exact = inputs.is_discrete and inputs.importance_particles == 1
    for i in range(1 if exact else n):
        for name, value in make(inputs, i).items():
            values, slopes = found.setdefault(name, ([], []))
            values.append(value.detach().double())
            slopes.append(directions.slopes_of(value))
    return {name: Part(*(torch.stack(t).expand(n, *t[0].shape) for t in both)) for name, both in found.items()}


def _usual(inputs: Inputs, i: int) -> dict[str, Tensor]:
    """Return the terms of the bound under one seed."""
    p, k = inputs.given, inputs.importance_particles
    if k == 1 and inputs.is_discrete:
        exact = enumerated(p)
        return {"recon": exact.recon.sum(), "kl": exact.kl.sum()}
    q, z = _drawn(inputs, i, k)
    log_x, log_p = p.log_joint(z)
    if k > 1:
        weight = log_x + log_p - p.log_posterior(z, q)
        return {"bound": (weight.logsumexp(0) - math.log(k)).sum(), "elbo": weight.mean(0).sum()}
    closed = inputs.has_closed_kl and not inputs.is_point
    kl = kl_divergence(q, p.prior()) if closed else p.log_posterior(z, q) - log_p
    return {"recon": log_x.sum(), "kl": kl.sum()}


def _drawn(inputs: Inputs, i: int, draws: int = 1) -> tuple[TorchDistribution, Tensor]:
    """Return q and draws from it, under the random numbers that the objective starts with."""
    with inputs.seeded(_KEY, i):
        q = inputs.given.posterior()
    with inputs.seeded(_KEY, i):
        return q, q((draws,))


def _mistaken(inputs: Inputs, i: int) -> dict[str, Tensor]:
    """Return what a loss with a common mistake has in place of recon or kl, under one seed."""
    p = inputs.given
    if inputs.importance_particles > 1:
        return {}
    if inputs.is_discrete:
        return {"reverse kl": enumerated(p).reverse_kl.sum()}
    q, z = _drawn(inputs, i)
    found = {}
    with contextlib.suppress(NotImplementedError):
        found["recon at the mean"] = p.log_likelihood(q.mean.unsqueeze(0)).sum()
    return found | _of_likelihood(p, z[0]) | _kl_of_normal(p, q)


def _of_likelihood(p: ModelGuide, z: Tensor) -> dict[str, Tensor]:
    likelihood = p.likelihood(z)
    x, found = p.x.reshape(len(p.x), *likelihood.event_shape), {}
    with contextlib.suppress(NotImplementedError):
        found["squared error"] = -(x - likelihood.mean).square().sum()
    inner = without_independent(likelihood)
    if isinstance(inner, Bernoulli):
        twice = torch.sigmoid(inner.logits)
        found["sigmoid twice"] = Bernoulli(logits=twice, validate_args=False).log_prob(x.reshape(twice.shape)).sum()
    if isinstance(inner, Normal):
        error = (x.reshape(inner.loc.shape) - inner.loc) / inner.scale
        found["no log scale"] = -0.5 * error.square().sum()
    return found


def _kl_of_normal(p: ModelGuide, q: TorchDistribution) -> dict[str, Tensor]:
    """Return wrong formulas of the KL for a normal q."""
    inner = without_independent(q)
    if not isinstance(inner, Normal):
        return {}
    loc, scale, prior, found = inner.loc, inner.scale, p.prior(), {}
    with contextlib.suppress(NotImplementedError):
        found["kl of log-variance as log-scale"] = kl_divergence(_normal(loc, scale.square()), prior).sum()
        found["kl of log-scale as log-variance"] = kl_divergence(_normal(loc, scale.sqrt()), prior).sum()
    with contextlib.suppress(NotImplementedError):
        found["reverse kl"] = kl_divergence(prior, q).sum()
    if not _is_standard(prior):
        found["kl to the standard normal"] = kl_divergence(q, _normal(0.0 * loc, torch.ones_like(scale))).sum()
    return found


def _normal(loc: Tensor, scale: Tensor) -> torch.distributions.Independent:
    return torch.distributions.Independent(Normal(loc, scale, validate_args=False), loc.dim() - 1)


def _is_standard(prior: TorchDistribution) -> bool:
    """True for the standard normal."""
    inner = without_independent(prior)
    return isinstance(inner, Normal) and not inner.loc.any() and bool((inner.scale == 1).all())


def _cut(inputs: Inputs, i: int) -> dict[str, Tensor]:
    """Return recon and kl with parts of their gradients cut, under one seed."""
    p = inputs.given
    if inputs.importance_particles > 1 or inputs.is_discrete:
        return {}
    q, z = _drawn(inputs, i)
    found = {"recon, draws cut": p.log_likelihood(z.detach()).sum()}
    inner = without_independent(q)
    if not isinstance(inner, Normal):
        return found
    loc, scale, prior = inner.loc, inner.scale, p.prior()
    noise = ((z - loc) / scale).detach()
    found["recon, scale cut"] = p.log_likelihood(loc + scale.detach() * noise).sum()
    found["recon, mean cut"] = p.log_likelihood(loc.detach() + scale * noise).sum()
    with contextlib.suppress(NotImplementedError):
        found["kl, scale cut"] = kl_divergence(_normal(loc, scale.detach()), prior).sum()
        found["kl, mean cut"] = kl_divergence(_normal(loc.detach(), scale), prior).sum()
    return found
