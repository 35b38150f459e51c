"""Tables on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_table", "table_of", "wrapped"]


def table_of(columns: Mapping[str, Sequence[str]], title: str | None = None) -> Table:
    """Return columns of text under their headings, all but the first at the right; square brackets are plain text.

    Args:
        columns: their values by their headings.
        title: of the table.
    """
    above = None if title is None else Text(title, "table.title")
    table = Table(title=above, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(columns):
        table.add_column(Text(heading), justify="right" if i else "left", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def wrapped(text: str, indent: int) -> str:
    """Return a text in the lines of a terminal, all but the first indented; in one line for a file or a pipe."""
    console = Console()
    if not console.is_terminal:
        return text
    return textwrap.fill(text, console.width, subsequent_indent=" " * indent, break_on_hyphens=False)


def print_table(title: str, columns: Mapping[str, Sequence[str]]) -> None:
    """Print columns of text; see :func:`table_of`."""
    Console().print(table_of(columns, title))
