"""What encode, impute and score work out, in batches, in the order of the data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from pyro_vae import VAE, load
from pyro_vae.argument_checks import at_least, near_miss
from pyro_vae.checkpoints import read_config, read_description
from pyro_vae.cli import datasets
from pyro_vae.cli.writing import Column, columns_of
from pyro_vae.data import TABLES, Counts, DataSet, Rows, Split, batches
from pyro_vae.data.description import Description
from pyro_vae.data.reading import import_optional
from pyro_vae.data.splitting import SPLITS
from pyro_vae.data.table_frames import as_frame, within_bounds
from pyro_vae.data.tables import frame_of_file, words_of_file
from pyro_vae.evaluation.importance import estimate_log_prob
from pyro_vae.parts import as_posterior
from pyro_vae.seeds import derive
from pyro_vae.vae.tables import as_rows, filled_in

if TYPE_CHECKING:
    import pandas as pd

S = TypeVar("S", bound=Split)

__all__ = [
    "check_flag",
    "check_reference",
    "codes",
    "context_of_samples",
    "described",
    "drawn",
    "file_column",
    "file_of",
    "imputed",
    "imputed_table",
    "label_column",
    "label_of_samples",
    "log_probs",
    "names",
    "numbers_of",
    "open_whole",
    "place_column",
    "print_scores",
    "reconstructed",
    "shares",
    "some",
    "walks",
    "what_codes_hold",
]

_BATCH = 500


def open_whole(run: str, data: str | None, root: str | None) -> tuple[VAE, DataSet[Any]]:
    """Return the VAE of a run, and its data or others in the same form, which stay in one piece."""
    return load(run), datasets.of_run(run, read_config(Path(run)), data, root, whole=True)


def _batches(vae: VAE, examples: Split, seed: int) -> Iterator[tuple[Tensor, ...]]:
    like = next(vae.parameters())
    return iter(batches(examples, _BATCH, seed=seed, device=like.device, dtype=like.dtype))


def names(examples: Split) -> tuple[str, ...]:
    """Return the names of the columns of a table; empty for other data."""
    return examples.columns if isinstance(examples, (Rows, Counts)) else ()


def label_column(examples: Split, others: Collection[str] = ()) -> dict[str, Column]:
    """Return the labels as a column, by their names if they have some; nothing without labels.

    Args:
        examples: that have them.
        others: names of other columns of the same table.
    """
    if examples.labels is None:
        return {}
    coded = examples.labels.tolist()
    return {_free("label", others): [examples.class_names[code] for code in coded] if examples.class_names else coded}


def file_column(dataset: DataSet[Any], split: str) -> dict[str, Column]:
    """Return the files that the examples of a split, or of ``all``, came from; nothing if they are rows of one file."""
    if not dataset.files or dataset.positions is None:
        return {}
    everything = torch.cat(dataset.positions).sort().values
    where = everything if split == "all" else dataset.positions[SPLITS.index(split)]
    return {"file": [dataset.files[place] for place in where.tolist()]}


def drawn(trained: S, n: int, seed: int) -> S:
    """Return n training examples, drawn with replacement: samples get their context."""
    generator = torch.Generator().manual_seed(derive(seed))
    return trained[torch.randint(len(trained), (n,), generator=generator)]


def place_column(dataset: DataSet[Any], split: str) -> dict[str, Column]:
    """Return the place in the data of the rows of a split, from 0; nothing if they are all, or have files."""
    if split == "all" or dataset.files or dataset.positions is None:
        return {}
    return {"row": dataset.positions[SPLITS.index(split)].tolist()}


def codes(vae: VAE, examples: Split, seed: int) -> dict[str, Column]:
    """Return the means of z and their standard deviations, if q(z | x) has any, as columns."""
    spread = as_posterior(vae.posterior)
    means, deviations = [], []
    for i, (x, *context) in enumerate(_batches(vae, examples, seed)):
        means.append(vae.codes(x, *context, seed=derive(seed, i)))
        if spread.has_mean and not spread.is_point and not spread.is_discrete:
            with torch.no_grad():
                deviations.append(vae.encode(x, *context).stddev)
    of_means = columns_of(torch.cat(means), prefix="z")
    return of_means | (columns_of(torch.cat(deviations), prefix="sd") if deviations else {})


def what_codes_hold(columns: Iterable[str]) -> str:
    """Return how many means and standard deviations the columns of codes are, by their names."""
    means, deviations = (sum(re.fullmatch(rf"{of}\d+", name) is not None for name in columns) for of in ("z", "sd"))
    spread = f", then {deviations} standard deviation{'s'[: deviations != 1]}" if deviations else ""
    return f"{means} mean{'s'[: means != 1]}{spread}"


def imputed(vae: VAE, examples: Split, *, num_particles: int, mean: bool, seed: int) -> tuple[Tensor, int]:
    """Return the data with their missing values filled in, in their own units, and how many were missing."""
    filled = [
        examples.to_units(vae.impute(x, *c, num_particles=num_particles, mean=mean, seed=derive(seed, i)).double())
        for i, (x, *c) in enumerate(_batches(vae, examples, seed))
    ]
    # What is there stays as it is, without the rounding of the VAE's dtype.
    given = torch.cat([some.double() for some in examples.stored()])
    return torch.where(given.isnan(), torch.cat(filled), given), int(given.isnan().sum())


def numbers_of(vae: VAE, frame: pd.DataFrame) -> Tensor:
    """Return a table as the numbers that a VAE with its schema sees, ``(n, columns)``."""
    found = as_rows(vae.schema, frame, context=False)
    return torch.cat(list(found.stored()))


def file_of(run: str, data: str | None) -> tuple[str, str | None] | None:
    """Return the file of a table and its delimiter; None if the data come from elsewhere.

    Args:
        run: run folder, trained on a table.
        data: other data than its own.
    """
    config = read_config(Path(run))
    file = data or config["data"]
    return (file, config.get("delimiter")) if file.lower().endswith(TABLES) else None


def imputed_table(
    vae: VAE,
    dataset: DataSet[Rows],
    split: str,
    file: tuple[str, str | None] | None,
    *,
    num_particles: int,
    draws: int | None,
    seed: int,
    as_text: bool,
) -> tuple[pd.DataFrame, int]:
    """Return a table with its missing values filled in, as a DataFrame, and how many were missing.

    Args:
        vae: with the schema of the table.
        dataset: the table.
        split: rows to impute.
        file: the file with all columns of the table, and its delimiter; None gives only the columns of the schema.
        num_particles: draws of z per row.
        draws: number of imputations, of which each is a draw; None for one with means and most probable values.
        seed: of the draws.
        as_text: leave what is there as the file, a text file, has it written.
    """
    assert vae.schema is not None, "it is the VAE of a table"
    examples = datasets.part(dataset, split)
    rows = None if split == "all" or dataset.positions is None else dataset.positions[SPLITS.index(split)]
    if file is None:
        table, words, rows = as_frame(vae.schema, torch.cat(list(examples.stored()))), None, None
    else:
        table, words = frame_of_file(*file), words_of_file(*file) if as_text else None
    numbered = isinstance(table.index, import_optional("pandas", "tables").RangeIndex)
    if rows is not None:
        table, words = table.iloc[rows.numpy()], None if words is None else words.iloc[rows.numpy()]
    found = []
    for i in range(1 if draws is None else at_least("draws", draws, 1)):
        filled = [
            vae.impute(x, *c, num_particles=num_particles, mean=draws is None, seed=derive(seed, i, j))
            for j, (x, *c) in enumerate(_batches(vae, examples, seed))
        ]
        one = filled_in(vae.schema, table, torch.cat(filled), words)
        if draws is not None:
            one.insert(0, _free("imputation", one.columns), i + 1)
        found.append(one)
    new_numbers = numbered and (draws is not None or rows is not None)
    joined = import_optional("pandas", "tables").concat(found, ignore_index=new_numbers)
    return joined, sum(int(some.isnan().sum()) for some in examples.stored())


def some(examples: Split, n: int) -> Split:
    """Return the first n examples.

    Raises:
        ValueError: if there are not so many.
    """
    if not 1 <= n <= len(examples):
        raise ValueError(f"n must be from 1 to {len(examples)}, the number of {examples.noun}s; got {n}")
    return examples[:n]


def reconstructed(vae: VAE, examples: Split) -> tuple[dict[str, Column], Tensor]:
    """Return the reconstructions of rows in the units of the data, as columns and as an array."""
    values = torch.cat([examples.to_units(vae.reconstruct(x, *c).double()) for x, *c in _batches(vae, examples, 0)])
    return columns_of(values, names(examples)), values


def walks(vae: VAE, examples: Split, paths: Tensor) -> tuple[dict[str, Column], Tensor]:
    """Return walks ``(n, steps, *event_shape)`` in the units of the data, as columns and as an array.

    The first two columns are the number of the walk and of the step, from 0.
    """
    values = examples.to_units(paths.double())
    n, steps = values.shape[:2]
    numbers = {"walk": [i for i in range(n) for _ in range(steps)], "step": [*range(steps)] * n}
    flat = values.flatten(0, 1)
    if vae.schema is None:
        of_rows = columns_of(flat, names(examples))
    else:
        of_rows = dict(as_frame(vae.schema, within_bounds(vae.schema, flat)).items())
    return {**{_free(name, of_rows): column for name, column in numbers.items()}, **of_rows}, values


def _free(name: str, taken: Collection[str]) -> str:
    """Return a name that no column has: the name itself, with underscores behind it if need be."""
    while name in taken:
        name += "_"
    return name


def log_probs(vae: VAE, examples: Split, *, num_particles: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return log p(x) of each example by importance sampling, in nats, float64 ``(n,)``, and Pareto k̂ ``(n,)``."""
    found = [
        estimate_log_prob(vae, x, *context, num_particles=num_particles, seed=derive(seed, i))
        for i, (x, *context) in enumerate(_batches(vae, examples, seed))
    ]
    return torch.cat([each.log_prob for each in found]).double(), torch.cat([each.pareto_k for each in found])


