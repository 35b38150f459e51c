"""The progress bar of a check, on a terminal only."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(progress: bool | Callable[[str], None] | None, lines: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call with the name of each line before it is checked.

    The bar is on stderr and disappears at the end. Rich takes some CI logs for terminals; they get no bar.

    Args:
        progress: True for the bar, a function to call in its place, False or None for neither.
        lines: how many lines there are.
    """
    if callable(progress):
        yield progress
        return
    console = Console(stderr=True)
    shows = bool(progress) and sys.stderr.isatty() and console.is_interactive
    columns = ("checking", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), "{task.description}")
    with Progress(*columns, console=console, transient=True, disable=not shows) as bar:
        task = bar.add_task("", total=lines)
        finished = itertools.count()
        yield lambda name: bar.update(task, completed=next(finished), description=name, refresh=True)
