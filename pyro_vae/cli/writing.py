"""Files that commands write: tables, arrays and pictures, by the ending of the name."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pyro_vae.data.reading import import_optional
from pyro_vae.files import folder_in, replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "check_ending", "columns_of", "path_of_rows", "write_frame", "write_picture", "write_rows"]

Column = Sequence[object]
"""The values of a column, one per row."""


def check_ending(out: str, **endings: str) -> Path:
    """Return a path to write to, in a folder that exists.

    Args:
        out: the path.
        endings: what a file of each ending holds, such as ``png="a picture"``.

    Raises:
        ValueError: if its name has another ending.
    """
    path = Path(out)
    if path.suffix.lower()[1:] not in endings:
        *others, last = (f".{ending} ({what})" for ending, what in endings.items())
        raise ValueError(f"out must end in {', '.join(others)} or {last}; got {out!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def path_of_rows(out: str | None, default: Path) -> Path:
    """Return a path to write rows to, a table or an array, in a folder that exists."""
    return check_ending(str(default) if out is None else out, csv="a table", parquet="a table", npy="an array")


def columns_of(values: Tensor, names: Sequence[str] = (), prefix: str = "x") -> dict[str, Column]:
    """Return numbers ``(n, ...)`` as columns of a table.

    Args:
        values: the numbers.
        names: of the columns; by default the prefix and a number from 0.
        prefix: of those names.
    """
    flat = values.cpu().flatten(1).numpy()
    names = names or [f"{prefix}{i}" for i in range(flat.shape[1])]
    return {name: flat[:, i].tolist() for i, name in enumerate(names)}


def write_frame(path: Path, frame: pd.DataFrame, array: Tensor | None) -> None:
    """Write a DataFrame as .csv or .parquet, or its numbers as .npy, and print the path.

    Args:
        path: of the file.
        frame: the table.
        array: what a .npy file gets.
    """
    if path.suffix.lower() == ".npy":
        write_rows(path, {}, array)
        return
    with replacing(path) as partial:
        if path.suffix.lower() == ".csv":
            frame.to_csv(partial, index=not isinstance(frame.index, import_optional("pandas", "tables").RangeIndex))
        else:
            frame.to_parquet(partial)
    print(str(path))


def write_rows(path: Path, columns: Mapping[str, Column], array: Tensor | None = None) -> None:
    """Write a table as .csv or .parquet, or an array as .npy, and print the path.

    Args:
        path: of the file.
        columns: of the table, by their names.
        array: what a .npy file gets.
    """
    with replacing(path) as partial:
        match path.suffix.lower():
            case ".csv":
                with partial.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(columns)
                    writer.writerows(zip(*columns.values(), strict=True))
            case ".parquet":
                import_optional("pandas", "tables").DataFrame(columns).to_parquet(partial)
            case _:
                values = (
                    np.stack([np.asarray(c) for c in columns.values()], 1) if array is None else array.cpu().numpy()
                )
                with partial.open("wb") as file:  # np.save would add a second ending to x.NPY
                    np.save(file, values)
    print(str(path))


def write_picture(values: Tensor, draw: Callable[[], Figure], out: str | None, default: Path) -> None:
    """Write values as a picture or an array, depending on the ending of the file name, and print the path."""
    if out is None:
        path = folder_in(default.parent.parent, default.parent.name) / default.name
    else:
        path = check_ending(out, png="a picture", npy="an array")
    if path.suffix.lower() == ".npy":
        write_rows(path, {}, values)
        return
    with replacing(path) as partial:
        draw().savefig(partial, format="png")
    print(str(path))