def check_reference(run: str, own: DataSet[Any], flag: float | None) -> None:
    """Raise a ValueError if the validation rows of a run are no reference for scores; see :func:`check_flag`.

    Without a rate, rows that the run was trained on are a reference with a warning.
    """
    n, noun = len(own.valid), own.valid.noun
    if not n:
        raise ValueError(f"{run} has no validation {noun}s for scores to rank among: its shares leave none")
    check_flag(flag, n, noun)
    if read_config(Path(run)).get("validate", True):
        return
    said = f"{run} was trained on its validation {noun}s too (validate: false), which are more likely for that"
    if flag is not None:
        raise ValueError(f"flag: {said}. So nothing says how often a new {noun} is flagged. Train with validation")
    warnings.warn(f"{said}: the shares of new {noun}s are too small", stacklevel=2)


def check_flag(flag: float | None, n: int, noun: str) -> None:
    """Raise a ValueError if a rate of false alarms is none, or too small for the number of validation examples."""
    if flag is None:
        return
    if not 0 < flag < 1:
        raise ValueError(f"flag must be a rate of false alarms between 0 and 1, such as 0.01; got {flag}")
    if flag * (n + 1) < 1:
        raise ValueError(
            f"flag: a rate of {flag:g} needs at least {round(1 / flag) - 1:,} validation {noun}s; the run has {n:,}"
        )


