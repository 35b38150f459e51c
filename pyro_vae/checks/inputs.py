"""The inputs of a check: programs, data and options, as every line of the report needs them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias, TypeVar, cast

import torch
from pyro.distributions import Delta
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_vae.checks.directions import Directions
from pyro_vae.checks.operations import OperationCounter
from pyro_vae.checks.report import Finding
from pyro_vae.checks.teacher_forcing import sees
from pyro_vae.distributions import innermost
from pyro_vae.model_guide import ModelGuide, sites_marked
from pyro_vae.seeds import derive, seeded
from pyro_vae.terms import FROM_MODEL

__all__ = [
    "Check",
    "Inputs",
    "Loss",
    "describe_error",
    "in_mode",
    "loss_of",
    "named_leaves",
    "random_indices",
]

T = TypeVar("T")
Loss: TypeAlias = ELBO | Callable[..., Tensor]  # one of Pyro, or a function of (x, *context)

# Floating-point operations in the matrix products of one line: about twenty seconds of one core.
_BUDGET = 5e11
_FEW, _REPEATS = 8, 100  # examples, and draws of each gradient
_LARGE = 3000  # elements of x
_PER_REPEAT = 40  # log-densities per example that one repeat of a gradient costs: eight draws, with their gradient


@dataclass(frozen=True)
class Check:
    """A line of the report before it is run: its words, and the function that runs it.

    Args:
        name: for ``only=``.
        section: its heading.
        compared: what is compared with what.
        why: why the comparison must hold.
        look: runs the comparison.
        about: what the line decides, such as "whether p(z) integrates to 1"; the report says so if it is skipped.
    """

    name: str
    section: str
    compared: str
    why: str
    look: Callable[[Inputs], Finding]
    about: str = ""


@dataclass
class Inputs:
    """The inputs of a check, and what its lines share.

    Args:
        given: the programs as given, in their own dtype.
        exact: a copy in float64; the same programs if they cannot be copied.
        objective: a Pyro ELBO, a function of ``(x, *context)``, or None.
        importance_particles: number of importance samples in the objective's bound; 1 is the ELBO.
        data_size: number of examples that a step's loss stands for, or None.
        exact_posterior: True if q is meant to be the true posterior.
        level: the rate of false alarms of a line.
        repeats: number of draws of each gradient.
        seed: of all draws.
        repeats_asked: True if the user chose ``repeats``.
        attempt: 0; 1 if a line that failed is run again.
        ranks: what the line calibration leaves for the report; see :class:`pyro_vae.checks.Report`.
        rank_count: how many values a rank can take.
        made: the results of :meth:`cached`.
        cut: what was reduced because it costs too much, in words.
    """

    given: ModelGuide
    exact: ModelGuide
    objective: Loss | None
    importance_particles: int
    data_size: int | None
    exact_posterior: bool
    level: float
    repeats: int
    seed: int
    repeats_asked: bool = False
    attempt: int = 0
    ranks: Tensor | None = None
    rank_count: int = 0
    made: dict[str, object] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)

    def cached(self, name: str, make: Callable[[], T]) -> T:
        """Return what several lines need; the first of them makes it."""
        if name not in self.made:
            self.made[name] = make()
        return cast("T", self.made[name])

    def seeded(self, *keys: int) -> AbstractContextManager[None]:
        """Return a context with random numbers of its own."""
        return seeded(derive(self.draw_seed, *keys))

    @property
    def draw_seed(self) -> int:
        """The seed of all draws; ``seed`` itself also chooses elements and directions, which a second run keeps."""
        return derive(self.seed, 61, self.attempt) if self.attempt else self.seed

    def with_new_draws(self) -> Inputs:
        """Return the same inputs with new, independent draws."""
        return replace(self, attempt=self.attempt + 1, made={})

    @cached_property
    def rounding(self) -> float:
        """The largest relative difference that rounding makes between two ways to compute one number."""
        with torch.enable_grad(), self.seeded(0):
            weight = self.exact.terms(self.exact.draw(1)).weight
            tensors = [weight, *self.parameters]  # a pyro.param tensor is in no module and stays in float32
        return 1e-9 if all(t.dtype == torch.float64 for t in tensors) else 1e-5

    @cached_property
    def parameters(self) -> list[Tensor]:
        """The tensors by which the loss of ``exact`` can be differentiated, from a run."""
        return [p for _, p in named_leaves(self.exact)]

    @cached_property
    def directions(self) -> Directions:
        """The directions along which gradients of ``exact`` are compared."""
        return Directions.of(named_leaves(self.exact), self.seed)

    @cached_property
    def latents(self) -> int:
        """The number of dimensions of z."""
        return self.exact.posterior().event_shape.numel()

    @cached_property
    def is_discrete(self) -> bool:
        """True if z is discrete, with a list of values."""
        return bool(self.exact.posterior().has_enumerate_support)

    @cached_property
    def pathwise(self) -> bool:
        """True if gradients go through the draws of z and of missing values of x.

        A straight-through draw of a discrete z does not count.
        """
        missing = sites_marked(self.exact.trace_model(), FROM_MODEL)
        all_drawn = all(site["fn"].has_rsample for site in missing)
        return bool(self.exact.posterior().has_rsample) and not self.is_discrete and all_drawn

    @cached_property
    def is_straight_through(self) -> bool:
        """True if z is discrete and yet has a gradient, which is biased on purpose."""
        return self.is_discrete and bool(self.exact.posterior().has_rsample)

    @cached_property
    def is_point(self) -> bool:
        """True if q is a point, which has no density."""
        return isinstance(innermost(self.exact.posterior()), Delta)

    @cached_property
    def has_closed_kl(self) -> bool:
        """True if KL(q || p) has a closed form."""
        try:
            kl_divergence(self.exact.posterior(), self.exact.prior())
        except NotImplementedError:
            return False
        return True

    @cached_property
    def is_teacher_forced(self) -> bool:
        """True if p(x|z) depends on the x that the model is given, so the model cannot draw x."""
        p = self.exact
        if p.batch < 2 or torch.isnan(p.x).any():  # NaN marks missing values
            return False
        with torch.no_grad(), self.seeded(6):
            z = p.draw(1)[0]
        return sees(p, z, p.observed, max(self.rounding, 1e-8)).verdict == "failed"

    @cached_property
    def few(self) -> ModelGuide:
        """The programs on at most eight examples, for gradients, which are drawn often."""
        examples = self.affordable("examples under gradients", _FEW, _PER_REPEAT * _REPEATS, least=2)
        return self.exact.rows(0, examples)

    def affordable_repeats(self) -> int:
        """Return the number of draws of each gradient if the user does not choose it."""
        return self.affordable("draws of each gradient", _REPEATS, _PER_REPEAT * self.few.batch, least=20)

    @property
    def has_large_x(self) -> bool:
        """True if thousands of draws of x take much memory, as for images; :meth:`affordable` counts products only."""
        return self.exact.x[0].numel() > _LARGE

    @cached_property
    def operations(self) -> float:
        """Floating-point operations in matrix products, for the three log-densities of one example at one z."""
        p = self.exact.rows(0, _FEW)
        try:
            with torch.no_grad(), self.seeded(1), OperationCounter() as counted:
                p.draw_terms(1)
        except Exception:  # the user's programs may raise anything; the lines that run them report it
            return 0.0
        return counted.products / p.batch

    def affordable(self, what: str, most: int, densities: int, least: int = 1) -> int:
        """Return how many of something a line can afford, so that no line takes minutes.

        The number depends on the shapes of the programs alone. So it is the same on every machine, and it is fixed
        before anything is drawn, as the level requires.

        Args:
            what: its name, for the report.
            most: the usual number.
            densities: how many log-densities of one example at one z each of them costs.
            least: the number that is needed at any cost.
        """
        can = int(_BUDGET / max(1.0, densities * self.operations))
        number = max(least, min(most, can))
        if number < most:
            self.cut[what] = f"{number:,} {what} instead of {most:,}"
        return number


def named_leaves(pair: ModelGuide) -> list[tuple[str, Tensor]]:
    """Return the tensors from which the log-densities and draws are computed, with their names if they have any."""
    names = {id(p): name for module in pair.modules for name, p in module.named_parameters()}
    z = pair.draw(1)
    guide, model = pair.trace_guide(), pair.trace_model(z[0].detach())
    for trace in (guide, model):
        for site in trace.nodes.values():
            if site["type"] == "param" and hasattr(site["value"], "unconstrained"):
                names.setdefault(id(site["value"].unconstrained()), site["name"])
    terms = pair.terms(z)
    leaves = {id(leaf): leaf for leaf in _leaves([z, *terms.totals])}
    return [(names.get(i, f"a tensor of shape {tuple(leaf.shape)}"), leaf) for i, leaf in leaves.items()]


def _leaves(tensors: list[Tensor]) -> list[Tensor]:
    """Return the leaf tensors with gradient from which these were computed."""
    found, seen, waiting = [], set(), [t.grad_fn for t in tensors if t.grad_fn is not None]
    found += [t for t in tensors if t.is_leaf and t.requires_grad]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [n for n, _ in node.next_functions if n is not None]
    return found


def loss_of(inputs: Inputs, x: Tensor | None = None) -> Tensor:
    """Return the objective's loss of the batch in nats, or of another x of its shape, a tensor of shape ``()``."""
    p = inputs.given
    x = p.x if x is None else x
    if inputs.objective is None:
        raise ValueError("objective is None; there is no loss")
    if isinstance(inputs.objective, ELBO):
        # TraceGraph_ELBO has no differentiable loss, and TraceEnum_ELBO's plain loss cannot be differentiated.
        loss = getattr(inputs.objective, "differentiable_loss", None) if torch.is_grad_enabled() else None
        return torch.as_tensor((loss or inputs.objective.loss)(p.model, p.guide, x, *p.context, **p.named))
    loss = inputs.objective(x, *p.context)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError(
            f"objective must return one tensor of one number, the loss of the batch in nats; got {_no_loss(loss)}"
        )
    return loss.reshape(())


