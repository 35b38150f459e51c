"""How good synthetic rows of a table are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from pyro_vae.argument_checks import at_least
from pyro_vae.data.reading import import_optional
from pyro_vae.evaluation.synthetic_rows.columns import compare_columns, new_labels
from pyro_vae.evaluation.synthetic_rows.discriminator import Measured, discriminator
from pyro_vae.evaluation.synthetic_rows.pairs import compare_pairs
from pyro_vae.evaluation.synthetic_rows.privacy import copies, nearer_to_train
from pyro_vae.evaluation.synthetic_rows.report import SyntheticReport
from pyro_vae.evaluation.synthetic_rows.tables import Table, read
from pyro_vae.evaluation.synthetic_rows.targets import Score, check_targets, drawn_targets, score_target
from pyro_vae.seeds import derive

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["synthetic"]

_MOST_ROWS = 20_000  # of each table, for pairs
_MOST_ROWS_OF_TREES = 5_000  # of each table
_MOST_SYNTHETIC_ROWS, _MOST_REAL_ROWS = 5_000, 10_000  # for privacy, of each table
_MOST_TARGETS = 10
_MOST_CODES = 10  # integers with no more different values may be classes
_MANY_COPIES = 0.1
_FEW_GAPS = 5  # that may be missing by chance
# Independent streams of random numbers.
_TRAINING, _PAIRING, _DISCRIMINATING, _TARGETING, _SCORING, _FITTING, _SEARCHING = range(7)


def synthetic(
    train: pd.DataFrame,
    synthetic: pd.DataFrame,
    held_out: pd.DataFrame | None = None,
    *,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
) -> SyntheticReport:
    """Measure how good synthetic rows of a table are: how like real rows, how useful, and how private.

    Synthetic rows are compared with held-out rows, which the generator has not seen: rows that it remembered from its
    training do not count as good. Beside each number stands what as many training rows reach in their place, since
    even real rows differ by chance. Without held-out rows, the comparison is with the training rows, and neither
    usefulness nor nearness to training rows is measured.

    - Columns: the Kolmogorov-Smirnov statistic of numbers and dates, the total variation of booleans and categories,
      and the shares of missing values. 0 is best, 1 is worst.
    - Pairs of columns: the absolute difference of their associations, 0 if best. The association of numbers is
      Spearman's correlation: unlike Pearson's, it does not depend on units or a logarithm, and a few large values
      do not decide it. Of categories it is Cramér's V (Bergsma 2013), between the two it is the correlation ratio of
      ranks, both corrected for bias. With a constant column it is 0.
    - Targets: how well scikit-learn's boosted trees that learn from synthetic rows predict a column of held-out rows,
      next to trees that learn from as many training rows: R², or balanced accuracy (1 is best; 0 is no better than a
      constant). Integers are numbers; for classes, make the column a category.
    - The discriminator: the area under the ROC curve of boosted trees that tell synthetic from held-out rows, out of
      fold. 0.5 is best, 1 is worst. See Lopez-Paz and Oquab 2017, arXiv 1610.06545.
    - Privacy: how often the nearest real row is a training row, held-out rows weighted up to as many. 0.5 is best, 1
      is worst. It finds copies, exact or nearly so; it is no proof of privacy. And the share of exact copies.

    Of larger tables, rows are drawn at random: 20,000 for pairs, 5,000 for the trees, and for privacy 5,000 synthetic
    rows and 10,000 of either real kind. Three tables of 10,000 rows and 30 columns take about 40 s on one core. Text
    that is different in more than half of the rows is an identifier, and left out. The order of rows and columns
    changes nothing.

    Args:
        train: the rows that the generator was trained on, at least 10: numbers, booleans, text or categories, and
            dates, each with gaps.
        synthetic: the generator's rows, with the same columns.
        held_out: real rows that the generator was not trained on, with the same columns.
        target: the column or columns to predict. By default each column in turn, at most 10, drawn at random.
        seed: of the draws and of the trees.

    Raises:
        TypeError: if a table is no DataFrame of pandas'.
        ValueError: if tables have few rows, other columns, columns of other kinds, without values or with infinite
            ones; or if a target is no column or cannot be predicted.
        ImportError: if pandas is not installed.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> height = rng.normal(170, 10, 900)
        >>> people = pd.DataFrame({"height": height, "weight": height - 100 + rng.normal(0, 5, 900)})
        >>> shuffled = pd.DataFrame({name: rng.permutation(people[name][:300]) for name in people})
        >>> report = synthetic(people[:300], shuffled, people[300:600])
        >>> report.columns["synthetic"].round(2).to_list()  # each column is right,
        [0.07, 0.09]
        >>> pair = report.pairs.loc[0]  # but not the two together
        >>> pair["measure"], bool(pair["real"] > 0.8), bool(pair["synthetic"] > 0.8)
        ('Spearman', True, False)
    """
    at_least("seed", seed, 0)
    if held_out is None and target is not None:
        raise ValueError("target needs held_out: real rows to predict, which nothing has been trained on")
    frames = {"train": train, "synthetic": synthetic} | ({} if held_out is None else {"held_out": held_out})
    tables, notes = read(frames)
    names = [str(name) for name in train.columns if str(name) in tables["train"].names]
    real = tables.get("held_out", tables["train"])
    # No more training rows than synthetic ones take their place: the fewer rows, the larger the distance by chance.
    training = None if held_out is None else tables["train"].some(len(synthetic), derive(seed, _TRAINING))
    of_pairs = derive(seed, _PAIRING)
    drawn = (tables["synthetic"].some(_MOST_ROWS, of_pairs), real.some(_MOST_ROWS, of_pairs))
    found_pairs, notes_of_pairs = compare_pairs(*drawn, training and training.some(_MOST_ROWS, of_pairs), names)
    targets, notes_of_targets = _targets(tables, target, names, seed)
    shares_of_copies = {name: copies(tables[name], tables["train"]) for name in frames if name != "train"}
    columns = compare_columns(tables["synthetic"], real, training).loc[names]
    return SyntheticReport(
        columns=columns,
        pairs=found_pairs,
        targets=targets,
        discriminator=discriminator(tables["synthetic"], real, _MOST_ROWS_OF_TREES, derive(seed, _DISCRIMINATING)),
        privacy=_privacy(tables, seed),
        copies=shares_of_copies,
        rows={name: len(frame) for name, frame in frames.items()},
        notes=(
            *notes,
            *_notes_of_labels(tables),
            *_notes_of_gaps(columns, len(synthetic)),
            *notes_of_pairs,
            *notes_of_targets,
            *_notes_of_copies(shares_of_copies),
        ),
    )


def _targets(
    tables: Mapping[str, Table], target: str | Sequence[str] | None, names: Sequence[str], seed: int
) -> tuple[pd.DataFrame | None, list[str]]:
    """Return a frame of a row per target, and notes; nothing if there are no held-out rows."""
    if "held_out" not in tables:
        return None, ["there are no held-out rows: copies of training rows count as good rows"]
    n = min(len(tables["train"]), len(tables["synthetic"]), _MOST_ROWS_OF_TREES)
    sizes = {"train": n, "synthetic": n, "held_out": _MOST_ROWS_OF_TREES}
    drawn = {name: tables[name].some(size, derive(seed, _SCORING, i)) for i, (name, size) in enumerate(sizes.items())}
    if target is None:
        targets, notes = drawn_targets(drawn, _MOST_TARGETS, derive(seed, _TARGETING))
    else:
        targets = check_targets(target, drawn)
        notes = _notes_of_integers(drawn["train"], targets)
    found = [score_target(drawn, name, derive(seed, _FITTING)) for name in sorted(targets, key=names.index)]
    frame = import_optional("pandas", "tables").DataFrame(found, columns=[field.name for field in fields(Score)])
    return frame.set_index("target").astype({"synthetic": float, "training": float}), notes


def _privacy(tables: Mapping[str, Table], seed: int) -> Measured | None:
    if "held_out" not in tables:
        return None
    sizes = {"synthetic": _MOST_SYNTHETIC_ROWS, "train": _MOST_REAL_ROWS, "held_out": _MOST_REAL_ROWS}
    drawn = (tables[name].some(size, derive(seed, _SEARCHING, i)) for i, (name, size) in enumerate(sizes.items()))
    return nearer_to_train(*drawn)


def _notes_of_labels(tables: Mapping[str, Table]) -> list[str]:
    real = [table for name, table in tables.items() if name != "synthetic"]
    return [
        f"{name!r} has categories in {share:.2%} of the synthetic rows that no real row has: "
        + ", ".join(map(repr, labels[:3]))
        + f" and {len(labels) - 3} more" * (len(labels) > 3)
        for name, labels, share in new_labels(tables["synthetic"], *real)
    ]


def _notes_of_gaps(columns: pd.DataFrame, rows: int) -> list[str]:
    """Return a note if synthetic rows are complete and real ones are not, as with most generators."""
    complete = columns[(columns["missing_synthetic"] == 0) & (rows * columns["missing_real"] > _FEW_GAPS)].index
    if not len(complete):
        return []
    said = f"{', '.join(map(repr, complete[:3]))}{' and others' if len(complete) > 3 else ''}"
    return [
        f"only real rows have gaps in {said}, which the discriminator sees. To compare the values alone, give the "
        "synthetic rows the gaps of training rows: synthetic.mask(train.sample(len(synthetic), "
        "replace=True).isna().to_numpy())"
    ]


def _notes_of_integers(train: Table, targets: Sequence[str]) -> list[str]:
    """Return notes about targets that may be codes of classes, which only the user can know."""
    notes = []
    for name in targets:
        index = train.names.index(name)
        values = np.unique(train.known(index))
        if train.columns[index].kind == "number" and len(values) <= _MOST_CODES and (values == np.round(values)).all():
            said = f"{name!r} has the integers {', '.join(f'{value:g}' for value in values)}"
            notes.append(f"{said} and is predicted as a number; for classes, make it a category in all tables")
    return notes


def _notes_of_copies(shares: Mapping[str, float]) -> list[str]:
    share = shares.get("held_out", 0.0)
    if share <= _MANY_COPIES:
        return []
    said = f"{share:.2%} of the held-out rows equal a training row"
    return [f"{said}: privacy and copies say little about the generator"]
