"""The pictures of a run, in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import constraints

from pyro_vae import VAE, plots
from pyro_vae.checkpoints import HISTORY
from pyro_vae.data import DataSet, Split, batches
from pyro_vae.files import folder_in, replacing
from pyro_vae.parts import as_posterior, same_support
from pyro_vae.training import History

if TYPE_CHECKING:
    from pyro_vae.checks import Report

__all__ = ["draw_ranks", "draw_run", "first", "one_of_each", "save_figure"]


def draw_run(run: Path, vae: VAE, dataset: DataSet[Any]) -> None:
    """Draw all pictures that a run allows into its folder, and print their paths."""
    vae = vae.to("cpu")
    examples = dataset.test if len(dataset.test) else dataset.train
    x, *context = first(examples, min(2000, len(examples)), vae)
    z = vae.decoder_input(vae.codes(x, *context))
    figures = {"training": plots.training_curves(History.read(run / HISTORY))}
    if len(z) > 1:
        figures["codes"] = plots.codes(z, _classes(examples[: len(z)]))
    if plots.is_image(dataset.event_shape):
        classes = one_of_each(dataset.classes if dataset.train.with_labels else 0, 64, x.dtype)
        figures |= _images(vae, x, context, classes)
        support = as_posterior(vae.posterior).support or constraints.real_vector
        if z.shape[-1] == 2 and not context and same_support(support, constraints.real_vector):
            figures["manifold"] = _manifold(vae)
    folder = folder_in(run, "figures")
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
        print(f"figure    {folder / name}.png")


def _classes(examples: Split) -> Tensor | list[str] | None:
    """Return the class of each example, by its name if it has one; None without classes."""
    if examples.labels is None or not examples.class_names:
        return examples.labels
    return [examples.class_names[code] for code in examples.labels.tolist()]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .png; replaces a file or a link at this path."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def draw_ranks(report: Report, folder: Path) -> Path:
    """Draw the rank histograms of a cross-check into a folder, and return the path."""
    if report.ranks is None:
        raise ValueError("the report has no ranks to draw")
    path = folder / "calibration.png"
    save_figure(plots.rank_histograms(report.ranks, report.rank_count), path)
    return path


def _images(vae: VAE, x: Tensor, context: list[Tensor], labels: tuple[Tensor, ...]) -> dict[str, Figure]:
    few, walks = x[:32], min(8, len(x) // 2)
    figures = {
        "reconstructions": plots.reconstructions(few, vae.reconstruct(few, *(c[:32] for c in context))),
        "samples": plots.samples(vae.sample(64, *labels, mean=True, seed=0)),
    }
    if walks:  # each has two ends
        start, end, of_start = x[:walks], x[walks : 2 * walks], (c[:walks] for c in context)
        paths = vae.interpolate(start, end, 11, *of_start, path="spherical")
        figures["interpolations"] = plots.interpolations(paths)
    return figures


def _manifold(vae: VAE, size: int = 20) -> Figure:
    """Return a grid over the middle 95 % of a standard normal in each dimension, with equal probability per step."""
    like = next(vae.parameters())
    quantiles = torch.linspace(0.025, 0.975, size, dtype=like.dtype)
    points = torch.distributions.Normal(like.new_zeros(()), like.new_ones(())).icdf(quantiles)
    down, across = torch.meshgrid(points.flip(0), points, indexing="ij")
    with torch.no_grad():
        images = vae.decode(torch.stack([across, down], dim=-1).flatten(0, 1)).mean
    return plots.manifold(images.unflatten(0, (size, size)), points, points.flip(0))


def first(examples: Split, n: int, vae: VAE, seed: int = 0) -> tuple[Tensor, ...]:
    """Return the first n examples as the VAE sees them, binarised in the same way each time."""
    if not 1 <= n <= len(examples):
        raise ValueError(
            f"the number of {examples.noun}s must be from 1 to {len(examples)}, which is all of them; got {n}"
        )
    like = next(vae.parameters())
    return next(iter(batches(examples[:n], batch_size=n, seed=seed, device=like.device, dtype=like.dtype)))


def one_of_each(classes: int, n: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return the context of n samples from a run with labels, one class after the other; nothing for 0 classes."""
    return (torch.eye(classes, dtype=dtype)[torch.arange(n) % classes],) if classes else ()
