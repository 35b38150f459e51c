"""encode, impute and score: numbers for each row of a run's data or of your own."""

from __future__ import annotations

from typing import Literal

__all__ = ["encode", "impute", "score"]

Which = Literal["all", "train", "valid", "test"]


def encode(
    run: str,
    data: str | None = None,
    out: str = "codes.npy",
    split: Which = "all",
    seed: int = 0,
    root: str | None = None,
) -> None:
    """Write the codes of data: means and standard deviations of z for each row or image, in the order of the data.

    Images of a folder stand in the order of their names, one class after the other, as in torchvision's ImageFolder.

    Args:
        run: run folder.
        data: your own data, such as new.csv; by default those of the run.
        out: .csv or .parquet table with a column for each mean (z0, z1, ...) and each standard deviation (sd0, sd1,
            ...), the label if there is one, the file of an image, and the place in the data, from 0, of each row of a
            split; or .npy array of the means and then the standard deviations.
        split: rows to encode: all, train, valid or test.
        seed: seed of the draws, for codes without a mean.
        root: folder of the data sets with names; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
    """
    from pyro_vae.cli import datasets, rows, writing

    path = writing.check_ending(out, npy="an array", csv="a table", parquet="a table")
    vae, dataset = rows.open_whole(run, data, root)
    examples = datasets.part(dataset, split)
    columns = rows.codes(vae, examples, seed)
    if path.suffix.lower() != ".npy":
        columns |= rows.label_column(examples) | rows.file_column(dataset, split) | rows.place_column(dataset, split)
    writing.write_rows(path, columns)
    print(f"codes of {len(examples):,} {examples.noun}s: {rows.what_codes_hold(columns)}")


def impute(
    run: str,
    data: str | None = None,
    out: str = "imputed.csv",
    mean: bool = True,
    draws: int | None = None,
    num_particles: int = 100,
    split: Which = "all",
    seed: int = 0,
    root: str | None = None,
) -> None:
    """Replace the missing values of data by their means given the values that are there, in the units of the data.

    In a table, a missing category becomes the most probable one; integers stay integers, dates stay dates, and all
    other columns stay as they are.

    Args:
        run: run folder, trained on data with missing values.
        data: your own data, such as new.csv; by default those of the run.
        out: .csv or .parquet table, or .npy array.
        mean: write means; false writes draws.
        draws: number of imputations of a table, each with draws of its own. They are written one below the other, and
            numbered from 1 in the column "imputation".
        num_particles: draws of z per row.
        split: rows to impute: all, train, valid or test.
        seed: seed of the draws.
        root: folder of the data sets with names; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
    """
    from pyro_vae.cli import datasets, rows, writing

    path = writing.check_ending(out, csv="a table", parquet="a table", npy="an array")
    vae, dataset = rows.open_whole(run, data, root)
    if not vae.missing:
        raise ValueError(
            f"{run} was trained on data without missing values, so its VAE fills none in. Train on data with gaps"
        )
    examples = datasets.part(dataset, split)
    if vae.schema is not None:
        draws = 1 if draws is None and not mean else draws
        file = rows.file_of(run, data)
        as_text = path.suffix.lower() == ".csv" and file is not None and not file[0].lower().endswith(".parquet")
        table, missing = rows.imputed_table(
            vae, dataset, split, file, num_particles=num_particles, draws=draws, seed=seed, as_text=as_text
        )
        writing.write_frame(path, table, rows.numbers_of(vae, table) if path.suffix.lower() == ".npy" else None)
        print(f"{missing:,} missing values of {len(examples):,} {examples.noun}s are filled in")
        return
    if draws is not None:
        raise ValueError(f"draws are for tables; {run} was trained on other data. Use --mean false")
    filled, missing = rows.imputed(vae, examples, num_particles=num_particles, mean=mean, seed=seed)
    columns = writing.columns_of(filled, rows.names(examples))
    writing.write_rows(path, columns | rows.label_column(examples, columns), filled)
    print(f"{missing:,} missing values of {len(examples):,} {examples.noun}s are filled in")


def score(
    run: str,
    data: str | None = None,
    out: str = "scores.csv",
    flag: float | None = None,
    num_particles: int = 100,
    seed: int = 0,
    root: str | None = None,
) -> None:
    """Write log p(x) of each row, and how it ranks among validation rows; mark anomalies.

    The share of a row is the share of validation rows, itself counted, that are at most as likely: small for anomalies.
    A row is flagged if its share is at most --flag, which is then the rate of false alarms among rows like those that
    the run was trained on.

    Args:
        run: run folder.
        data: your own data, such as new.csv; by default the test rows of the run.
        out: .csv or .parquet table, with the place of each test row in the data of the run, from 0; or .npy array.
        flag: rate of false alarms, such as 0.01; by default nothing is flagged.
        num_particles: draws of z per row for log p(x).
        seed: seed of the draws.
        root: folder of the data sets with names; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
    """
    import torch

    from pyro_vae.cli import datasets, rows, runs, writing
    from pyro_vae.evaluation.weights import warn_of_heavy_tails

    path = writing.check_ending(out, csv="a table", parquet="a table", npy="an array")
    vae, own = runs.open_run(run, None, root, "cpu")
    dataset, split = (own, "test") if data is None else (rows.open_whole(run, data, root)[1], "all")
    examples = datasets.part(dataset, split)
    rows.check_reference(run, own, flag)
    values, tails = rows.log_probs(vae, examples, num_particles=num_particles, seed=seed)
    reference, more = rows.log_probs(vae, own.valid, num_particles=num_particles, seed=seed)
    warn_of_heavy_tails(torch.cat([tails, more]), f"log p(x) of these {examples.noun}s and the validation ones", vae)
    shares = rows.shares(values, reference)
    columns: dict[str, writing.Column] = {"log_prob": values.tolist(), "share": shares.tolist()}
    if flag is not None:
        columns["flagged"] = (shares <= flag).int().tolist()
    if path.suffix.lower() != ".npy":
        columns |= rows.file_column(dataset, split) | rows.place_column(dataset, split)
    writing.write_rows(path, columns)
    rows.print_scores(examples, values, shares, flag)
