"""sample, reconstruct, interpolate and plot: samples and pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["interpolate", "plot", "reconstruct", "sample"]


def sample(
    run: str,
    n: int = 64,
    label: str | None = None,
    mean: bool | Literal["auto"] = "auto",
    seed: int = 0,
    out: str | None = None,
) -> None:
    """Draw images or rows from the model of a run. Counts get library sizes of the training data.

    Args:
        run: run folder.
        n: number of samples.
        label: class of the samples, by its name or number, for a run with labels as context; by default one class after
            the other.
        mean: give the mean of p(x|z) for each z instead of a draw; auto does so for images.
        seed: seed of the draws.
        out: .png picture or .npy array of images, by default figures/samples.png in the run folder; .csv, .parquet or
            .npy file of rows, in the units of the data, by default samples.csv in the run folder.
    """
    from pyro_vae import load, plots
    from pyro_vae.cli import rows, writing

    vae, described = load(run), rows.described(run)
    images = plots.is_image(described.event_shape)
    context = rows.context_of_samples(run, described, n, label, next(vae.parameters()).dtype, seed)
    x = vae.sample(n, *context, mean=images if mean == "auto" else mean, seed=seed)
    if images:
        writing.write_picture(x, lambda: plots.samples(x), out, Path(run) / "figures" / "samples.png")
        return
    endings = {"csv": "a table", "parquet": "a table", "npy": "an array"}
    path = writing.check_ending(out or str(Path(run) / "samples.csv"), **endings)
    values = described.to_units(x)
    writing.write_rows(path, writing.columns_of(values, described.columns), values)


def reconstruct(run: str, n: int = 16, root: str | None = None, out: str | None = None) -> None:
    """Encode and decode the first test images of a run.

    Args:
        run: run folder.
        n: number of images.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: .png picture or .npy array to write; by default figures/reconstructions.png in the run folder.
    """
    from pyro_vae import plots
    from pyro_vae.cli import runs, writing
    from pyro_vae.cli.pictures import first

    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(dataset.test, n, vae)
    decoded = vae.reconstruct(x, *context)
    writing.write_picture(
        decoded, lambda: plots.reconstructions(x, decoded), out, Path(run) / "figures" / "reconstructions.png"
    )


def interpolate(
    run: str,
    n: int = 8,
    steps: int = 9,
    path: Literal["linear", "spherical"] = "linear",
    root: str | None = None,
    out: str | None = None,
) -> None:
    """Walk through the latent space from one test image to another.

    Args:
        run: run folder.
        n: number of walks.
        steps: images in each walk, including both ends.
        path: linear, or spherical, which keeps the lengths that a normal prior expects.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: .png picture or .npy array to write; by default figures/interpolations.png in the run folder.
    """
    from pyro_vae import plots
    from pyro_vae.cli import runs, writing
    from pyro_vae.cli.pictures import first

    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(dataset.test, 2 * n, vae)
    half = len(x) // 2
    paths = vae.interpolate(x[:half], x[half : 2 * half], steps, *(c[:half] for c in context), path=path)
    writing.write_picture(paths, lambda: plots.interpolations(paths), out, Path(run) / "figures" / "interpolations.png")


def plot(run: str, root: str | None = None) -> None:
    """Draw all pictures of a run: training curves, reconstructions, samples, walks, the latent space.

    Args:
        run: run folder.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
    """
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import draw_run

    vae, dataset = runs.open_run(run, None, root, "cpu")
    draw_run(Path(run), vae, dataset)
