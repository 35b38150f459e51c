"""What each column of a table holds, on the terminal."""

from __future__ import annotations

import numpy as np
import torch

from pyro_vae import suggest_schema
from pyro_vae.cli.tables import print_table
from pyro_vae.data import DataSet, Rows
from pyro_vae.data.table_frames import as_values
from pyro_vae.resolver import class_name

__all__ = ["print_columns", "print_schema"]

_MOST = 30


def print_schema(table: DataSet[Rows]) -> None:
    """Print what each column of a table with a schema holds."""
    schema = suggest_schema(table)
    values = torch.cat([some.double() for some in table.everything.stored()]).numpy()
    shown: dict[str, list[str]] = {name: [] for name in ("column", "kind", "likelihood", "values", "missing")}
    for place, column in list(enumerate(schema.data))[:_MOST]:
        there = as_values(column, values[:, place]).dropna()
        ends = f"{_short(there.min())} to {_short(there.max())}"
        shown["column"].append(column.name)
        shown["kind"].append(column.kind)
        shown["likelihood"].append(class_name(column.likelihood or ""))
        shown["values"].append(", ".join(map(str, column.values)) if column.is_coded else ends)
        shown["missing"].append(_share(1 - len(there) / len(values)))
    print_table("columns", shown)
    _print_rest(len(schema.data))


def print_columns(rows: Rows) -> None:
    """Print the range and the missing values of each column of numbers."""
    values = rows.x(slice(None), torch.float64).numpy()[:, :_MOST]
    names = (rows.columns or tuple(map(str, range(rows.event_shape[0]))))[:_MOST]
    least, median, greatest = ([f"{value:.4g}" for value in of] for of in np.nanquantile(values, [0, 0.5, 1], axis=0))
    missing = [_share(share) for share in np.isnan(values).mean(0)]
    print_table(
        "columns", {"column": names, "least": least, "median": median, "greatest": greatest, "missing": missing}
    )
    _print_rest(rows.event_shape[0])


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")


def _share(missing: float) -> str:
    return f"{missing:.1%}" if missing else ""


def _print_rest(columns: int) -> None:
    if columns > _MOST:
        print(f"and {columns - _MOST:,} more")
