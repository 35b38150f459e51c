"""Checks of data against a likelihood: its shape, and its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.distributions import TorchToPyro, base_constraint, part_name, stated_support
from pyro_vae.distributions.columns import Columns
from pyro_vae.nets.shapes import remedy_of_shape
from pyro_vae.parts import Part, as_likelihood, child
from pyro_vae.value_checks import holds

__all__ = ["NotFiniteError", "check_column_order", "check_event_shape", "check_finite", "check_support"]

_FEW_LEVELS = 15  # integers up to this are more likely counts or classes than grey levels of 8 bits
_SETS = {
    constraints.boolean: "{0, 1}",
    constraints.real: "the real numbers",
    constraints.unit_interval: "[0, 1]",
    constraints.positive: "(0, ∞)",
    constraints.nonnegative: "[0, ∞)",
    constraints.nonnegative_integer: "{0, 1, 2, ...}",
    constraints.positive_integer: "{1, 2, 3, ...}",
    constraints.simplex: "the simplex: vectors of numbers from 0 that sum to 1",
}


class NotFiniteError(ValueError):
    """x has NaN or infinite values, and the VAE takes complete data alone.

    Args:
        found: what is wrong, and what to do about the data.
    """

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        """Return the message, with the argument that makes NaN a missing value."""
        return f"{self.found} before training, or build the VAE with missing=True for NaN"


def check_finite(x: Tensor) -> None:
    """Raise a NotFiniteError if x has NaN or infinite values."""
    if holds(torch.isfinite(x).all()):
        return
    bad = (~torch.isfinite(x)).sum().item()
    kind = "NaN" if torch.isnan(x).any() else "infinite values"
    raise NotFiniteError(f"x has {kind}: {bad} of {x.numel()} values are not finite. Remove or impute them")


def check_event_shape(likelihood: Part, event_shape: torch.Size, x: Tensor) -> None:
    """Raise a ValueError if x ``(batch, *event_shape)`` has another event shape than the likelihood.

    Args:
        likelihood: the module or function, for its name.
        event_shape: of the distribution that it returned, p(x | z).
        x: data.
    """
    if x.shape[1:] == event_shape:
        return
    remedy = (
        ". This is a single example: give it a batch dimension with x[None]"
        if x.shape == event_shape
        else remedy_of_shape(tuple(x.shape[1:]), tuple(event_shape))
        or ". Give its net the output shape of the data, and declare every dimension after the batch with .to_event"
    )
    raise ValueError(
        f"likelihood {part_name(likelihood)} is over x of shape (batch, {', '.join(map(str, event_shape))}); got "
        f"{tuple(x.shape)}{remedy}"
    )


def check_column_order(likelihood: Part, names: Sequence[str]) -> None:
    """Raise a ValueError if a table has the columns that a likelihood names in another order.

    Args:
        likelihood: may name columns, as :class:`pyro_vae.likelihoods.Mixed` does.
        names: of the columns of the table.
    """
    columns = child(likelihood, "columns")
    known = list(columns) if isinstance(columns, Mapping) else []
    moved = [name for name, own in zip(names, known, strict=False) if name != own and name in known]
    if moved:
        raise ValueError(
            f"x has column {moved[0]!r} where likelihood {part_name(likelihood)} has another. Give the columns in its "
            f"order: x[list(vae.likelihood.columns)]"
        )


def check_support(likelihood: Part, distribution: TorchDistribution, x: Tensor) -> None:
    """Raise a ValueError if x has another shape than p(x | z), or values outside its support.

    Args:
        likelihood: the module or function, for its name and its remedy.
        distribution: the distribution that it returned, p(x | z), with batch shape ``(..., batch)``.
        x: data ``(batch, *event_shape)``.
    """
    name = f"likelihood {part_name(likelihood)}"
    check_event_shape(likelihood, distribution.event_shape, x)
    check_finite(x)
    columns = distribution.base if isinstance(distribution, TorchToPyro) else distribution
    if not isinstance(columns, Columns):
        _check_values(name, [likelihood], stated_support(distribution), x)
        return
    # Mixed keeps one likelihood per column; another module that returns Columns may not.
    parts = as_likelihood(likelihood).of_columns()
    for group in columns.groups:
        support = stated_support(group.distribution)
        if support is None or holds(support.check(group.values(x)).all()):
            continue
        for i in group.numbers:
            part = [parts[i]] if len(parts) == len(columns.names) else []
            _check_values(f"{name}: column {columns.names[i]!r}", [*part, likelihood], support, x[:, i : i + 1])


def _check_values(name: str, likelihoods: list[Part], support: constraints.Constraint | None, x: Tensor) -> None:
    """Raise a ValueError with the first known remedy if values of x lie outside the support, if there is one."""
    if support is None or holds(support.check(x).all()):
        return
    support = base_constraint(support)
    low, high = x.min().item(), x.max().item()
    example = "" if support.event_dim else _between(support, x)
    remedies = (as_likelihood(likelihood).remedy for likelihood in likelihoods)
    remedy = next(filter(None, remedies), "Transform the data or use a likelihood over such values")
    remedy = _for_grey_levels(support, x) or remedy
    raise ValueError(
        f"{name} needs x in {_SETS.get(support, support)}; got values in [{low:.4g}, {high:.4g}]{example}. {remedy}"
    )


def _for_grey_levels(support: constraints.Constraint, x: Tensor) -> str:
    """Return what to do with integers that look like grey levels from 0 to 255, if the support is within [0, 1]."""
    low, high = x.min().item(), x.max().item()
    if low < 0 or not _FEW_LEVELS < high <= 255 or (x != x.round()).any():
        return ""
    divide = "If x holds grey levels from 0 to 255, divide them by 255"
    if support.check(x / 255).all():
        return divide
    if support is not constraints.boolean:
        return ""
    return (
        f"{divide} and binarise them, as (x / 255).round(), or keep them with likelihoods.DiscretizedLogistic(levels="
        "256, upper=255.0)"
    )


def _between(support: constraints.Constraint, x: Tensor) -> str:
    """Name one of the wrong values if the least and the greatest lie in the support."""
    ends = torch.stack([x.min(), x.max()])
    if not support.check(ends).all():
        return ""
    return f", such as {x[~support.check(x).expand(x.shape)][0].item():.4g}"
