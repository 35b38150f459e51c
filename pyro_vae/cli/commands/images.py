"""sample, reconstruct, interpolate and plot: pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["interpolate", "plot", "reconstruct", "sample"]


def sample(run: str, n: int = 64, mean: bool = True, seed: int = 0, out: str | None = None) -> None:
    """Draw images from the model of a run. Counts get library sizes of the training data.

    Args:
        run: run folder.
        n: number of images.
        mean: show the mean of p(x|z) for each z instead of a draw.
        seed: seed of the draws.
        out: .png picture or .npy array to write; by default figures/samples.png in the run folder.
    """
    from pyro_vae import load, plots
    from pyro_vae.cli import runs

    vae = load(run)
    context = runs.sample_context(run, n, next(vae.parameters()).dtype, seed)
    x = vae.sample(n, *context, mean=mean, seed=seed)
    runs.write(x, lambda: plots.samples(x), out, Path(run) / "figures" / "samples.png")


def reconstruct(run: str, n: int = 16, root: str | None = None, out: str | None = None) -> None:
    """Encode and decode the first test images of a run.

    Args:
        run: run folder.
        n: number of images.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: .png picture or .npy array to write; by default figures/reconstructions.png in the run folder.
    """
    from pyro_vae import plots
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import first

    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(dataset.test, n, vae)
    decoded = vae.reconstruct(x, *context)
    runs.write(decoded, lambda: plots.reconstructions(x, decoded), out, Path(run) / "figures" / "reconstructions.png")


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
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import first

    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(dataset.test, 2 * n, vae)
    half = len(x) // 2
    paths = vae.interpolate(x[:half], x[half : 2 * half], steps, *(c[:half] for c in context), path=path)
    runs.write(paths, lambda: plots.interpolations(paths), out, Path(run) / "figures" / "interpolations.png")


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
