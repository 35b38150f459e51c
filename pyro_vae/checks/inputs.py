"""What is checked, in one place: the programs, the data and the options, as each line of the report needs them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

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
from pyro_vae.model_guide import ModelGuide
from pyro_vae.seeds import derive, seeded

__all__ = [
    "Check",
    "Inputs",
    "describe_error",
    "in_mode",
    "loss_of",
    "named_leaves",
    "random_indices",
]

# Floating-point operations in the matrix products of one line: some twenty seconds of a core.
_BUDGET = 5e11
_FEW, _REPEATS = 8, 100  # examples and draws of what is repeated often
_PER_REPEAT = 40  # densities of an example that a repeat of a gradient costs, of eight draws with their gradient


@dataclass(frozen=True)
class Check:
    """A line before it is looked at: its name and words, and the function that looks.

    Args:
        name: what ``only=`` calls it.
        section: the heading that it stands under.
        compared: what is compared.
        why: why it must hold.
        look: what looks.
        about: what it says something about, as in "whether p(z) integrates to 1", for what is left unsaid without it.
    """

    name: str
    section: str
    compared: str
    why: str
    look: Callable[[Inputs], Finding]
    about: str = ""


@dataclass
class Inputs:
    """What is checked.

    Args:
        given: the programs as they are, in their own dtype.
        exact: a copy of them in float64 where they can be copied, else the same.
        objective: a Pyro ELBO or a function of ``(x, *context)``, or None.
        importance_particles: how many the objective's bound has; 1 is the ELBO.
        data_size: how many examples a step's loss stands for, or None.
        exact_posterior: whether q is meant to be the true posterior.
        level: the rate of false alarms of a line.
        repeats: how many draws of each gradient there are, as the user says or as can be afforded.
        seed: of all draws.
        repeats_asked: whether the user says how many draws there are.
        attempt: 0, and 1 where a line that has failed is looked at once more.
    """

    given: ModelGuide
    exact: ModelGuide
    objective: Any
    importance_particles: int
    data_size: int | None
    exact_posterior: bool
    level: float
    repeats: int
    seed: int
    repeats_asked: bool = False
    attempt: int = 0
    ranks: Tensor | None = None  # and how many values one can take: what calibration leaves for the report
    rank_count: int = 0
    made: dict[str, Any] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)  # what is done with less than usual, since it costs much

    def cached(self, name: str, make: Callable[[], Any]) -> Any:
        """What several lines need, made by the first of them."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def seeded(self, *keys: int) -> Any:
        """A block with its own random numbers."""
        return seeded(derive(self.draw_seed, *keys))

    @property
    def draw_seed(self) -> int:
        """Of all draws; ``seed`` itself is that of what is chosen to be looked at."""
        return derive(self.seed, 61, self.attempt) if self.attempt else self.seed

    def with_new_draws(self) -> Inputs:
        """The same case with other draws, independent of those before."""
        return replace(self, attempt=self.attempt + 1, made={})

    @cached_property
    def rounding(self) -> float:
        """The largest relative difference between two ways to compute one number."""
        with torch.enable_grad(), self.seeded(0):
            weight = self.exact.terms(self.exact.draw(1)).weight
            tensors = [weight, *self.parameters]  # one of pyro.param's is in no module, and stays in float32
        return 1e-9 if all(t.dtype == torch.float64 for t in tensors) else 1e-5

    @cached_property
    def parameters(self) -> list[Tensor]:
        """What the loss of ``exact`` can be differentiated by, found from a run."""
        return [p for _, p in named_leaves(self.exact)]

    @cached_property
    def directions(self) -> Directions:
        """Along what gradients of ``exact`` are compared."""
        return Directions.of(named_leaves(self.exact), self.seed)

    @cached_property
    def latents(self) -> int:
        """How many numbers the z of an example has."""
        return self.exact.posterior().event_shape.numel()

    @cached_property
    def is_discrete(self) -> bool:
        """Whether z takes one of a list of values."""
        return bool(self.exact.posterior().has_enumerate_support)

    @cached_property
    def pathwise(self) -> bool:
        """Whether gradients go through the draws of z, and not only seem to, as straight through draws that jump."""
        return bool(self.exact.posterior().has_rsample) and not self.is_discrete

    @cached_property
    def is_straight_through(self) -> bool:
        """Whether z jumps and yet takes a gradient, which is biased on purpose."""
        return self.is_discrete and bool(self.exact.posterior().has_rsample)

    @cached_property
    def is_point(self) -> bool:
        """Whether q is a point, which has no density."""
        return isinstance(innermost(self.exact.posterior()), Delta)

    @cached_property
    def has_closed_kl(self) -> bool:
        """Whether KL(q || p) has a closed form."""
        try:
            kl_divergence(self.exact.posterior(), self.exact.prior())
        except NotImplementedError:
            return False
        return True

    @cached_property
    def is_teacher_forced(self) -> bool:
        """Whether p(x|z) depends on the x that the model is given, so that the model alone cannot draw x."""
        p = self.exact
        if p.batch < 2 or torch.isnan(p.x).any():  # NaN says what is to be left out
            return False
        with torch.no_grad(), self.seeded(6):
            z = p.draw(1)[0]
        return sees(p, z, p.observed, max(self.rounding, 1e-8)).verdict == "failed"

    @cached_property
    def few(self) -> ModelGuide:
        """At most eight examples, for what is repeated often."""
        examples = self.affordable("examples under gradients", _FEW, _PER_REPEAT * _REPEATS, least=2)
        return self.exact.rows(0, examples)

    def affordable_repeats(self) -> int:
        """How many draws of each gradient there are where the user does not say."""
        return self.affordable("draws of each gradient", _REPEATS, _PER_REPEAT * self.few.batch, least=20)

    @cached_property
    def operations(self) -> float:
        """Floating-point operations in the matrix products of the three log-densities of one example at one z."""
        p = self.exact.rows(0, _FEW)
        try:
            with torch.no_grad(), self.seeded(1), OperationCounter() as counted:
                p.draw_terms(1)
        except Exception:  # the user's programs may raise anything, and the lines that run them say what
            return 0.0
        return counted.products / p.batch

    def affordable(self, what: str, most: int, densities: int, least: int = 1) -> int:
        """How many of something a line can take, so that no line takes minutes.

        It rests on the shapes of the programs alone. So the number is the same on every machine, and the level holds,
        as it was decided before anything was drawn.

        Args:
            what: it is, in words, for the report.
            most: how many are usual.
            densities: of one example at one z that each takes.
            least: how many there must be, whatever they cost.
        """
        can = int(_BUDGET / max(1.0, densities * self.operations))
        number = max(least, min(most, can))
        if number < most:
            self.cut[what] = f"{number:,} {what} and not {most:,}"
        return number


