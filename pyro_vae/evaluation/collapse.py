"""Posterior collapse: detection by rule, the evidence, and the remedies that apply to this VAE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_vae.argument_checks import at_least
from pyro_vae.compatibility import check_objective
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.evaluation.estimates import check_density, log_joint, running
from pyro_vae.evaluation.latents import LatentUse, latent_use
from pyro_vae.likelihoods import Laplace, Mixed, Normal, Standardized, StudentT
from pyro_vae.model_guide import ModelGuide, Target
from pyro_vae.objectives import BetaELBO, FreeBits, InfoVAE, Objective
from pyro_vae.vae import VAE

__all__ = ["Collapse", "Remedy", "collapse"]

_NOTHING = 0.1  # nats: codes worth less than this carry nothing
_WARM_UP = 0.3  # the share of the training that a warm-up takes
_ROWS = 10_000  # rows decoded at a time
_NAMED = 3  # columns


@dataclass(frozen=True)
class Remedy:
    """A change to the training that may help.

    Args:
        what: the change, in words.
        why: the reason it may help this VAE.
        argument: the argument that makes the change: ``"objective"``, whose value goes to
            :func:`pyro_vae.config.make_objective`, or ``"likelihood"`` of :func:`pyro_vae.build`. None if no single
            argument does.
        value: the new value of the argument, such as ``{"class": "free_bits", "nats": 0.1}``.
    """

    what: str
    why: str
    argument: str | None = None
    value: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """Return the remedy in one line."""
        change = "" if self.argument is None or self.value is None else f": {self.argument}={dict(self.value)}"
        return f"{self.what} ({self.why}){change}"


@dataclass(frozen=True)
class Collapse:
    """The result of :func:`collapse`; true if the codes of the VAE are of no use.

    Args:
        kind: ``"posterior"`` if q(z|x) is nearly the same for every x: I(x; z) is below 0.1 nats. ``"decoder"`` if
            codes tell the examples apart, but the decoder does as well with the code of another example, within 0.1
            nats. None if neither holds.
        use: what the codes carry.
        swapped: the loss in E_q[log p(x|z)] if each example is decoded from the code of another, in nats per example.
        evidence: the measurements, one sentence each.
        remedies: the remedies that apply to this VAE and objective, the most promising first; empty without collapse.
    """

    kind: Literal["posterior", "decoder"] | None
    use: LatentUse
    swapped: float
    evidence: tuple[str, ...]
    remedies: tuple[Remedy, ...]

    def __bool__(self) -> bool:
        """Return True if the codes are of no use."""
        return self.kind is not None

    def __repr__(self) -> str:
        """Return the verdict, the information in the codes and the number of remedies in one line."""
        verdict = "no collapse" if self.kind is None else f"{self.kind} collapse"
        remedies = f"; {len(self.remedies)} remedies" if self.remedies else ""
        lost = f"the code of another example costs {_nats(self.swapped)}"
        return f"Collapse({verdict}: I(x; z) is {_nats(self.use.mutual_information)}, {lost}{remedies})"

    def __str__(self) -> str:
        """Return the verdict, the evidence and the remedies, one per line."""
        lines = ["no collapse" if self.kind is None else f"{self.kind} collapse"]
        lines += [f"  {sentence}" for sentence in self.evidence]
        return "\n".join([*lines, *(f"  try {remedy}" for remedy in self.remedies)])


def collapse(
    vae: Target,
    x: DataSource,
    *context: Array,
    objective: Objective | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Collapse:
    """Detect posterior collapse: codes that carry nothing about x, or that the decoder ignores.

    A unit collapses if it saves less in reconstruction than its KL costs. In a linear VAE this happens if the scale of
    a normal likelihood is above the standard deviation of the data in every direction (Lucas et al. 2019, arXiv
    1911.02469). It often happens early in training, while codes are still noise (Bowman et al. 2016, arXiv 1511.06349).

    Args:
        vae: the VAE, or another target: see :func:`pyro_vae.evaluation.importance_sampling`. Some remedies are known
            for a :class:`pyro_vae.VAE` alone.
        x: data ``(batch, *event_shape)``, at least 2 examples; a few thousand are enough.
        context: tensors ``(batch, ...)``.
        objective: the objective that the VAE was trained with; by default the ELBO.
        steps: the number of training steps, which sets the length of a warm-up among the remedies.
        seed: of the draws.

    Raises:
        ValueError: if q is a point, which has no density, or for fewer than 2 examples.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> _ = torch.manual_seed(0)
        >>> vae = build((1, 8, 8), 2, hidden=(8,))
        >>> with torch.no_grad():
        ...     _ = vae.likelihood.net.layers[0].weight.zero_()  # a decoder that ignores z
        >>> collapse(vae, torch.rand(50, 1, 8, 8).round()).kind
        'decoder'
    """
    steps = None if steps is None else at_least("steps", steps, 1)
    pair = ModelGuide(vae, x, *context)
    if pair.batch < 2:
        raise ValueError(f"x must have at least 2 examples, whose codes are exchanged; got {pair.batch}")
    use = latent_use(pair, seed=seed)
    swapped = _swapped(pair, seed)
    kind: Literal["posterior", "decoder"] | None = None
    if use.mutual_information < _NOTHING:
        kind = "posterior"
    elif swapped < _NOTHING:
        kind = "decoder"
    evidence = [
        f"I(x; z) is {_nats(use.mutual_information)} (at most {math.log(pair.batch):.2f} are possible with "
        f"{pair.batch:,} examples); the kl is {_nats(use.kl)}",
        f"with the code of another example recon loses {_nats(swapped)}",
    ]
    if use.variance_of_means is not None:
        evidence.append(
            f"active units {use.active_units} of {use.size}: the mean of q(z|x) varies over the data by at most "
            f"{use.variance_of_means.max().item():.2g} in a dimension (a unit is active above 0.01)"
        )
    if kind is None:
        return Collapse(None, use, swapped, tuple(evidence), ())
    cause, remedies = _remedies(pair, objective, steps, use)
    return Collapse(kind, use, swapped, (*evidence, *cause), remedies)


def _nats(value: float) -> str:
    return f"{0.0 if abs(value) < 0.005 else value:.2f} nats"


def _swapped(pair: ModelGuide, seed: int) -> float:
    with running(pair, None, (), {}, seed) as pair:
        z = check_density(pair.posterior(), "collapse")((1,))
        own, _ = log_joint(pair, z, _ROWS)
        others, _ = log_joint(pair, z.roll(1, 1), _ROWS)
        return (own - others).double().mean().item()


def _remedies(
    pair: ModelGuide, objective: Objective | None, steps: int | None, use: LatentUse
) -> tuple[list[str], tuple[Remedy, ...]]:
    """Return the causes that show, and the remedies, those of these causes first."""
    likelihood = pair.vae.likelihood if isinstance(pair.vae, VAE) else None  # unknown for other programs
    causes: list[str] = []
    found = [*_scales(likelihood, pair.x, causes)]
    for other, remedy in (*_weights(objective, causes), *_objectives(objective, steps, use)):
        if _trains(pair, other):
            found.append(remedy)
    if isinstance(likelihood, torch.nn.Module):
        size = sum(p.numel() for p in likelihood.parameters())
        why = f"a decoder that can do less than this one, with {size:,} weights, relies more on the codes"
        found.append(Remedy("a weaker decoder", why))
    return causes, tuple(found)


def _scales(likelihood: Callable[..., TorchDistribution] | None, x: Tensor, causes: list[str]) -> Iterator[Remedy]:
    """Yield the remedy of a fixed scale; if the scale is too wide for any code, add that to the causes."""
    if isinstance(likelihood, Mixed):
        yield from _scales_of_columns(likelihood)
    fixed = _fixed_scale(likelihood)
    if fixed is None:
        return
    name, scale = fixed
    better: dict[str, Any] = {"class": name, "scale": "optimal" if name == "Normal" else "learned"}
    what = "data"
    if isinstance(likelihood, Standardized):
        x, what = ((x.log() if likelihood.log else x) - likelihood.loc) / likelihood.scale, "standardised data"
        numbers = {"loc": likelihood.loc.tolist(), "scale": likelihood.scale.tolist(), "log": likelihood.log}
        better = {"class": "Standardized", "likelihood": {"class": name, "scale": "learned"}, **numbers}
    widest = _widest(x)
    if name == "Normal" and scale >= widest:
        causes.append(
            f"the likelihood Normal has the fixed scale {scale:g}; the standard deviation of the {what} is at most "
            f"{widest:.2g} in any direction, and then no code of a linear decoder is worth its kl"
        )
    why = f"with a fixed scale of {scale:g}, smaller errors of reconstruction cost little"
    yield Remedy("a scale that follows the data", why, "likelihood", better)


def _scales_of_columns(likelihood: Mixed) -> Iterator[Remedy]:
    """Yield the remedy of columns with fixed scales."""
    parts = zip(likelihood.columns, likelihood.of_columns(), strict=True)
    fixed = [repr(name) for name, part in parts if _fixed_scale(part) is not None]
    if fixed:
        columns = ", ".join(fixed[:_NAMED]) + (f" and {len(fixed) - _NAMED} more" if len(fixed) > _NAMED else "")
        why = f"with a fixed scale of {columns}, smaller errors of reconstruction cost little"
        yield Remedy("scales that follow the data", why)


def _fixed_scale(likelihood: object) -> tuple[str, float] | None:
    """Return the class of a likelihood and its scale if that is a number; of a standardised one, those of y."""
    part = likelihood.part if isinstance(likelihood, Standardized) else likelihood
    if isinstance(part, (Normal, Laplace, StudentT)) and isinstance(part.scale, (int, float)):
        return type(part).__name__, part.scale
    return None


def _weights(objective: Objective | None, causes: list[str]) -> Iterator[tuple[Objective, Remedy]]:
    """Yield the remedy of a weight of the kl above 1, and add the weight to the causes."""
    beta = objective.beta if isinstance(objective, BetaELBO) else 1.0
    if isinstance(beta, Real) and beta > 1:
        causes.append(
            f"the objective weighs the kl by {beta:g}: a nat in the code must save {beta:g} nats of reconstruction"
        )
        why = "with weight 1 the objective bounds log p(x)"
        yield BetaELBO(), Remedy("a smaller weight of the kl", why, "objective", {"class": "beta"})


def _objectives(objective: Objective | None, steps: int | None, use: LatentUse) -> Iterator[tuple[Objective, Remedy]]:
    """Yield objectives under which codes collapse less, except the one that trained the VAE."""
    if not isinstance(objective, BetaELBO) or isinstance(objective.beta, Real):
        length = {} if steps is None else {"steps": max(1, round(_WARM_UP * steps))}
        why = "codes are noise at first, and the kl removes them before the decoder learns to read them"
        warm_up = {"class": "beta", "beta": {"class": "linear", **length}}
        yield BetaELBO(), Remedy("a warm-up of the kl", why, "objective", warm_up)
    if not isinstance(objective, FreeBits):
        why = "nothing pushes the kl of a dimension below a floor"
        free_bits: dict[str, Any] = {"class": "free_bits", "nats": 0.1}
        per: Literal["dimension", "site"] = "dimension"
        if use.kl_of_dimensions is None:
            per = free_bits["per"] = "site"
        yield FreeBits(0.1, per=per), Remedy("free bits", why, "objective", free_bits)
    if not isinstance(objective, InfoVAE):
        why = "it rewards I(x; z), at the cost of the bound"
        yield InfoVAE(alpha=0.9), Remedy("another objective", why, "objective", {"class": "info", "alpha": 0.9})


def _trains(pair: ModelGuide, objective: Objective) -> bool:
    """Return False if the VAE cannot be trained with the objective."""
    try:
        if isinstance(pair.vae, VAE):
            check_objective(pair.vae, objective, pair.x[:2], *(c[:2] for c in pair.context))
    except ValueError:
        return False
    return True


def _widest(x: Tensor) -> float:
    """Return the standard deviation of x in the direction in which it is largest."""
    values = x.detach().flatten(1).double()
    centred = (values - values.nanmean(0)).nan_to_num(0.0)  # missing values do not vary
    return torch.linalg.matrix_norm(centred, 2).item() / math.sqrt(len(values))
