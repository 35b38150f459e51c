"""Symbolic floats, during a capture: floats for the program, tensors for the graph."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar
from unittest.mock import patch

import numpy as np
import sympy  # type: ignore[import-untyped]  # it has no types
import torch
from torch import SymFloat, SymInt, Tensor
from torch.utils._sympy.functions import FloatTrueDiv, IntTrueDiv, ToFloat

from pyro_vae.svi.refusals import CannotCaptureError, at_user_line

__all__ = ["FloatOperations", "SymbolicFloat", "math_refusing_floats"]

_SIZES = (SymInt, SymFloat)  # of dimensions that may change
Operand = float | SymInt | SymFloat  # SymbolicFloats among them
P = ParamSpec("P")
T = TypeVar("T")


class _Place(NamedTuple):
    """The index of a number when notes are evaluated: first the float arguments, then the results of the notes."""

    place: int


class _Size(NamedTuple):
    """A dimension that may change, or a quotient of such dimensions, as an expression."""

    expression: sympy.Expr

    def at(self, sizes: Mapping[sympy.Expr, int]) -> int | float:
        value = self.expression.subs(sizes)
        return int(value) if value.is_Integer else float(value)


class _Note(NamedTuple):
    """An operation of the program on its float arguments; for a decision, also the outcome in the capture."""

    operation: Callable[..., Any]
    operands: tuple[Any, ...]
    outcome: bool | None = None

    def at(self, sizes: Mapping[sympy.Expr, int]) -> _Note:
        """Return the note with numbers in place of sizes."""
        operands = tuple(o.at(sizes) if isinstance(o, _Size) else o for o in self.operands)
        return _Note(self.operation, operands, self.outcome)


class FloatOperations:
    """What the program of one capture computes from its float arguments in Python, and what it decides by them.

    Args:
        hidden: True if C code that reads the double in a :class:`SymbolicFloat` is to find a wrong one.
    """

    def __init__(self, hidden: bool = False) -> None:
        self.hidden = hidden
        self.of_runs = False
        self.notes: list[_Note] = []
        self.decided = 0  # the number of notes up to the last decision
        self._arguments = 0
        self._known: dict[Any, _Place] = {}
        self._of_sizes: dict[tuple[int, ...], list[_Note]] = {}

    def arguments(self, examples: Sequence[Tensor | float], tensors: Sequence[Tensor]) -> list[Tensor | SymbolicFloat]:
        """Return the arguments of the program: the tensors, with symbolic floats in place of floats.

        Args:
            examples: the arguments of the step, floats among them.
            tensors: the tensor of the graph for each, and maybe more.
        """
        first = zip(examples, tensors, strict=False)
        found = [self._argument(a, t) if isinstance(a, float) else t for a, t in first]
        return [*found, *tensors[len(examples) :]]

    def _argument(self, value: float, tensor: Tensor) -> SymbolicFloat:
        self._arguments += 1
        return SymbolicFloat(value, tensor, self, _Place(self._arguments - 1))

    def of_run(self, tensor: Tensor) -> SymbolicFloat:
        """Return a number that each run computes, such as a loss: only arithmetic with it is followed.

        Args:
            tensor: the number, float64, ``()``, without a value.
        """
        self.of_runs = True
        return SymbolicFloat(1.0, tensor, self, None)

    def compute(self, operation: Callable[..., Any], *operands: Operand) -> SymbolicFloat:
        """Do an operation on the values and on the tensors, which gives the same bits.

        Args:
            operation: of the module ``operator``.
            operands: SymbolicFloats, numbers of Python, sizes.

        Raises:
            ZeroDivisionError: as Python does.
        """
        if any(isinstance(o, SymbolicFloat) and o.place is None for o in operands):
            return self.of_run(operation(*map(_in_graph, operands)))
        if operation is operator.truediv and isinstance(operands[1], SymbolicFloat):
            self.decide(operator.eq, operands[1], 0.0)  # Python raises, but the graph would go on with an infinity
        value = operation(*map(_value, operands))
        tensors = list(map(_in_graph, operands))
        if operation is operator.truediv and not isinstance(tensors[0], Tensor):
            # torch would multiply by the reciprocal, which rounds twice.
            tensors[0] = torch.full((), tensors[0], dtype=torch.float64, device="cpu")
        return SymbolicFloat(value, operation(*tensors), self, self._note(operation, operands))

    def decide(self, operation: Callable[..., Any], *operands: Operand) -> bool:
        """Evaluate a condition for the values, and note it: the graph fits other floats only with the same outcome.

        Args:
            operation: of the module ``operator``, or bool.
            operands: SymbolicFloats, numbers of Python, sizes.
        """
        if any(isinstance(o, SymbolicFloat) and o.place is None for o in operands):
            raise CannotCaptureError(at_user_line("a branch or a number depends on the value of a loss"))
        outcome = bool(operation(*map(_value, operands)))
        self._note(operation, operands, outcome)
        return outcome

    def _note(self, operation: Callable[..., Any], operands: Sequence[Operand], outcome: bool | None = None) -> _Place:
        if any(isinstance(o, SymbolicFloat) and o.numbers is not self for o in operands):
            raise _refusal("of another run is kept")
        note = _Note(operation, tuple(map(_noted, operands)), outcome)
        key = operation, tuple((type(o), repr(o)) for o in note.operands)  # 0.0 and -0.0 are equal, but not the same
        if key not in self._known:
            self.notes.append(note)
            self._known[key] = _Place(self._arguments + len(self.notes) - 1)
            if outcome is not None:
                self.decided = len(self.notes)
        return self._known[key]

    def hold(self, floats: Sequence[float], sizes: Mapping[sympy.Expr, int]) -> bool:
        """Return True if the program would decide the same with other floats.

        Args:
            floats: the float arguments, in order.
            sizes: the value of each symbol in the dimensions of the other arguments.
        """
        key = tuple(sizes.values())
        if key not in self._of_sizes:
            self._of_sizes[key] = [note.at(sizes) for note in self.notes[: self.decided]]
        known: list[Any] = list(floats)
        for operation, operands, outcome in self._of_sizes[key]:
            result = operation(*[known[o.place] if type(o) is _Place else o for o in operands])
            if outcome is not None and bool(result) is not outcome:
                return False
            known.append(result)
        return True


class SymbolicFloat(float):
    """A float argument of a captured program, or the result of arithmetic with one.

    ``isinstance`` takes it for a float. The graph follows sums, differences, products, quotients, ``-`` and ``abs`` in
    float64, with the same bits as in Python. Comparisons use the value, and are noted. All other reads of the value are
    refused. C code can read the double unnoticed: so a second capture holds a wrong double, and differs if anything
    in Python depends on it.

    Args:
        value: the true value; of NumPy's type if the argument is.
        tensor: the number in the graph, float64, ``()``.
        numbers: the operations of the capture.
        place: its index there; None for a number that each run computes.
    """

    __array_ufunc__ = None  # NumPy then leaves operations to this class, and refuses its own functions
    __slots__ = ("numbers", "place", "tensor", "value")

    value: float
    tensor: Tensor
    numbers: FloatOperations
    place: _Place | None

    def __new__(cls, value: float, tensor: Tensor, numbers: FloatOperations, place: _Place | None) -> SymbolicFloat:
        """Make a float with the value, or with a wrong double if values are hidden."""
        self = super().__new__(cls, _other(value) if numbers.hidden else value)
        self.value, self.tensor, self.numbers, self.place = value, tensor, numbers, place
        return self

    def __pos__(self) -> SymbolicFloat:
        return self

    def __copy__(self) -> SymbolicFloat:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SymbolicFloat:
        return self

    def __bool__(self) -> bool:
        return self.numbers.decide(bool, self)


def _other(value: float) -> float:
    """Return NaN, since hardly any function gives the same result for it; for NaN, a number."""
    return 0.5 if value != value else float("nan")


def _value(operand: Operand) -> Any:
    if isinstance(operand, SymbolicFloat):
        return operand.value
    return operand.node.hint if isinstance(operand, _SIZES) else operand


def _in_graph(operand: Operand) -> Any:
    if isinstance(operand, SymbolicFloat):
        return operand.tensor
    return operand if isinstance(operand, _SIZES) else float(operand)


def _noted(operand: Operand) -> Any:
    if isinstance(operand, SymbolicFloat):
        return operand.place
    if not isinstance(operand, _SIZES):
        return operand
    if not _has_bits_of_python(operand.node.expr):
        raise CannotCaptureError(at_user_line("a float argument meets a number that comes from a size by fractions"))
    return _Size(operand.node.expr)


def _has_bits_of_python(expression: sympy.Expr) -> bool:
    """Return True if an expression rounds as Python does: it combines factors, which is exact for whole numbers."""
    if expression.is_integer:
        return True
    if isinstance(expression, sympy.Float):
        return float(expression).is_integer()
    exact = isinstance(expression, (sympy.Mul, ToFloat, FloatTrueDiv, IntTrueDiv))
    return exact and all(map(_has_bits_of_python, expression.args))


def _is_followed(operand: object) -> bool:
    if isinstance(operand, (np.generic, np.ndarray)) and not isinstance(operand, float):
        raise _refusal(f"meets a {type(operand).__name__} of NumPy")
    return isinstance(operand, (float, int, *_SIZES))


def _refusal(what: str) -> CannotCaptureError:
    return CannotCaptureError(
        at_user_line(f"a float argument {what}, which a graph cannot follow; pass a tensor in its place")
    )


def _binary(operation: Callable[..., Any]) -> Callable[[SymbolicFloat, Operand], Any]:
    def followed(self: SymbolicFloat, other: Operand) -> Any:
        return self.numbers.compute(operation, self, other) if _is_followed(other) else NotImplemented

    return followed


def _reflected(operation: Callable[..., Any]) -> Callable[[SymbolicFloat, Operand], Any]:
    def followed(self: SymbolicFloat, other: Operand) -> Any:
        return self.numbers.compute(operation, other, self) if _is_followed(other) else NotImplemented

    return followed


def _unary(operation: Callable[..., Any]) -> Callable[[SymbolicFloat], Any]:
    return lambda self: self.numbers.compute(operation, self)


def _comparison(operation: Callable[..., Any]) -> Callable[[SymbolicFloat, Operand], Any]:
    def compared(self: SymbolicFloat, other: Operand) -> Any:
        return self.numbers.decide(operation, self, other) if _is_followed(other) else NotImplemented

    return compared


def _refused(name: str) -> Callable[..., Any]:
    def refused(self: SymbolicFloat, *_: object) -> Any:
        raise _refusal(f"is read by {name}")

    return refused


def _complete() -> None:
    """Add the other methods of floats to the class: those that are followed, and refusals for the rest."""
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv):
        setattr(SymbolicFloat, f"__{operation.__name__}__", _binary(operation))
        setattr(SymbolicFloat, f"__r{operation.__name__}__", _reflected(operation))
    for unary in (operator.neg, operator.abs):
        setattr(SymbolicFloat, f"__{unary.__name__}__", _unary(unary))
    for operation in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        setattr(SymbolicFloat, f"__{operation.__name__}__", _comparison(operation))
    here = {"__new__", "__getattribute__", "__getformat__", "fromhex", "from_number"}  # these read no value
    for name in {*vars(float), "__str__"} - {*vars(SymbolicFloat), *here} | {"__hash__"}:
        refused = _refused(name)
        setattr(SymbolicFloat, name, property(refused) if name in ("real", "imag") else refused)


_complete()


@contextlib.contextmanager
def math_refusing_floats() -> Iterator[None]:
    """Make the functions of ``math`` refuse a SymbolicFloat; they would read its double unnoticed."""

    def refusing(name: str, function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            if any(isinstance(a, SymbolicFloat) for a in args):
                raise _refusal(f"is read by math.{name}")
            return function(*args, **kwargs)

        return checked

    with contextlib.ExitStack() as patches:
        for name, function in list(vars(math).items()):
            if callable(function) and not name.startswith("_"):
                patches.enter_context(patch.object(math, name, refusing(name, function)))
        yield
