"""Whether a program changes the data that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_vae.programs import Programs

__all__ = ["changed_in_place"]


def changed_in_place(program: Callable[..., Any], who: str, p: Programs) -> str:
    """Runs a program on a copy of the data and looks at whether it changes it; empty where it does not.

    Values are compared, which NumPy's views change too, and torch's counts of what is done in place: a clamp that
    happens to change nothing now will do so with other data.

    Args:
        program: takes x, the context and what goes by name, such as a model, a guide or an objective.
        who: what to call it, such as ``"the guide"``.
        p: the data.
    """
    given = {"x": p.x, **{f"context {i}": c for i, c in enumerate(p.context)}, **_tensors(p.named)}
    copies = {name: value.clone() for name, value in given.items()}
    versions = {name: copy._version for name, copy in copies.items()}
    named = {name: copies.get(name, value) for name, value in p.named.items()}
    program(*(copies[name] for name in given if name not in p.named), **named)
    for name, copy in copies.items():
        if copy._version != versions[name] or not torch.equal(_bits(copy), _bits(given[name])):
            return (
                f"{who} changes {name} in place, so that whatever runs after it sees other data. Look for methods that "
                f"end in an underscore, -=, /= and assignments to elements, and work on {name}.clone()"
            )
    return ""


def _tensors(named: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _bits(values: Tensor) -> Tensor:
    """What can be compared where there is NaN: missing values."""
    return torch.nan_to_num(values, nan=-0.123456789) if values.is_floating_point() else values