def _no_loss(loss: object) -> str:
    """Say what came in place of a loss, and what to return."""
    if isinstance(loss, Tensor):
        return f"a tensor of shape {tuple(loss.shape)}. Sum it over the examples"
    if isinstance(loss, (int, float)):
        words = "which has no gradient. Leave out .item(); of Pyro's ELBOs call differentiable_loss"
        return f"a {type(loss).__name__}, {words}"
    if loss is None:
        return "None. Does the function lack its return?"
    return f"a {type(loss).__name__}. Return the loss alone"


def describe_error(error: Exception, rows: int | None = None) -> str:
    """Return an error's message and a remedy, without the table of shapes that Pyro appends.

    Args:
        error: of the user's programs.
        rows: number of examples that they were given.
    """
    message = " ".join(str(error).split("Trace Shapes:")[0].split())
    message = message.split(", but found invalid values: tensor(")[0]  # all values follow, valid or not
    return f"{type(error).__name__}: {message}{_remedy(message, rows)}"


_TO_PARAMETER = {
    "scale": "A scale must be positive: apply softplus() or exp() to the network's output",
    "rate": "A rate must be positive: apply softplus() or exp() to the network's output",
    "probs": "Probabilities lie in [0, 1]: pass the network's output as logits=, or apply sigmoid() to it",
}


