"""Time the training of a table: a likelihood for each of 30 columns beside one Normal over all of them.

    python benchmarks/mixed.py

The tables have 30 Normal columns, and 30 columns of five kinds: real (Normal), positive (Gamma), counts (Poisson and
NegativeBinomial), binary (Bernoulli) and categories of 3 to 8 values (Categorical). All train by ``fit`` with compiled
steps on the same rows, with the same hidden layers and batches. Each has its own process, and epochs take turns. The
first epoch of each is not counted. A share is the throughput beside that of the Normal in the same turn; the median of
five turns is printed, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from svi.workers import Pause, Worker, limit_threads  # noqa: E402

BATCHES = 100  # per epoch

TABLES = ("one Normal", "30 Normals", "30 of five kinds")


def columns_of_five_kinds() -> dict[str, Any]:
    """Thirty columns, their kinds in turn."""
    found: dict[str, Any] = {}
    for i in range(6):
        found[f"real{i}"] = "Normal"
        found[f"positive{i}"] = "Gamma"
        found[f"count{i}"] = "Poisson" if i % 2 else "NegativeBinomial"
        found[f"binary{i}"] = "Bernoulli"
        found[f"category{i}"] = {"class": "Categorical", "levels": 3 + i, "upper": 2.0 + i}
    return found


def rows(n: int) -> Any:
    """Values for the columns of five kinds, ``(n, 30)``; counts up to some tens."""
    import torch

    g = torch.Generator().manual_seed(0)
    each = []
    for i in range(6):
        real, positive = torch.randn(n, generator=g), torch.randn(n, generator=g).exp()
        count = torch.poisson(5 * torch.randn(n, generator=g).exp(), generator=g)
        binary = (torch.rand(n, generator=g) < 0.3).float()
        each += [real, positive, count, binary, torch.randint(3 + i, (n,), generator=g).float()]
    return torch.stack(each, dim=1)


def train(pause: Pause, table: str, hidden: int, batch: int, turns: int, device: str) -> None:
    """Train, and hand over the seconds of each epoch."""
    import torch

    from pyro_vae import build, fit

    torch.manual_seed(0)
    columns = {str(i): "Normal" for i in range(30)} if table == "30 Normals" else columns_of_five_kinds()
    likelihood = "Normal" if table == "one Normal" else {"class": "Mixed", "columns": columns}
    vae = build(30, 8, hidden=(hidden,), likelihood=likelihood).to(device)
    start = 0.0

    def told(_: object) -> None:
        nonlocal start
        pause(time.perf_counter() - start)
        start = time.perf_counter()

    start = time.perf_counter()
    x = rows(BATCHES * batch).to(device)
    fit(vae, x, epochs=turns + 1, batch_size=batch, engine="compiled", progress=False, on_epoch=told, seed=0)


def measure(hidden: int, batch: int, turns: int, device: str) -> dict[str, list[float]]:
    """Return the seconds of each epoch of each table; the others sleep meanwhile."""
    workers = {}
    for table in TABLES:
        workers[table] = Worker("mixed:train", table, hidden, batch, turns, device)
        workers[table].result()  # one compiles at a time
    found: dict[str, list[float]] = {table: [] for table in TABLES}
    for turn in range(turns):
        for table in TABLES if turn % 2 else TABLES[::-1]:
            found[table].append(workers[table].ask("go"))
    for worker in workers.values():
        worker.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 1000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    limit_threads(options.threads)

    print(f"{options.threads} threads, {options.device}; a step in ms, and the throughput beside one Normal in percent")
    print(f"{'hidden':>6} {'batch':>5}  {'one Normal':>10}  {'30 Normals':>24}  {'30 of five kinds':>24}")
    for hidden, batch in product(options.hidden, options.batch):
        seconds = measure(hidden, batch, options.turns, options.device)
        line = f"{hidden:6} {batch:5}  {1e3 * statistics.median(seconds['one Normal']) / BATCHES:10.3f}"
        for table in TABLES[1:]:
            step = 1e3 * statistics.median(seconds[table]) / BATCHES
            shares = [100 * one / own for one, own in zip(seconds["one Normal"], seconds[table], strict=True)]
            line += f"  {step:7.3f} {statistics.median(shares):4.0f} ({min(shares):3.0f} to {max(shares):3.0f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