def shares(values: Tensor, reference: Tensor) -> Tensor:
    """Return the share of reference values, each value itself counted, that are at most as high.

    For a value of the same distribution, P(share ≤ α) ≤ α: it is a conformal p-value (Bates et al. 2023,
    arXiv 2104.08279).
    """
    ordered = reference.sort().values
    return (torch.searchsorted(ordered, values, right=True).double() + 1) / (len(ordered) + 1)


def print_scores(examples: Split, values: Tensor, found: Tensor, flag: float | None) -> None:
    """Print the mean of log p(x), and how many examples are flagged."""
    noun = examples.noun
    print(f"log p(x) {values.mean():.2f} nats per {noun} ({len(values):,} {noun}s)")
    if flag is not None:
        flagged = int((found <= flag).sum())
        print(
            f"{flagged:,} of {len(values):,} {noun}s are flagged ({flagged / len(values):.2%}); among {noun}s like "
            f"those of the training, {flag:.2%} would be"
        )


def described(run: str) -> Description:
    """Return what a run was trained on; of an old run, the shape and the number of classes alone."""
    found = read_description(Path(run))
    if found is not None:
        return found
    config = read_config(Path(run))
    shapes = config["shapes"]
    classes = int(shapes["context"]) if config.get("labels") else 0
    return Description("", tuple(shapes["x"]), 0, "", classes=classes)


def context_of_samples(
    run: str, found: Description, n: int, label: str | None, dtype: torch.dtype, seed: int
) -> tuple[Tensor, ...]:
    """Return the context of n samples of a run: one-hot labels, and library sizes of the training data.

    Args:
        run: run folder.
        found: what it was trained on.
        n: the number of samples.
        label: the class of all of them; None gives one class after the other.
        dtype: of the context.
        seed: of the library sizes.

    Raises:
        ValueError: if there is no such class, or the run took no labels.
    """
    labels = _labels(run, found, n, label)
    context = () if labels is None else (torch.eye(found.classes, dtype=dtype)[labels],)
    if not found.library_sizes:
        return context
    sizes = torch.tensor(found.library_sizes, dtype=dtype)
    drawn = sizes[torch.randint(len(sizes), (n, 1), generator=torch.Generator().manual_seed(derive(seed)))]
    return (*context, drawn.log())


def label_of_samples(
    run: str, found: Description, n: int, label: str | None, taken: Collection[str]
) -> dict[str, Column]:
    """Return the classes of samples as a column that has no name of the others; nothing for a run without labels."""
    labels = _labels(run, found, n, label)
    names = found.class_names or tuple(map(str, range(found.classes)))
    column = read_config(Path(run)).get("label") or "label"
    return {} if labels is None else {_free(column, taken): [names[code] for code in labels.tolist()]}


def _labels(run: str, found: Description, n: int, label: str | None) -> Tensor | None:
    if not read_config(Path(run)).get("labels"):
        if label is not None:
            raise ValueError(f"label: {run} was trained without labels. Train with --labels true")
        return None
    names = found.class_names or tuple(map(str, range(found.classes)))
    if label is None:
        return torch.arange(n) % found.classes
    if label not in names:
        raise ValueError(f"label must be one of {', '.join(names[:30])}; got {label!r}{near_miss(label, names)}")
    return torch.full((n,), names.index(label))