def _remedy(message: str, rows: int | None) -> str:
    """Return what to do about a wrong parameter, value or plate; empty for another mistake."""
    if found := re.search(r"Expected parameter (\w+) .* to satisfy the constraint", message):
        remedy = _TO_PARAMETER.get(found[1], f"Look at what the network returns for {found[1]}: is it NaN?")
        return f", but it does not. {remedy}"
    if "Expected value argument" in message:
        return ", but it is not. Change the data (for example, binarise grey values), or choose another distribution"
    found = re.search(r"Shape mismatch inside plate\('(.*)'\) at site \S+ dim \S+, (\d+) vs (\d+)", message)
    if found is None:
        return ""
    plate, size, there = found[1], int(found[2]), int(found[3])
    if rows in (None, size) or there != rows:
        return ". Declare every dimension after the batch with .to_event"
    return (
        f". The plate {plate!r} has the size {size} whatever x is. If it is the plate of examples, make it as large as "
        "x, or give it subsample=x if x is a part of the data; if it is a plate of elements, leave out their .to_event"
    )


def random_indices(tensor: Tensor, most: int, seed: int) -> Tensor:
    """Return the indices of at most so many elements of a tensor, chosen at random."""
    with seeded(seed):
        return torch.randperm(tensor.numel(), device=tensor.device)[:most]


@contextlib.contextmanager
def in_mode(modules: Sequence[nn.Module], training: bool) -> Iterator[None]:
    """Run the block with the modules in training or evaluation mode; afterwards each mode is as before."""
    modes = {m: m.training for module in modules for m in module.modules()}
    for m in modes:
        m.training = training
    try:
        yield
    finally:
        for m, before in modes.items():
            m.training = before