def named_leaves(pair: ModelGuide) -> list[tuple[str, Tensor]]:
    """The tensors that the three log-densities and the draws are computed from, with names as far as there are any."""
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
    """The leaf tensors with gradient that these were computed from."""
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
    """The objective's loss of the batch, or of another x of its shape, a number in nats."""
    p = inputs.given
    x = p.x if x is None else x
    if isinstance(inputs.objective, ELBO):
        # TraceGraph_ELBO and others give no loss that can be differentiated, and that of TraceEnum_ELBO must be.
        loss = getattr(inputs.objective, "differentiable_loss", None) if torch.is_grad_enabled() else None
        return torch.as_tensor((loss or inputs.objective.loss)(p.model, p.guide, x, *p.context, **p.named))
    loss = inputs.objective(x, *p.context)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError(
            f"objective must return one number, a tensor, the loss of the whole batch in nats; got {_no_loss(loss)}"
        )
    return loss.reshape(())


def _no_loss(loss: Any) -> str:
    """What came in the place of a loss, and what to return."""
    if isinstance(loss, Tensor):
        return f"a tensor of shape {tuple(loss.shape)}. Sum it over the examples"
    if isinstance(loss, (int, float)):
        words = "which has no gradient. Leave out .item(); of Pyro's ELBOs call differentiable_loss"
        return f"a {type(loss).__name__}, {words}"
    if loss is None:
        return "None. Does the function lack its return?"
    return f"a {type(loss).__name__}. Return the loss alone"


def describe_error(error: Exception, rows: int | None = None) -> str:
    """What a user can act on, without the table of shapes that Pyro appends.

    Args:
        error: of the user's programs.
        rows: how many examples they were given.
    """
    message = " ".join(str(error).split("Trace Shapes:")[0].split())
    message = message.split(", but found invalid values: tensor(")[0]  # and then all values, right and wrong
    return f"{type(error).__name__}: {message}{_remedy(message, rows)}"


_TO_PARAMETER = {
    "scale": "A scale must be positive: give softplus() or exp() of what the network returns",
    "rate": "A rate must be positive: give softplus() or exp() of what the network returns",
    "probs": "Probabilities lie in [0, 1]: give what the network returns as logits=, or its sigmoid()",
}


def _remedy(message: str, rows: int | None) -> str:
    """What to do where a distribution does not fit its plate; empty for another mistake."""
    if found := re.search(r"Expected parameter (\w+) .* to satisfy the constraint", message):
        remedy = _TO_PARAMETER.get(found[1], f"Look at what the network returns for {found[1]}: is it NaN?")
        return f", and it does not. {remedy}"
    if "Expected value argument" in message:
        return ", and it is not. Change the data (binarise grey values, say), or take a distribution over such values"
    found = re.search(r"Shape mismatch inside plate\('(.*)'\) at site \S+ dim \S+, (\d+) vs (\d+)", message)
    if found is None:
        return ""
    plate, size, there = found[1], int(found[2]), int(found[3])
    if rows in (None, size) or there != rows:
        return ". Declare every dimension after the batch with .to_event"
    return (
        f". The plate {plate!r} is of {size} whatever x is. If it is that of the examples, make it as large as x or "
        "give it subsample=x, where x is a part of the data; if it is one of elements, leave out .to_event for them"
    )


def random_indices(tensor: Tensor, most: int, seed: int) -> Tensor:
    """Indices of at most so many elements of a tensor, chosen at random."""
    with seeded(seed):
        return torch.randperm(tensor.numel(), device=tensor.device)[:most]


@contextlib.contextmanager
def in_mode(modules: Sequence[nn.Module], training: bool) -> Iterator[None]:
    """Runs the block with the modules in training or evaluation mode; afterwards each mode is as before."""
    modes = {m: m.training for module in modules for m in module.modules()}
    for m in modes:
        m.training = training
    try:
        yield
    finally:
        for m, before in modes.items():
            m.training = before
