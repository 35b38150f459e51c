"""The table of right programs."""

from __future__ import annotations

from collections.abc import Callable

from tests.checks.mutants.common import Setup

__all__ = ["RIGHT", "right"]

RIGHT: dict[str, Callable[[], Setup]] = {}


def right(make: Callable[[], Setup]) -> Callable[[], Setup]:
    """Puts a function that makes a setup into the table."""
    RIGHT[make.__name__] = make
    return make
