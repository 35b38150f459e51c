"""Numbers of any shape, in memory or on disk; in a table, the columns have names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from pyro_vae.data.schema import Schema
from pyro_vae.data.splits import Split, Store, labels_of_both, read_rows, rows_of_both
from pyro_vae.data.table_context import context_features, encoded_context

__all__ = ["Rows"]


@dataclass(frozen=True, eq=False, repr=False)
class Rows(Split):
    """One split of a table or of arrays of any shape.

    Args:
        values: numbers ``(n, *event_shape)`` of any dtype; NaN where one is missing.
        labels: class of each example, int64 ``(n,)``; None without labels.
        classes: how many classes there are.
        class_names: names of the classes; empty if they have none but their numbers.
        with_labels: give the one-hot label with each batch as context, for a conditional VAE.
        columns: names of the columns of a table; else empty.
        loc: what is subtracted from the values before the VAE sees them, float64 of the event shape or one number; None
            for nothing.
        scale: what they are then divided by, likewise.
        schema: what the columns of a table hold.
        given: numbers and codes of the context columns of the schema, float64 ``(n, columns)``; None if there are none.
        name: of the data set, as :func:`pyro_vae.data.load` takes it.
        origin: what :func:`pyro_vae.data.load` read it from, and with which options; it records them.
    """

    values: Store
    labels: Tensor | None = None
    classes: int = 0
    class_names: tuple[str, ...] = ()
    with_labels: bool = False
    columns: tuple[str, ...] = ()
    loc: Tensor | None = None
    scale: Tensor | None = None
    schema: Schema | None = None
    given: Tensor | None = None
    name: str | None = None
    origin: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.columns and (len(self.event_shape) != 1 or len(self.columns) != self.event_shape[0]):
            raise ValueError(f"columns must have one name for each of {self.event_shape}; got {len(self.columns)}")
        if (self.loc is None) != (self.scale is None):
            raise ValueError("loc and scale go together; got one of the two")
        if self.labels is not None and len(self.values) != len(self.labels):
            raise ValueError(f"labels must have one entry per row: {len(self.values)}; got {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Return some of the rows, by slice or by index."""
        labels, given = (None if tensor is None else tensor[rows] for tensor in (self.labels, self.given))
        return replace(self, values=self.values[rows], labels=labels, given=given)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.values.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    def to(self, device: torch.device | str | None) -> Self:
        """Return the same rows on a device; what is on disk stays there."""
        values = self.values.to(device) if isinstance(self.values, Tensor) else self.values
        labels, loc, scale, given = (
            None if tensor is None else tensor.to(values.device)
            for tensor in (self.labels, self.loc, self.scale, self.given)
        )
        return replace(self, values=values, labels=labels, loc=loc, scale=scale, given=given)

    def x(self, rows: slice | Tensor, dtype: torch.dtype, generator: torch.Generator | None = None) -> Tensor:
        """Return some of the rows, standardised if they are to be."""
        values = read_rows(self.values, rows)
        if self.loc is not None and self.scale is not None:
            values = (values.double() - self.loc) / self.scale
        return values.to(dtype)

    def select(self, columns: Sequence[str]) -> Self:
        """Return the columns of these names, in this order.

        Raises:
            ValueError: if one is not there.
        """
        lacking = [column for column in columns if column not in self.columns]
        if lacking:
            raise ValueError(f"{self.name} lacks the columns {', '.join(map(repr, lacking[:10]))}")
        chosen = torch.tensor([self.columns.index(column) for column in columns])
        values = self.values[:, chosen] if isinstance(self.values, Tensor) else self.values.read(slice(None))[:, chosen]
        loc, scale = (None if moment is None else moment[chosen] for moment in (self.loc, self.scale))
        schema = None if self.schema is None else self.schema.select(columns)
        return replace(self, values=values, columns=tuple(columns), loc=loc, scale=scale, schema=schema)

    def to_units(self, x: Tensor) -> Tensor:
        """Return x of a VAE in the units of the data: undoes the standardisation, if there is one."""
        if self.loc is None or self.scale is None:
            return x
        return (x.double() * self.scale.to(x.device) + self.loc.to(x.device)).to(x.dtype)

    def followed_by(self, other: Self) -> Self:
        """Return these rows and then those of another split of the same data set."""
        given = None if self.given is None or other.given is None else torch.cat([self.given, other.given])
        values, labels = rows_of_both(self.values, other.values), labels_of_both(self, other)
        return replace(self, values=values, labels=labels, given=given)

    @property
    def context_features(self) -> int:
        """How many numbers the context has for each example: of the labels, and of the context columns."""
        of_columns = 0 if self.schema is None or self.given is None else context_features(self.schema)
        return super().context_features + of_columns

    def context(self, rows: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return the context of some rows: the one-hot label, and the features of the context columns."""
        of_labels = super().context(rows, dtype)
        if self.schema is None or self.given is None:
            return of_labels
        return (*of_labels, encoded_context(self.schema, self.given[rows]).to(dtype))

    @property
    def has_missing(self) -> bool:
        """True if a value is NaN."""
        return self.values.dtype.is_floating_point and any(bool(some.isnan().any()) for some in self.stored())

    def without_values(self) -> str | None:
        """Return the first column, or element of x, that is missing in all rows, in words; None if there is none."""
        if not self.values.dtype.is_floating_point:
            return None
        known = torch.zeros(self.event_shape, dtype=torch.bool)
        for some in self.stored():
            known |= (~some.isnan()).any(0).cpu()
        if known.all():
            return None
        place = tuple((~known).nonzero()[0].tolist())
        return f"column {self.columns[place[0]]!r}" if self.columns else f"element {place}"

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, float64, of each element of a vector, or of all elements of an array.

        Missing values do not count. Where nothing varies, the standard deviation is 1.

        Raises:
            ValueError: if float64 cannot hold a variance.
        """
        dims = (0,) if len(self.event_shape) == 1 else tuple(range(len(self.event_shape) + 1))
        count = total = torch.zeros(())
        for some in self.stored():
            count, total = count + (~some.isnan()).sum(dims), total + some.double().nansum(dims)
        mean = total.double() / count.clamp_min(1)
        squares = sum((some.double() - mean).square().nansum(dims) for some in self.stored())
        scale = (torch.as_tensor(squares) / count.clamp_min(1)).sqrt()
        if not scale.isfinite().all():
            raise ValueError(f"{self.name or 'x'} has values whose squares float64 cannot hold. Scale them")
        return mean, torch.where(scale > 0, scale, torch.ones_like(scale))

    def standardised(self, loc: Tensor, scale: Tensor, columns: Sequence[bool] | None = None) -> Self:
        """Return the same rows, which a VAE sees minus ``loc`` and divided by ``scale``.

        Args:
            loc: float64, of the event shape or one number.
            scale: likewise, above 0.
            columns: True for the columns that are standardised; by default all.
        """
        if columns is not None:
            chosen = torch.tensor(columns)
            loc, scale = torch.where(chosen, loc, 0.0), torch.where(chosen, scale, 1.0)
        return replace(self, loc=loc.double(), scale=scale.double())

    def _stored(self, rows: slice) -> Tensor:
        return read_rows(self.values, rows)

    def values_in_words(self) -> str:
        """Return what numbers x has, in words."""
        form = "real numbers" if self.values.dtype.is_floating_point else "whole numbers"
        missing = ", some missing" if self.has_missing else ""
        given = [] if self.schema is None or self.given is None else [column.name for column in self.schema.context]
        context = f", with the context {', '.join(given)}" if given else ""
        return form + (", standardised" if self.loc is not None else "") + missing + context
