"""A likelihood of tables whose columns are of different kinds."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_vae.distributions.columns import Columns
from pyro_vae.likelihoods.alike import alike, side_by_side
from pyro_vae.parts import Likelihood, Part, as_likelihood, known, net_shape_of
from pyro_vae.registry import Kind, find, prefix_errors
from pyro_vae.resolver import build_from

__all__ = ["Mixed"]

Column = str | Mapping[str, Any] | Part
"""The likelihood of a column: by name, as a mapping with its arguments, or as a class or partial."""


class Mixed(Likelihood):
    """Independent columns, each with a likelihood of its own; for tables x ``(batch, columns)``.

    (As in Nazábal et al. 2018, arXiv 1807.03653.) Every column has its own learned scale, dispersion and so on.
    Columns whose likelihoods are of this library, with the same arguments, are evaluated together, which is faster.

    Args:
        net: maps z, and the context if there is any, to the parameters of all columns, side by side: vectors of
            ``Mixed.net_shape(event_shape, columns)``.
        columns: from the name of each column to its likelihood, in the order of the columns in x. A likelihood is a
            name (``"Normal"``) or a dotted path, a mapping with that under ``class`` and its arguments beside it, a
            class, or a ``functools.partial`` of one. Any class with an argument ``net`` works; its ``net_shape``, if
            there is one, says what its net must give for x of shape ``(1,)``, else that is ``(1,)``.

    Raises:
        ValueError: if a column's likelihood is not found or cannot be made, or the net gives vectors of another
            length; from ``net_shape`` if x has another number of columns.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> columns = {"height": "Normal", "smoker": "Bernoulli", "visits": {"class": "Poisson"}}
        >>> p = Mixed(nets.MLP(2, (64,), Mixed.net_shape((3,), columns)), columns)
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([3])
    """

    remedy = "Transform the column or give it another likelihood"

    def __init__(self, net: nn.Module, columns: Mapping[str, Column]) -> None:
        super().__init__()
        self.net = net
        self.columns = {str(name): _spec(str(name), column) for name, column in _checked(columns).items()}
        self.parts = nn.ModuleList()
        self.sizes = []
        for name, spec in self.columns.items():
            shape = _part_shape(name, spec)
            part = _make(name, spec, net=nn.Unflatten(-1, shape))
            if as_likelihood(part).own_context:
                raise ValueError(f"column {name!r}: library=True is for counts of many elements, not for one column")
            self.parts.append(part)
            self.sizes.append(math.prod(shape))
        self.depends_on_batch = any(as_likelihood(part).depends_on_batch for part in self.parts)

    @classmethod
    def net_shape(cls, event_shape: tuple[int, ...], columns: Mapping[str, Column], **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``: the parameters of all columns."""
        specs = {str(name): _spec(str(name), column) for name, column in _checked(columns).items()}
        if tuple(event_shape) != (len(specs),):
            raise ValueError(
                f"columns must name every column of x, in order; got {len(specs)} ({', '.join(specs)}) for x of "
                f"shape (batch, {', '.join(map(str, event_shape))})"
            )
        return (sum(math.prod(_part_shape(name, spec)) for name, spec in specs.items()),)

    def of_columns(self) -> list[Part]:
        """Return the likelihood of each column."""
        return list(self.parts)

    def forward(self, z: Tensor, *context: Tensor) -> Columns:
        """Return columns with batch shape ``(*batch,)`` and event shape ``(columns,)``."""
        out = self.net(z, *context)
        if out.dim() != z.dim() or out.shape[-1] != sum(self.sizes):
            each = ", ".join(f"{size} for {name!r}" for name, size in zip(self.columns, self.sizes, strict=True))
            raise ValueError(
                f"likelihood Mixed needs a net whose output is (batch, {sum(self.sizes)}): {each}; "
                f"got {tuple(out.shape)}"
            )
        pieces = out.split(self.sizes, dim=-1)
        groups = alike(list(self.parts))
        columns = [self._together([(self.parts[i], pieces[i]) for i in places]) for places in groups]
        return Columns(columns, list(self.columns), places=[p[0] if len(p) == 1 else tuple(p) for p in groups])

    def _together(self, group: list[tuple[nn.Module, Tensor]]) -> TorchDistribution:
        """Return the distribution of columns of one kind, with batch shape ``(*batch, k)``; ``(*batch,)`` for one."""
        parts, pieces = zip(*group, strict=True)
        if len(parts) == 1:
            return parts[0](pieces[0])
        return side_by_side(parts).forward(torch.stack(pieces, dim=-2))


def _checked(columns: object) -> Mapping[str, Column]:
    if not isinstance(columns, Mapping) or not columns:
        raise ValueError(
            f'columns must be a mapping from the name of each column to its likelihood, such as {{"age": "Normal"}}; '
            f"got {columns!r}"
        )
    return columns


def _spec(name: str, column: Column) -> dict[str, Any]:
    """Return a column's likelihood as a mapping: its ``class``, by name or itself, and its arguments."""
    if isinstance(column, functools.partial):
        if column.args:
            raise ValueError(f"column {name!r}: give the arguments of functools.partial by name; got {column.args}")
        return {"class": column.func, **column.keywords}
    if isinstance(column, Mapping):
        if "class" not in column:
            raise ValueError(f"column {name!r} must name its likelihood under 'class'; got {dict(column)!r}")
        return dict(column)
    return {"class": column}


def _find(name: str, likelihood: str | Part) -> type[nn.Module]:
    """Return the class of a column's likelihood."""
    found: Any = likelihood
    if isinstance(likelihood, str):
        with prefix_errors(f"column {name!r}"):
            found = find(Kind("likelihood", known(Likelihood)), likelihood)
    if not isinstance(found, type) or "net" not in inspect.signature(found).parameters:
        raise ValueError(
            f"column {name!r} must have a likelihood by name, or a class with an argument net; got {likelihood!r}"
        )
    return found


def _part_shape(name: str, spec: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape that the net of a column's likelihood must give."""
    found = _find(name, spec["class"])
    try:
        return tuple(net_shape_of(found, (1,), **{key: value for key, value in spec.items() if key != "class"}))
    except TypeError as error:
        raise ValueError(f"column {name!r}: {found.__name__} cannot be made from {spec}: {error}") from error


def _make(name: str, spec: dict[str, Any], net: nn.Module) -> nn.Module:
    found = _find(name, spec["class"])
    with prefix_errors(f"column {name!r}"):
        return build_from(Kind("likelihood"), {**spec, "class": found}, {"net": net})
