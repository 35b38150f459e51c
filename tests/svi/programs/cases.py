"""What a program is, and the tables of programs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro.optim
from pyro.infer import Trace_ELBO
from torch import nn


@dataclass
class Program:
    """What the user of SVI writes: ``svi.step(*args, **kwargs)`` for each of ``batches`` and ``kwargs``, then ``after``."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    batches: list[tuple[Any, ...]]
    loss: Any = field(default_factory=Trace_ELBO)
    optim: pyro.optim.PyroOptim = field(default_factory=lambda: pyro.optim.Adam({"lr": 0.02}))
    kwargs: list[dict[str, Any]] | None = None
    after: Callable[[Any], None] | None = None  # called with the loss, as schedulers are
    modules: tuple[nn.Module, ...] = ()  # modules with parameters or buffers, besides the guide and the store

    def calls(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return list(zip(self.batches, self.kwargs or [{}] * len(self.batches), strict=True))


@dataclass(frozen=True)
class Case:
    """``captures`` is None if their number is not part of the contract; ``rtol`` is 0 for equal bits."""

    name: str
    make: Callable[[], Program]
    captures: int | None = 1
    rtol: float = 0.0
    loud: bool = False  # stock Pyro itself warns
    slow: bool = False  # its graph takes long to capture, or a shorter program does much the same
    line: str = ""  # of a program that cannot be captured

    @property
    def place(self) -> str:
        """Return the place of ``line`` as ``file:number``."""
        lines, first = inspect.getsourcelines(self.make)
        number = first + next(i for i, text in enumerate(lines) if MARK in text)
        return f"{Path(inspect.getsourcefile(self.make)).name}:{number}"


MARK = "# <- here"
CASES: dict[str, Case] = {}
REFUSED: dict[str, Case] = {}


def register(name: str, make: Callable[[], Program], **options: Any) -> None:
    CASES[name] = Case(name, make, **options)


def case(make: Callable[[], Program] | None = None, **options: Any):
    if make is None:
        return lambda make: case(make, **options)
    register(make.__name__, make, **options)
    return make


def refused(make: Callable[[], Program]):
    line = next(text for text in inspect.getsource(make).splitlines() if MARK in text)
    REFUSED[make.__name__] = Case(make.__name__, make, captures=0, line=line.split(MARK)[0].strip())
    return make
