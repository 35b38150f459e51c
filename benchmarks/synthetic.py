"""Make synthetic rows of real tables, and measure how good they are, by our VAE and by CTGAN's TVAE.

    pip install -e '.[tables,bench]'
    python benchmarks/synthetic.py
    python benchmarks/synthetic.py --contenders tvae "TVAE, twice" --tables wine --seeds 1

Each table is cut in two halves at random. All contenders are trained on the one half, with the same options for every
table, and give as many rows. ``evaluation.synthetic`` compares these with the other half, which no contender has seen.
Rows with missing values are left out, since TVAE takes none.

Five measures, each a mean over columns, pairs or targets where there are several: the distance of columns, the
difference of associations of pairs (0 is best), the score of predictions (1 is best), the discriminator and the privacy
(0.5 is best). The table has means over seeds with their standard errors. A seed is that of the halves, of the training
and of the rows. The last rows are means over tables of the distance from the best value (of the means over seeds, so
that chance on both sides of 0.5 does not count).

We chose the options of our VAE by the same measures of the same tables, cut in other halves (seeds 100 and 101). The
seeds 10 to 12 had no part in the choice. TVAE has the defaults of its authors.

| contender | what it is |
| --- | --- |
| VAE | ``data.table``, ``build``, ``fit`` and ``sample`` of this library |
| TVAE | that of the package ``ctgan`` (Xu et al. 2019, arXiv 1907.00503), at its defaults, 300 epochs |
| TVAE, twice | the same with 600 epochs |
| columns | each column of the training rows by itself, shuffled: what is lost without any dependence |
| copies | the training rows: nothing is lost but the privacy |

``ctgan`` is under the Business Source License 1.1, which is no open-source licence: it forbids to offer a service that
makes synthetic data, and each version becomes MIT four years after its release. This script is all that needs it.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from sklearn import datasets

from pyro_vae import build, data, evaluation, fit

MEASURES = {"columns": 0.0, "pairs": 0.0, "targets": 1.0, "discriminator": 0.5, "privacy": 0.5}  # their best values
STEPS, BATCH, WEIGHT_DECAY = 1000, 64, 1.0  # of our VAE


def of_scikit_learn(load: Callable[..., object]) -> pd.DataFrame:
    """A table of scikit-learn's, with its target: the names of classes, or numbers."""
    found = load(as_frame=True)
    names = getattr(found, "target_names", None)
    target = found.target if names is None else pd.Series(np.array(names, dtype=object)[found.target])
    return found.data.assign(target=target)


def penguins() -> pd.DataFrame:
    """The penguins of Palmer Station (Horst, Hill and Gorman 2020)."""
    from palmerpenguins import load_penguins

    return load_penguins()


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "iris": lambda: of_scikit_learn(datasets.load_iris),
    "wine": lambda: of_scikit_learn(datasets.load_wine),
    "breast cancer": lambda: of_scikit_learn(datasets.load_breast_cancer),
    "diabetes": lambda: of_scikit_learn(datasets.load_diabetes),
    "penguins": penguins,
}


def by_vae(train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows of a VAE of this library."""
    rows = data.table(train, split=(1.0, 0.0, 0.0))
    torch.manual_seed(seed)
    prior = {"class": "MixtureOfNormals", "components": 10}
    vae = build(data=rows, latent_dim=10, hidden=(128, 128), activation="Tanh", prior=prior)
    epochs = max(1, STEPS // -(-len(train) // BATCH))
    optimizer = functools.partial(torch.optim.AdamW, weight_decay=WEIGHT_DECAY, fused=True)
    fit(vae, rows.train, epochs=epochs, batch_size=BATCH, optimizer=optimizer, seed=seed, progress=False)
    return vae.sample(len(train), seed=seed)


def by_tvae(train: pd.DataFrame, seed: int, epochs: int = 300) -> pd.DataFrame:
    """Rows of CTGAN's TVAE."""
    from ctgan import TVAE

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  which TVAE draws from
    tvae = TVAE(epochs=epochs, enable_gpu=False)
    tvae.fit(train, train.select_dtypes(exclude="number").columns.to_list())
    return tvae.sample(len(train))


def by_columns(train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows of columns that are shuffled by themselves."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: column.to_numpy()[rng.permutation(len(train))] for name, column in train.items()})


CONTENDERS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "VAE": by_vae,
    "TVAE": by_tvae,
    "TVAE, twice": lambda train, seed: by_tvae(train, seed, epochs=600),
    "columns": by_columns,
    "copies": lambda train, seed: train,
}


def halves(table: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out rows: the complete rows of a table, cut in two at random."""
    complete = table.dropna().sample(frac=1, random_state=seed).reset_index(drop=True)
    middle = len(complete) // 2
    return complete[:middle], complete[middle:].reset_index(drop=True)


def measure(contender: str, table: str, seed: int) -> dict[str, float]:
    """The five measures of a contender on a table, and the seconds that its rows took."""
    train, held_out = halves(TABLES[table](), seed)
    start = time.perf_counter()
    rows = CONTENDERS[contender](train, seed)
    seconds = time.perf_counter() - start
    report = evaluation.synthetic(train, rows[train.columns].astype(train.dtypes), held_out, seed=seed)
    return {**report.to_frame()["synthetic"][list(MEASURES)].to_dict(), "seconds": seconds}


def row(table: str, contender: str, results: list[dict[str, float]]) -> str:
    """A row of the markdown table: means over seeds with their standard errors."""
    values = {name: np.array([result[name] for result in results]) for name in results[0]}
    cells = [f"{v.mean():.3f} ± {_error(v):.3f}" for name, v in values.items() if name != "seconds"]
    return f"| {table} | {contender} | " + " | ".join(cells) + f" | {values['seconds'].mean():.0f} |"


def distances(contender: str, of_tables: list[list[dict[str, float]]]) -> str:
    """A row of the markdown table: how far the measures are from their best values, means over tables."""
    far = [
        np.mean([abs(np.mean([result[name] for result in results]) - best) for results in of_tables])
        for name, best in MEASURES.items()
    ]
    return f"| distance from the best | {contender} | " + " | ".join(f"{value:.3f}" for value in far) + " | |"


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=3, help="how many halves of a table")
    parser.add_argument("--first-seed", type=int, default=10, help="of these halves")
    options = parser.parse_args()

    print("| table | contender | " + " | ".join(MEASURES) + " | seconds |\n|" + "---|" * (len(MEASURES) + 3))
    found: dict[str, list[list[dict[str, float]]]] = {contender: [] for contender in options.contenders}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for table in options.tables:
        for contender in options.contenders:
            found[contender].append([measure(contender, table, seed) for seed in seeds])
            print(row(table, contender, found[contender][-1]), flush=True)
    for contender, of_tables in found.items():
        print(distances(contender, of_tables))
    print(f"\n{options.seeds} seeds, torch {torch.__version__}")


if __name__ == "__main__":
    main()
