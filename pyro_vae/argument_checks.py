"""Checks of arguments that must be numbers or one of a few words, with the same messages everywhere."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import SupportsFloat, SupportsIndex

__all__ = [
    "at_least",
    "at_least_one",
    "finite_number",
    "is_finite_number",
    "is_integer",
    "near_miss",
    "one_of",
    "true_or_false",
]


def at_least(name: str, value: SupportsIndex, least: int, why: str = "") -> int:
    """Return an argument as an integer of at least ``least``.

    Args:
        name: of the argument.
        value: an integer of Python's or NumPy's.
        least: the smallest value allowed.
        why: the reason for the limit, if it is not plain.

    Raises:
        ValueError: if it is not an integer, a bool, or too small.

    Example:
        >>> at_least("num_particles", 0, 1)
        Traceback (most recent call last):
        ValueError: num_particles must be an integer of at least 1; got 0
    """
    if not is_integer(value, least):
        reason = f", {why}" if why else ""
        raise ValueError(f"{name} must be an integer of at least {least}{reason}; got {value!r}")
    return operator.index(value)


def at_least_one(**counts: SupportsIndex) -> None:
    """Check that arguments are integers of at least 1.

    Raises:
        ValueError: for the first that is not.
    """
    for name, count in counts.items():
        at_least(name, count, 1)


def finite_number(
    name: str,
    value: SupportsFloat,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    why: str = "",
) -> float:
    """Return an argument as a finite float within limits.

    Args:
        name: of the argument.
        value: a real number of Python's or NumPy's.
        above: a limit that the number must exceed.
        least: the smallest value allowed.
        below: a limit that the number must stay under.
        most: the largest value allowed.
        why: the reason for the limits, if it is not plain.

    Raises:
        ValueError: if it is not a number, a bool, NaN, infinite or outside the limits.

    Example:
        >>> finite_number("lr", 0.0, above=0)
        Traceback (most recent call last):
        ValueError: lr must be a finite number above 0; got 0.0
    """
    number = _as_float(value)
    if not math.isfinite(number) or not (above < number < below and least <= number <= most):
        limits = {"above": above, "of at least": least, "below": below, "of at most": most}
        words = " and ".join(f"{word} {_short(limit)}" for word, limit in limits.items() if math.isfinite(limit))
        reason = f", {why}" if why else ""
        raise ValueError(f"{name} must be a finite number{' ' * bool(words)}{words}{reason}; got {value!r}")
    return number


def one_of(name: str, value: str, *words: str) -> None:
    """Check that an argument is one of at least two words.

    Raises:
        ValueError: if it is not.

    Example:
        >>> one_of("kl", "exact", "analytic", "sampled")
        Traceback (most recent call last):
        ValueError: kl must be "analytic" or "sampled"; got 'exact'
    """
    if value not in words:
        *others, last = (f'"{word}"' for word in words)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}; got {value!r}")


def true_or_false(name: str, value: bool) -> bool:
    """Return a bool; raise a ValueError that names the argument if it is none."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}")
    return value


def is_integer(value: object, least: int) -> bool:
    """Return True if a value is an integer of at least ``least``, and not a bool."""
    try:
        return not isinstance(value, bool) and operator.index(value) >= least  # type: ignore[arg-type]
    except TypeError:
        return False


def is_finite_number(value: object) -> bool:
    """Return True if a value is a finite real number, and not a bool."""
    return math.isfinite(_as_float(value))


def _as_float(value: object) -> float:
    """Return a number as a float; NaN if it is not a number, or too large."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _short(limit: float) -> str:
    return f"{limit:g}".replace("e-0", "e-")


def near_miss(word: str, there: Iterable[str], before: str = "") -> str:
    """Return a sentence with the word that another may stand for, to end an error with; nothing if there is none.

    Args:
        word: that is wrong.
        there: those that are right.
        before: what to write before the right word, such as ``"--"``.

    Example:
        >>> "there is no column heigt" + near_miss("heigt", ["height", "weight"])
        'there is no column heigt. Did you mean height?'
    """
    by_lower = {right.lower(): right for right in there}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.65)
    return f". Did you mean {before}{by_lower[close[0]]}?" if close else ""
