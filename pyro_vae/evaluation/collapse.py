"""Posterior collapse: found by rule, with its evidence, and the remedies that apply to the run at hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from pyro_vae.compatibility import check_objective
from pyro_vae.evaluation.estimates import check_density, log_joint, running
from pyro_vae.evaluation.latents import LatentUse, latent_use
from pyro_vae.likelihoods import Laplace, Normal, StudentT
from pyro_vae.objectives import BetaELBO, FreeBits, InfoVAE, Objective
from pyro_vae.vae import VAE

__all__ = ["Collapse", "Remedy", "collapse"]

_NOTHING = 0.1  # nats: what a code is worth at most that carries nothing
_WARM_UP = 0.3  # of the training
_ROWS = 10_000  # codes decoded at a time


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
    """Whether the codes of a VAE are used, by rule.

    Args:
        kind: ``"posterior"``: q(z|x) is much the same for every x; I(x; z) is below 0.1 nats. ``"decoder"``: codes
            tell the examples apart, but the decoder does as well with those of another example, within 0.1 nats. None:
            neither.
        use: of the codes.
        swapped: what E_q[log p(x|z)] loses where each example is decoded from the code of another, in nats an example.
        evidence: what was measured, a sentence each.
        remedies: what applies to this VAE and objective, the likeliest first; empty where nothing collapsed.
    """

    kind: Literal["posterior", "decoder"] | None
    use: LatentUse
    swapped: float
    evidence: tuple[str, ...]
    remedies: tuple[Remedy, ...]

    def __bool__(self) -> bool:
        """Whether the codes are of no use."""
        return self.kind is not None


def collapse(
    vae: VAE, x: Tensor, *context: Tensor, objective: Any = None, steps: int | None = None, seed: int = 0
) -> Collapse:
    """Looks for posterior collapse: codes that say nothing of x, or that the decoder does not read.

    A unit collapses where what it would save in reconstruction is worth less than its KL: in a linear VAE, where the
    scale of a normal likelihood is above the standard deviation of the data in every direction (Lucas et al. 2019,
    arXiv 1911.02469), and often early in training, where codes are still noise (Bowman et al. 2016, arXiv 1511.06349).

    Args:
        vae: the VAE.
        x: data ``(batch, *event_shape)``, at least 2 examples; some thousand are enough.
        context: tensors ``(batch, ...)``.
        objective: it was trained with; by default the ELBO.
        steps: of the training, from which the length of a warm-up follows; by default it is not named.
        seed: of the draws.

    Raises:
        ValueError: where q is a point, which has no density, and for fewer than 2 examples.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> _ = torch.manual_seed(0)
        >>> vae = build((1, 8, 8), 2, hidden=(8,))
        >>> with torch.no_grad():
        ...     _ = vae.likelihood.net.layers[0].weight.zero_()  # a decoder that does not look at z
        >>> collapse(vae, torch.rand(50, 1, 8, 8).round()).kind
        'decoder'
    """
    if len(x) < 2:
        raise ValueError(f"x must have at least 2 examples, whose codes are exchanged; got {len(x)}")
    use = latent_use(vae, x, *context, seed=seed)
    swapped = _swapped(vae, x, context, seed)
    kind: Literal["posterior", "decoder"] | None = None
    if use.mutual_information < _NOTHING:
        kind = "posterior"
    elif swapped < _NOTHING:
        kind = "decoder"
    evidence = [
        f"I(x; z) is {_nats(use.mutual_information)}, of at most {math.log(len(x)):.2f} for {len(x):,} examples; the "
        f"kl is {_nats(use.kl)}",
        f"with the code of another example recon loses {_nats(swapped)}",
    ]
    if use.variance_of_means is not None:
        evidence.append(
            f"active units {use.active_units} of {use.size}: the mean of q(z|x) varies over the data by at most "
            f"{use.variance_of_means.max().item():.2g} in a dimension (a unit is active above 0.01)"
        )
    if kind is None:
        return Collapse(None, use, swapped, tuple(evidence), ())
    cause, remedies = _remedies(vae, x, context, objective, steps, use)
    return Collapse(kind, use, swapped, (*evidence, *cause), remedies)


def _nats(value: float) -> str:
    return f"{0.0 if abs(value) < 0.005 else value:.2f} nats"


def _swapped(vae: VAE, x: Tensor, context: tuple[Tensor, ...], seed: int) -> float:
    with running(vae, x, context, {}, seed) as pair:
        z = check_density(pair.posterior(), "collapse")((1,))
        own, _ = log_joint(pair, z, _ROWS)
        others, _ = log_joint(pair, z.roll(1, 1), _ROWS)
        return (own - others).double().mean().item()


def _remedies(
    vae: VAE, x: Tensor, context: tuple[Tensor, ...], objective: Any, steps: int | None, use: LatentUse
) -> tuple[list[str], tuple[Remedy, ...]]:
    """Return the causes that can be seen, and what to do, the remedies of these causes first."""
    likelihood = vae.likelihood if isinstance(vae, VAE) else None  # of a pair (model, guide), none is known
    causes: list[str] = []
    found = [*_scales(likelihood, x, causes)]
    for other, remedy in (*_weights(objective, causes), *_objectives(objective, steps, use)):
        if _trains(vae, other, x, context):
            found.append(remedy)
    if isinstance(likelihood, torch.nn.Module):
        size = sum(p.numel() for p in likelihood.parameters())
        why = f"one that can do less than this one, of {size:,} weights, by itself needs codes more"
        found.append(Remedy("a weaker decoder", why))
    return causes, tuple(found)


def _scales(likelihood: Any, x: Tensor, causes: list[str]) -> Iterator[Remedy]:
    """Yield the remedy of a fixed scale; where the scale is too wide for any code, add that to the causes."""
    if not (isinstance(likelihood, (Normal, Laplace, StudentT)) and isinstance(likelihood.scale, (int, float))):
        return
    scale, widest, name = likelihood.scale, _widest(x), type(likelihood).__name__
    if name == "Normal" and scale >= widest:
        causes.append(
            f"the likelihood Normal has the fixed scale {scale:g}; in no direction do the data have a standard "
            f"deviation above {widest:.2g}, and then no code of a linear decoder is worth its kl"
        )
    why = f"a fixed scale of {scale:g} says how far off a reconstruction may be at no cost"
    better = {"class": name, "scale": "optimal" if name == "Normal" else "learned"}
    yield Remedy("a scale that follows the data", why, "likelihood", better)


def _weights(objective: Any, causes: list[str]) -> Iterator[tuple[Objective, Remedy]]:
    """Yield the remedy of a weight of the kl above 1, and add the weight to the causes."""
    beta = objective.beta if isinstance(objective, BetaELBO) else 1.0
    if isinstance(beta, Real) and beta > 1:
        causes.append(
            f"the objective weighs the kl by {beta:g}: a nat in the code must save {beta:g} of reconstruction"
        )
        why = "1 is the bound on log p(x)"
        yield BetaELBO(), Remedy("a smaller weight of the kl", why, "objective", {"class": "beta"})


def _objectives(objective: Any, steps: int | None, use: LatentUse) -> Iterator[tuple[Objective, Remedy]]:
    """Yield objectives under which codes collapse less, except the one that the VAE was trained with."""
    if not isinstance(objective, BetaELBO) or isinstance(objective.beta, Real):
        length = {} if steps is None else {"steps": max(1, round(_WARM_UP * steps))}
        why = "codes are noise at first, and the kl takes them away before the decoder has learnt to read them"
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


def _trains(vae: VAE, objective: Objective, x: Tensor, context: tuple[Tensor, ...]) -> bool:
    """Return False if the VAE cannot be trained with the objective."""
    try:
        if isinstance(vae, VAE):
            check_objective(vae, objective, x[:2], *(c[:2] for c in context))
    except ValueError:
        return False
    return True


def _widest(x: Tensor) -> float:
    """The standard deviation of x in the direction in which it is largest."""
    values = x.detach().flatten(1).double()
    centred = (values - values.nanmean(0)).nan_to_num(0.0)  # missing values do not vary
    return torch.linalg.matrix_norm(centred, 2).item() / math.sqrt(len(values))
