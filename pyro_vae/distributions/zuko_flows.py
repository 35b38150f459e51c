"""Zuko's normalising flows by name."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from torch import nn
from torch.distributions import Distribution

__all__ = ["import_zuko", "make_flow"]


def import_zuko() -> ModuleType:
    """Zuko, without what its import changes: torch's default for the validation of arguments."""
    validate, first = Distribution._validate_args, "zuko" not in sys.modules
    import zuko

    if first:
        Distribution.set_default_validate_args(validate)
    return zuko


def make_flow(name: str, features: int, context_features: int, transforms: int | None, hidden: Any) -> nn.Module:
    """A flow of :mod:`zuko.flows` over vectors, such as ``"MAF"``, ``"NSF"`` or ``"NICE"``.

    Args:
        name: of its class.
        features: dimensions of the vectors.
        context_features: number of features of the context.
        transforms: how many transformations follow one another; None for Zuko's default.
        hidden: widths of their networks; None for Zuko's default.

    Raises:
        ValueError: where Zuko has no such flow, or it does not take these arguments.
    """
    flows = import_zuko().flows
    kinds = {n: cls for n, cls in vars(flows).items() if isinstance(cls, type) and issubclass(cls, flows.Flow)}
    for not_over_vectors in ("Flow", "NCSF"):  # the class of them all; circular, over angles
        kinds.pop(not_over_vectors, None)
    if name not in kinds:
        raise ValueError(f"flow must be the name of one in zuko.flows: {', '.join(sorted(kinds))}; got {name!r}")
    widths = (hidden,) if isinstance(hidden, int) else hidden
    given = {"transforms": transforms, "hidden_features": widths}
    options = {option: value for option, value in given.items() if value is not None}
    try:
        return kinds[name](features, context_features, **options)
    except TypeError as error:
        raise ValueError(
            f"flow {name} cannot be made with {options}: {error}. Leave out (None) what it does not take, or pass "
            "a flow that Zuko made as the prior itself"
        ) from error
