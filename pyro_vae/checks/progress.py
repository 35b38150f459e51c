"""How a check shows how far it is: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

__all__ = ["shown"]


@contextlib.contextmanager
def shown(progress: bool | Callable[[str], None] | None, lines: int) -> Iterator[Callable[[str], None]]:
    """Gives what is called with the name of each line before it is looked at.

    The bar is on stderr and goes away at the end. Only a terminal gets one: rich takes some logs of CI for terminals.

    Args:
        progress: True for the bar, a function to be called, False or None for nothing.
        lines: how many there are.
    """
    if callable(progress):
        yield progress
        return
    console = Console(stderr=True)
    if not progress or not sys.stderr.isatty() or not console.is_interactive:
        yield lambda name: None
        return
    columns = ("checking", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), "{task.fields[at]}")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=lines, at="")
        begun = 0

        def begins(name: str) -> None:
            nonlocal begun
            bar.update(task, completed=begun, at=name, refresh=True)
            begun += 1

        yield begins
