"""Float arguments while a graph is captured: a float for the program, a tensor for the graph."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import sympy  # type: ignore[import-untyped]  # it comes without types
import torch
from torch import SymFloat, SymInt, Tensor
from torch.utils._sympy.functions import FloatTrueDiv, IntTrueDiv, ToFloat

from pyro_vae.svi.refusals import CannotCaptureError, at_user_line

__all__ = ["FloatArgument", "Numbers", "math_that_asks"]

_SIZES = (SymInt, SymFloat)  # of dimensions that may change


class _Place(NamedTuple):
    """Where a number is when notes are evaluated: first the float arguments, then the results of the notes."""

    place: int


class _Size(NamedTuple):
    """A dimension that may change, or a quotient of such, as an expression."""

    expression: Any

    def at(self, sizes: Mapping[Any, int]) -> int | float:
        value = self.expression.subs(sizes)
        return int(value) if value.is_Integer else float(value)


class _Note(NamedTuple):
    """An operation of the program on its float arguments; of a decision, how it went in the capture."""

    operation: Callable[..., Any]
    operands: tuple[Any, ...]
    outcome: bool | None = None

    def at(self, sizes: Mapping[Any, int]) -> _Note:
        """The note with numbers in the places of sizes."""
        return self._replace(operands=tuple(o.at(sizes) if isinstance(o, _Size) else o for o in self.operands))


class Numbers:
    """The float arguments of one capture, what the program computes from them in Python, and what it decides by them.

    Args:
        hidden: whether C code that reads the double in a :class:`FloatArgument` finds a wrong one.
    """

    def __init__(self, hidden: bool = False) -> None:
        self.hidden = hidden
        self.of_runs = False
        self.notes: list[_Note] = []
        self.decided = 0  # how many notes there are up to the last decision
        self._arguments = 0
        self._known: dict[Any, _Place] = {}
        self._of_sizes: dict[tuple[int, ...], list[_Note]] = {}

    def arguments(self, examples: Sequence[Tensor | float], tensors: Sequence[Tensor]) -> list[Tensor | FloatArgument]:
        """The arguments of the program: the tensors, and in the floats' places what the program takes for floats.

        Args:
            examples: the arguments of the step, floats among them.
            tensors: what the graph has for each, and maybe more.
        """
        first = zip(examples, tensors, strict=False)
        found = [self._argument(a, t) if isinstance(a, float) else t for a, t in first]
        return [*found, *tensors[len(examples) :]]

    def _argument(self, value: float, tensor: Tensor) -> FloatArgument:
        self._arguments += 1
        return FloatArgument(value, tensor, self, _Place(self._arguments - 1))

    def of_run(self, tensor: Tensor) -> FloatArgument:
        """A number that each run makes anew, such as a loss: what is computed from it is followed, nothing else.

        Args:
            tensor: the number, float64, ``()``, without a value.
        """
        self.of_runs = True
        return FloatArgument(1.0, tensor, self, None)

    def compute(self, operation: Callable[..., Any], *operands: Any) -> FloatArgument:
        """Does an operation on the values and on the tensors, which gives the same bits.

        Args:
            operation: of the module ``operator``.
            operands: FloatArguments, numbers of Python, sizes.

        Raises:
            ZeroDivisionError: as Python does.
        """
        if any(isinstance(o, FloatArgument) and o.place is None for o in operands):
            return self.of_run(operation(*map(_in_graph, operands)))
        if operation is operator.truediv and isinstance(operands[1], FloatArgument):
            self.decide(operator.eq, operands[1], 0.0)  # Python raises where the graph would go on with an infinity
        value = operation(*map(_value, operands))
        tensors = list(map(_in_graph, operands))
        if operation is operator.truediv and not isinstance(tensors[0], Tensor):
            # torch would multiply with the reciprocal, which rounds twice.
            tensors[0] = torch.full((), tensors[0], dtype=torch.float64, device="cpu")
        return FloatArgument(value, operation(*tensors), self, self._note(operation, operands))

    def decide(self, operation: Callable[..., Any], *operands: Any) -> bool:
        """What a condition gives for the values; it must give the same for whatever floats the graph is run with.

        Args:
            operation: of the module ``operator``, or bool.
            operands: FloatArguments, numbers of Python, sizes.
        """
        if any(isinstance(o, FloatArgument) and o.place is None for o in operands):
            raise CannotCaptureError(at_user_line("a branch or a number depends on the value of a loss"))
        outcome = bool(operation(*map(_value, operands)))
        self._note(operation, operands, outcome)
        return outcome

    def _note(self, operation: Callable[..., Any], operands: Sequence[Any], outcome: bool | None = None) -> _Place:
        if any(isinstance(o, FloatArgument) and o.numbers is not self for o in operands):
            raise _refusal("of another run is kept")
        note = _Note(operation, tuple(map(_noted, operands)), outcome)
        key = operation, tuple((type(o), repr(o)) for o in note.operands)  # 0.0 and -0.0 are equal, but not the same
        if key not in self._known:
            self.notes.append(note)
            self._known[key] = _Place(self._arguments + len(self.notes) - 1)
            if outcome is not None:
                self.decided = len(self.notes)
        return self._known[key]

    def hold(self, floats: Sequence[float], sizes: Mapping[Any, int]) -> bool:
        """Whether the program would decide the same with other floats.

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


