"""Zuko's normalising flows by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

from torch import nn
from torch.distributions import Distribution

__all__ = ["import_zuko", "make_flow"]


def import_zuko() -> ModuleType:
    """Import Zuko, and undo the change that its import makes to torch's validation of arguments."""
    validate, first = Distribution._validate_args, "zuko" not in sys.modules
    import zuko

    if first:
        Distribution.set_default_validate_args(validate)
    return zuko


def make_flow(
    name: str, features: int, context_features: int, transforms: int | None, hidden: int | Sequence[int] | None
) -> nn.Module:
    """Make a flow of :mod:`zuko.flows` over vectors, such as ``"MAF"``, ``"NSF"`` or ``"NICE"``.

    Args:
        name: of its class.
        features: dimensions of the vectors.
        context_features: number of features of the context.
        transforms: number of transformations; None for Zuko's default.
        hidden: widths of their networks; None for Zuko's default.

    Raises:
        ValueError: if Zuko has no such flow, or the flow does not take these arguments.
    """
    flows = import_zuko().flows
    kinds = {n: cls for n, cls in vars(flows).items() if isinstance(cls, type) and issubclass(cls, flows.Flow)}
    for not_over_vectors in ("Flow", "NCSF"):  # the base class; circular, over angles
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
            f"flow {name} cannot be made with {options}: {error}. Leave out (None) the arguments that it does "
            "not take, or pass a flow made with Zuko as the prior"
        ) from error
