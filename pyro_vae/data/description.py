"""What a run folder says of the data that its VAE was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import is_finite_number, is_integer
from pyro_vae.data.counts import Counts
from pyro_vae.data.rows import Rows
from pyro_vae.data.splits import Split

__all__ = ["Description"]

_MOST_SIZES = 1000

Nested = float | list["Nested"]


@dataclass(frozen=True)
class Description:
    """Training data without the examples themselves.

    Args:
        kind: of data, the name of the class of the split.
        event_shape: of one example.
        examples: how many there were.
        fingerprint: changes if a value does; see :meth:`Split.fingerprint`.
        columns: names of the columns of a table; else empty.
        classes: how many classes the labels have; 0 without labels.
        class_names: names of the classes; empty if they have none but their numbers.
        loc: what is subtracted from the values before the VAE sees them; None for nothing.
        scale: what they are then divided by.
        library_sizes: of counts that were given with them: their library sizes in order or, of more than 1,000,
            evenly spaced ones; else empty. New examples take theirs from these.
    """

    kind: str
    event_shape: tuple[int, ...]
    examples: int
    fingerprint: str
    columns: tuple[str, ...] = ()
    classes: int = 0
    class_names: tuple[str, ...] = ()
    loc: Nested | None = None
    scale: Nested | None = None
    library_sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, split: Split) -> Description:
        """Return the description of the examples to train on."""
        of_kind: dict[str, Any] = {}
        if isinstance(split, Rows):
            moments = {"loc": split.loc, "scale": split.scale}
            of_kind = {name: None if value is None else value.tolist() for name, value in moments.items()}
        if isinstance(split, (Rows, Counts)):
            of_kind["columns"] = split.columns
        if isinstance(split, Counts) and split.library:
            of_kind["library_sizes"] = split.some_library_sizes(_MOST_SIZES)
        return cls(
            type(split).__name__,
            split.event_shape,
            len(split),
            split.fingerprint(),
            classes=split.classes,
            class_names=split.class_names,
            **of_kind,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain text, numbers and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: object) -> Description:
        """Return the description that :meth:`to_json` gave.

        Raises:
            ValueError: if a value is of another kind than one that it gave.
        """
        if not isinstance(found, dict) or set(found) != {field.name for field in fields(cls)}:
            raise ValueError("it must have the entries that a training writes")
        checks = {
            "kind": isinstance(found["kind"], str),
            "fingerprint": isinstance(found["fingerprint"], str),
            "event_shape": _are(found["event_shape"], lambda size: is_integer(size, 1)),
            "examples": is_integer(found["examples"], 1),
            "classes": is_integer(found["classes"], 0),
            "library_sizes": _are(found["library_sizes"], lambda size: is_integer(size, 1)),
            **{name: _are(found[name], lambda word: isinstance(word, str)) for name in ("columns", "class_names")},
            **{name: found[name] is None or _is_numbers(found[name]) for name in ("loc", "scale")},
        }
        for name, right in checks.items():
            if not right:
                raise ValueError(f"{name} has a value that no training writes: {str(found[name])[:80]!r}")
        lists = ("event_shape", "columns", "class_names", "library_sizes")
        values: dict[str, Any] = {name: tuple(v) if name in lists else v for name, v in found.items()}
        return cls(**values)

    @property
    def moments(self) -> tuple[Tensor, Tensor] | None:
        """``loc`` and ``scale`` as float64; None if nothing is standardised."""
        if self.loc is None or self.scale is None:
            return None
        return torch.tensor(self.loc, dtype=torch.float64), torch.tensor(self.scale, dtype=torch.float64)

    def to_units(self, x: Tensor) -> Tensor:
        """Return x of a VAE in the units of the data: undoes the standardisation, if there is one."""
        if self.moments is None:
            return x
        loc, scale = self.moments
        return x.cpu().double() * scale + loc


def _are(values: object, right: Callable[[Any], bool]) -> bool:
    return isinstance(values, (list, tuple)) and all(right(value) for value in values)


def _is_numbers(value: object) -> bool:
    return all(map(_is_numbers, value)) if isinstance(value, list) else is_finite_number(value)