class FloatArgument(float):
    """What a program that is being captured sees of a float argument, or computes from one in Python.

    It is a float to ``isinstance``. Sums, differences, products, quotients, ``-`` and ``abs`` are followed by the graph
    in float64, to the same bits as in Python. Comparisons answer by the value, and are noted. What else reads the
    value is refused. C code reads the double without asking: so a second capture shows it a wrong double, and what
    came of the double in Python makes that capture differ.

    Args:
        value: the true value; of NumPy's type where the argument is.
        tensor: the number in the graph, float64, ``()``.
        numbers: those of the capture.
        place: where ``numbers`` know it; None for one that each run makes anew.
    """

    __array_ufunc__ = None  # NumPy leaves operations to this class, and refuses its own functions
    __slots__ = ("numbers", "place", "tensor", "value")

    value: float
    tensor: Tensor
    numbers: Numbers
    place: _Place | None

    def __new__(cls, value: float, tensor: Tensor, numbers: Numbers, place: _Place | None) -> FloatArgument:
        """A number with its value, or with another to those who do not ask."""
        self = super().__new__(cls, _other(value) if numbers.hidden else value)
        self.value, self.tensor, self.numbers, self.place = value, tensor, numbers, place
        return self

    def __pos__(self) -> FloatArgument:
        return self

    def __copy__(self) -> FloatArgument:
        return self

    def __deepcopy__(self, memo: Any) -> FloatArgument:
        return self

    def __bool__(self) -> bool:
        return self.numbers.decide(bool, self)


def _other(value: float) -> float:
    """NaN, since hardly any function makes the same of it as of a number."""
    return 0.5 if value != value else float("nan")


def _value(operand: Any) -> Any:
    if isinstance(operand, FloatArgument):
        return operand.value
    return operand.node.hint if isinstance(operand, _SIZES) else operand


def _in_graph(operand: Any) -> Any:
    if isinstance(operand, FloatArgument):
        return operand.tensor
    return operand if isinstance(operand, _SIZES) else float(operand)


def _noted(operand: Any) -> Any:
    if isinstance(operand, FloatArgument):
        return operand.place
    if not isinstance(operand, _SIZES):
        return operand
    if not _has_bits_of_python(operand.node.expr):
        raise CannotCaptureError(at_user_line("a float argument meets a number that comes from a size by fractions"))
    return _Size(operand.node.expr)


def _has_bits_of_python(expression: Any) -> bool:
    """Whether an expression rounds as what it stands for; it puts factors together, which is exact for whole ones."""
    if expression.is_integer:
        return True
    if isinstance(expression, sympy.Float):
        return float(expression).is_integer()
    exact = isinstance(expression, (sympy.Mul, ToFloat, FloatTrueDiv, IntTrueDiv))
    return exact and all(map(_has_bits_of_python, expression.args))


def _is_followed(operand: Any) -> bool:
    if isinstance(operand, (np.generic, np.ndarray)) and not isinstance(operand, float):
        raise _refusal(f"meets a {type(operand).__name__} of NumPy")
    return isinstance(operand, (float, int, *_SIZES))


def _refusal(what: str) -> CannotCaptureError:
    return CannotCaptureError(
        at_user_line(f"a float argument {what}, which a graph cannot follow; hand over a tensor in its place")
    )


def _binary(operation: Callable[..., Any]) -> Callable[[FloatArgument, Any], Any]:
    def followed(self: FloatArgument, other: Any) -> Any:
        return self.numbers.compute(operation, self, other) if _is_followed(other) else NotImplemented

    return followed


def _reflected(operation: Callable[..., Any]) -> Callable[[FloatArgument, Any], Any]:
    def followed(self: FloatArgument, other: Any) -> Any:
        return self.numbers.compute(operation, other, self) if _is_followed(other) else NotImplemented

    return followed


def _unary(operation: Callable[..., Any]) -> Callable[[FloatArgument], Any]:
    return lambda self: self.numbers.compute(operation, self)


def _comparison(operation: Callable[..., Any]) -> Callable[[FloatArgument, Any], Any]:
    def compared(self: FloatArgument, other: Any) -> Any:
        return self.numbers.decide(operation, self, other) if _is_followed(other) else NotImplemented

    return compared


def _refused(name: str) -> Callable[..., Any]:
    def refused(self: FloatArgument, *_: Any) -> Any:
        raise _refusal(f"is read by {name}")

    return refused


def _complete() -> None:
    """Gives the class the rest of what floats do: what is followed, and the refusal of all else."""
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv):
        setattr(FloatArgument, f"__{operation.__name__}__", _binary(operation))
        setattr(FloatArgument, f"__r{operation.__name__}__", _reflected(operation))
    for unary in (operator.neg, operator.abs):
        setattr(FloatArgument, f"__{unary.__name__}__", _unary(unary))
    for operation in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        setattr(FloatArgument, f"__{operation.__name__}__", _comparison(operation))
    here = {"__new__", "__getattribute__", "__getformat__", "fromhex", "from_number"}  # which read no value
    for name in {*vars(float), "__str__"} - {*vars(FloatArgument), *here} | {"__hash__"}:
        refused = _refused(name)
        setattr(FloatArgument, name, property(refused) if name in ("real", "imag") else refused)


_complete()


@contextlib.contextmanager
def math_that_asks() -> Iterator[None]:
    """Has the functions of ``math`` refuse a FloatArgument, whose double they would read without asking."""

    def asking(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def asks(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(a, FloatArgument) for a in args):
                raise _refusal(f"is read by math.{name}")
            return function(*args, **kwargs)

        return asks

    with contextlib.ExitStack() as patches:
        for name, function in list(vars(math).items()):
            if callable(function) and not name.startswith("_"):
                patches.enter_context(patch.object(math, name, asking(name, function)))
        yield
