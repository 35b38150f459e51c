"""sample, reconstruct, interpolate and plot: samples and pictures of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

__all__ = ["interpolate", "plot", "reconstruct", "sample"]


def sample(
    run: str,
    n: int | None = None,
    label: str | None = None,
    context: str | None = None,
    mean: bool | Literal["auto"] = "auto",
    seed: int = 0,
    out: str | None = None,
) -> None:
    """Draw images or rows from the model of a run. Counts get library sizes of the training data.

    Args:
        run: run folder.
        n: number of samples, by default 64, or one for each row of the context.
        label: class of the samples, by its name or number, for a run with labels as context; by default one class after
            the other.
        context: table with the context columns of the schema, a row for each sample; by default those of training
            rows, drawn at random. The samples have these columns too.
        mean: give the mean of p(x|z) for each z instead of a draw; auto does so for images.
        seed: seed of the draws.
        out: .png picture or .npy array of images, by default figures/samples.png in the run folder; .csv, .parquet or
            .npy file of rows, in the units of the data, by default samples.csv in the run folder. A table has the
            class of each row, for a run with labels as context.
    """
    from pyro_vae import load, plots
    from pyro_vae.cli import contexts, rows, writing

    vae, described = load(run), rows.described(run)
    images = plots.is_image(described.event_shape)
    of_columns = contexts.context_for_samples(run, vae, n, context, seed)
    n = (64 if of_columns is None else len(of_columns)) if n is None else n
    given = rows.context_of_samples(run, described, n, label, next(vae.parameters()).dtype, seed)
    given = given if of_columns is None else (*given, of_columns)
    x = vae.sample(n, *given, mean=images if mean == "auto" else mean, seed=seed)
    if images:
        writing.write_picture(x, lambda: plots.samples(x), out, Path(run) / "figures" / "samples.png")
        return
    path = writing.path_of_rows(out, Path(run) / "samples.csv")
    if vae.schema is not None:
        x = contexts.with_context(vae, x, of_columns)
        of_labels = rows.label_of_samples(run, described, n, label, x.columns)
        writing.write_frame(path, x.assign(**of_labels), rows.numbers_of(vae, x))
        return
    values = described.to_units(x)
    columns = writing.columns_of(values, described.columns)
    writing.write_rows(path, columns | rows.label_of_samples(run, described, n, label, columns), values)


def reconstruct(
    run: str, n: int | None = None, data: str | None = None, root: str | None = None, out: str | None = None
) -> None:
    """Encode and decode the first test images or rows of a run, or of other data.

    Args:
        run: run folder.
        n: number of images, by default 16; or of rows, by default all.
        data: other data than the run's own, of which all are taken, or where these are now.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: .png picture or .npy array of images, by default figures/reconstructions.png in the run folder; .csv,
            .parquet or .npy file of rows, in the units of the data, by default reconstructions.csv in the run folder.
    """
    from pyro_vae import plots
    from pyro_vae.cli import datasets, rows, runs, writing
    from pyro_vae.cli.pictures import first
    from pyro_vae.data.table_frames import as_frame, within_bounds

    vae, dataset = runs.open_run(run, data, root, "cpu")
    _, test = datasets.part_of_run(run, dataset, None, data)
    if not plots.is_image(test.event_shape):
        path = writing.path_of_rows(out, Path(run) / "reconstructions.csv")
        examples = test if n is None else rows.some(test, n)
        columns, values = rows.reconstructed(vae, examples)
        if vae.schema is not None:
            values = within_bounds(vae.schema, values)
            writing.write_frame(path, as_frame(vae.schema, values), values)
            return
        writing.write_rows(path, columns, values)
        return
    x, *context = first(test, min(16, len(test)) if n is None else n, vae)
    decoded = vae.reconstruct(x, *context)
    writing.write_picture(
        decoded, lambda: plots.reconstructions(x, decoded), out, Path(run) / "figures" / "reconstructions.png"
    )


def interpolate(
    run: str,
    n: int | None = None,
    steps: int = 9,
    path: Literal["linear", "spherical"] = "linear",
    data: str | None = None,
    root: str | None = None,
    out: str | None = None,
) -> None:
    """Walk through the latent space from one test image or row to another.

    Args:
        run: run folder.
        n: number of walks; by default 8, or fewer if there are too few images or rows.
        steps: images or rows in each walk, including both ends.
        path: linear, or spherical, which keeps the lengths that a normal prior expects.
        data: other data than the run's own, of which all are taken, or where these are now.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: .png picture or .npy array of images, by default figures/interpolations.png in the run folder; .csv,
            .parquet or .npy file of rows, in the units of the data, by default interpolations.csv in the run folder.
            A table has the number of the walk and of the step in its first columns.
    """
    from pyro_vae import plots
    from pyro_vae.cli import datasets, rows, runs, writing
    from pyro_vae.cli.pictures import first
    from pyro_vae.data.reading import import_optional

    vae, dataset = runs.open_run(run, data, root, "cpu")
    _, test = datasets.part_of_run(run, dataset, None, data)
    n = max(1, min(8, len(test) // 2)) if n is None else n
    if not 1 <= n <= len(test) // 2:
        raise ValueError(f"n must be from 1 to {len(test) // 2}, two {test.noun}s for each walk; got {n}")
    images = plots.is_image(test.event_shape)
    to = None if images else writing.path_of_rows(out, Path(run) / "interpolations.csv")
    x, *context = first(test, 2 * n, vae)
    paths = vae.interpolate(x[:n], x[n:], steps, *(c[:n] for c in context), path=path)
    if to is not None:
        columns, values = rows.walks(vae, test, paths)
        if vae.schema is None:
            writing.write_rows(to, columns, values)
        else:
            writing.write_frame(to, import_optional("pandas", "tables").DataFrame(columns), values)
        return
    writing.write_picture(paths, lambda: plots.interpolations(paths), out, Path(run) / "figures" / "interpolations.png")


def plot(run: str, data: str | None = None, root: str | None = None) -> None:
    """Draw all pictures of a run: training curves, reconstructions, samples, walks, the latent space.

    Args:
        run: run folder.
        data: other data than the run's own, or where these are now.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
    """
    from pyro_vae.cli import datasets, runs
    from pyro_vae.cli.pictures import draw_run

    vae, dataset = runs.open_run(run, data, root, "cpu")
    _, examples = datasets.part_of_run(run, dataset, None, data)
    draw_run(Path(run), vae, replace(dataset, test=examples))
