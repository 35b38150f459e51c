"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

__all__ = ["print_table"]


def print_table(title: str, columns: Mapping[str, Sequence[str]]) -> None:
    """Print columns of text under their headings; all but the first stand at the right.

    Args:
        title: of the table.
        columns: their values by their headings.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(columns):
        table.add_column(heading, justify="right" if i else "left", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    Console().print(table, markup=False)
