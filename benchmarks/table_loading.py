"""Time the loading of a large table of mixed kinds beside ``pandas.read_csv`` on the same file.

    python benchmarks/table_loading.py
    python benchmarks/table_loading.py --rows 100000

The file has 30 columns of five kinds (real, positive, count, binary and category), as in ``mixed.py``. ``data.load``
reads it, looks at the columns, encodes them and splits the rows. The two take turns in one process. The first turn is
not counted, because it imports. Medians over turns are printed, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_vae import data


def write(path: Path, rows: int) -> None:
    """Write a table of five kinds of columns, six of each."""
    rng = np.random.default_rng(0)
    columns: dict[str, np.ndarray] = {}
    for i in range(6):
        columns[f"real{i}"] = rng.normal(size=rows).round(4)
        columns[f"positive{i}"] = np.exp(rng.normal(size=rows)).round(4)
        columns[f"count{i}"] = rng.poisson(5, rows)
        columns[f"binary{i}"] = rng.integers(0, 2, rows)
        columns[f"category{i}"] = rng.choice(np.array([f"c{j}" for j in range(3 + i)]), rows)
    pd.DataFrame(columns).to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()

    readers = {"pandas.read_csv": pd.read_csv, "data.load": lambda path: data.load(str(path))}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write(path, options.rows)
        for turn in range(options.turns + 1):
            for name, read in readers.items():
                start = time.perf_counter()
                read(path)
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    for name, each in seconds.items():
        print(f"{name:16} {statistics.median(each):7.2f} s")
    ratios = [own / theirs for theirs, own in zip(*seconds.values(), strict=True)]
    print(f"ratio            {statistics.median(ratios):7.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
