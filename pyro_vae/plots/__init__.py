"""Figures: functions that take data and return a matplotlib Figure, without showing it or choosing a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pyro_vae.plots.style import BLUE, DPI, GREY, Shown
from pyro_vae.plots.tables import synthetic_rows

if TYPE_CHECKING:
    from pyro_vae.training import History

__all__ = [
    "codes",
    "interpolations",
    "is_image",
    "manifold",
    "rank_histograms",
    "rate_distortion",
    "reconstructions",
    "samples",
    "synthetic_rows",
    "training_curves",
]


def training_curves(history: History) -> Figure:
    """Plot the ELBO and its two terms by epoch.

    Args:
        history: the result of :func:`pyro_vae.fit`, at least one epoch.

    Raises:
        ValueError: if the history is empty.
    """
    if not history:
        raise ValueError("history must hold at least one epoch; got none")
    figure = Shown(figsize=(10, 3.2), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 3)
    epochs = [record.epoch for record in history]
    valid = [record.valid_elbo for record in history if record.valid_elbo is not None]
    axes[0].plot(epochs, [record.elbo for record in history], color=GREY, label="training")
    if valid:
        axes[0].plot(epochs[-len(valid) :], valid, color=BLUE, label="validation")
        best = history.best
        axes[0].plot(best.epoch, best.score, "o", color=BLUE, markersize=4, label=f"best: {best.score:.2f}")
    axes[0].legend(frameon=False, loc="lower right")
    for axis, title, values in (
        (axes[0], "ELBO", [record.elbo for record in history]),
        (axes[1], "Reconstruction  E[log p(x|z)]", [record.recon for record in history]),
        (axes[2], "KL(q(z|x) || p(z))", [record.kl for record in history]),
    ):
        if axis is not axes[0]:
            axis.plot(epochs, values, color=GREY)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.set_ylabel("nats per example")
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
        _zoom_past_the_start(axis)
    return figure


def _zoom_past_the_start(axis: Axes) -> None:
    """Set the vertical range without the first tenth of each curve, which would fill it."""
    curves = [np.asarray(line.get_ydata()) for line in axis.lines]
    settled = np.concatenate([curve[len(curve) // 10 :] for curve in curves])
    if np.isfinite(settled).all() and np.ptp(settled) > 0:
        margin = 0.08 * np.ptp(settled)
        axis.set_ylim(settled.min() - margin, settled.max() + margin)


def reconstructions(
    originals: Tensor,
    reconstructed: Tensor,
    columns: int = 8,
    title: str = "Originals, each above its reconstruction",
) -> Figure:
    """Show originals in rows, each above its reconstruction.

    Args:
        originals: ``(n, channels, height, width)`` or ``(n, height, width)``, in [0, 1].
        reconstructed: the reconstructions, in the same shape.
        columns: images per row.
        title: the text above the picture.

    Raises:
        ValueError: if the shapes differ or are not those of images.
    """
    if originals.shape != reconstructed.shape:
        raise ValueError(
            f"originals and reconstructed must have the same shape; got {tuple(originals.shape)} and "
            f"{tuple(reconstructed.shape)}"
        )
    columns = min(columns, len(originals))
    blank = originals.new_full((-len(originals) % columns, *originals.shape[1:]), _blank(originals))
    rows = (torch.cat([part, blank]).split(columns) for part in (originals, reconstructed))
    pairs = [row for pair in zip(*rows, strict=True) for row in pair]
    return _picture(torch.cat(pairs), columns, title)


def samples(images: Tensor, columns: int = 8) -> Figure:
    """Show images side by side.

    Args:
        images: ``(n, channels, height, width)`` or ``(n, height, width)``, in [0, 1].
        columns: images per row.

    Raises:
        ValueError: if the shape is not that of images.
    """
    return _picture(images, columns, "Samples from the model")


def interpolations(paths: Tensor) -> Figure:
    """Show paths through the latent space, one per row.

    Args:
        paths: ``(n, steps, channels, height, width)`` or ``(n, steps, height, width)``, in [0, 1].
    """
    return _picture(paths.flatten(0, 1), paths.shape[1], "Paths through the latent space, from left to right")


def manifold(images: Tensor, z1: Tensor, z2: Tensor) -> Figure:
    """Show the decoded images on a grid of points in a two-dimensional latent space.

    Args:
        images: ``(rows, columns, channels, height, width)``, in [0, 1].
        z1: the first latent coordinate of each column, from left to right.
        z2: the second latent coordinate of each row, from top to bottom.

    Raises:
        ValueError: if z1 or z2 do not match the grid.
    """
    rows, columns = images.shape[:2]
    if (len(z2), len(z1)) != (rows, columns):
        raise ValueError(f"z1 and z2 must have one entry per column and per row of {rows} x {columns} images")
    grid = _grid(images.flatten(0, 1), columns, padding=0)
    figure = Shown(figsize=(6, 6 * rows / columns + 0.3), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    # The points may be unevenly spaced, so the ticks name some of them.
    axis.imshow(
        grid, cmap="gray_r", vmin=0, vmax=1, extent=(0, columns, rows, 0), aspect="auto", interpolation="nearest"
    )
    for set_ticks, points in ((axis.set_xticks, z1), (axis.set_yticks, z2)):
        chosen = np.unique(np.linspace(0, len(points) - 1, 7).round().astype(int))
        set_ticks(chosen + 0.5, [f"{float(points[i]):.1f}" for i in chosen])
    axis.set_title("The latent space, decoded", fontsize=10)
    axis.set_xlabel("$z_1$")
    axis.set_ylabel("$z_2$")
    return figure


def codes(z: Tensor | NDArray[Any], labels: Tensor | NDArray[Any] | Sequence[str] | None = None) -> Figure:
    """Plot latent codes in the plane, by PCA if there are more than two dimensions.

    Args:
        z: ``(n, latent_dim)``, at least two codes.
        labels: the class of each code, ``(n,)``, a number or a name, which sets its colour.

    Raises:
        ValueError: if the shapes of codes and labels do not fit.
    """
    points = torch.as_tensor(z).detach().double().cpu().numpy()
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"z must be at least two codes, (n, latent_dim); got {tuple(z.shape)}")
    if labels is not None and len(labels) != len(points):
        raise ValueError(f"labels must have one entry per code: {len(points)}; got {len(labels)}")
    title, names = "Latent codes", ("$z_1$", "$z_2$")
    if points.shape[1] == 1:
        points = np.concatenate([points, np.zeros_like(points)], axis=1)
        names = ("$z_1$", "")
    elif points.shape[1] > 2:
        from sklearn.decomposition import PCA  # takes seconds to import

        pca = PCA(2).fit(points)
        points = pca.transform(points)
        first, second = pca.explained_variance_ratio_
        title = f"Latent codes in {z.shape[1]} dimensions, by PCA"
        names = (f"first component ({first:.0%} of variance)", f"second component ({second:.0%})")
    figure = Shown(figsize=(6, 5), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    if labels is None:
        axis.scatter(points[:, 0], points[:, 1], s=6, color=BLUE, alpha=0.6, linewidths=0)
    else:
        classes = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
        for i, label in enumerate(np.unique(classes).tolist()):
            chosen, colour = points[classes == label], _colour(i if isinstance(label, str) else int(label))
            axis.scatter(chosen[:, 0], chosen[:, 1], s=8, alpha=0.7, linewidths=0, color=colour, label=str(label))
        axis.legend(frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def rank_histograms(ranks: Tensor, values: int, bins: int = 16, most: int = 20) -> Figure:
    """Plot histograms of ranks from simulation-based calibration, one per latent dimension; flat if q is the posterior.

    The band holds 99 % of the bars of a flat histogram (Talts et al. 2018, arXiv 1804.06788).

    Args:
        ranks: ranks of the true codes among draws of q, integers below ``values``, ``(simulations, latent_dim)``.
        values: the number of values that a rank can take, one more than the draws.
        bins: the number of bars per histogram; must divide ``values``.
        most: the largest number of histograms; the first dimensions are shown.

    Raises:
        ValueError: if the shape of ranks or the number of bins does not fit.
    """
    from scipy.stats import binom

    if ranks.dim() != 2 or not len(ranks):
        raise ValueError(f"ranks must be (simulations, latent_dim), at least one simulation; got {tuple(ranks.shape)}")
    if bins < 1 or values % bins:
        raise ValueError(f"bins must divide the {values} values of a rank, or bars differ in width; got {bins}")
    n, dims = len(ranks), min(ranks.shape[1], most)
    columns = min(dims, 5)
    rows = -(-dims // columns)
    figure = Shown(figsize=(1.2 + 1.9 * columns, 1.0 + 1.5 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    low, high = binom.ppf([0.005, 0.995], n, 1 / bins)
    for i, axis in enumerate(grid):
        if i >= dims:
            axis.set_axis_off()
            continue
        axis.axhspan(low, high, color=GREY, alpha=0.35, linewidth=0)
        counts, edges = np.histogram(ranks[:, i].cpu().numpy(), bins=np.arange(bins + 1) * values / bins - 0.5)
        axis.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
        axis.set_title(f"$z_{{{i + 1}}}$", fontsize=9)
        axis.set_xticks([0, values - 1])
        axis.spines[["top", "right"]].set_visible(False)
    shown = "" if dims == ranks.shape[1] else f"; the first {dims} of {ranks.shape[1]} dimensions"
    figure.suptitle(f"Rank of the true code among {values - 1} draws of q(z|x), {n} simulations{shown}", fontsize=10)
    figure.supxlabel("U: q is too narrow;  arch: too wide;  slope: off centre;  grey: 99 % of a flat one", fontsize=8)
    return figure


def rate_distortion(rates: Sequence[float], distortions: Sequence[float], labels: Sequence[str], title: str) -> Figure:
    """Plot models by rate and distortion, with lines of equal ELBO (Alemi et al. 2017, arXiv 1711.00464).

    Args:
        rates: E[KL(q(z|x) || p(z))] of each model, in nats per example.
        distortions: −E_q[log p(x|z)] of each model, in nats per example.
        labels: the text beside each model.
        title: the quantity that the labels give.

    Raises:
        ValueError: if there are no models, the lengths differ, or a rate or distortion is not finite.
    """
    if not len(rates) == len(distortions) == len(labels) > 0:
        raise ValueError(
            f"rates, distortions and labels must have one entry per model, for one model at least; got {len(rates)}, "
            f"{len(distortions)} and {len(labels)}"
        )
    x, y = np.asarray(rates, dtype=float), np.asarray(distortions, dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"rates and distortions must be finite; got {list(rates)} and {list(distortions)}")
    figure = Shown(figsize=(7, 5), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    order = np.argsort(x)
    axis.plot(x[order], y[order], "-o", color=BLUE, linewidth=1, markersize=5)
    for i, label in enumerate(labels):
        axis.annotate(label, (x[i], y[i]), textcoords="offset points", xytext=(6, 5), fontsize=8)
    axis.margins(0.12)
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    # The margins do not go far below 0. Sampled KLs of collapsed models may be just below it.
    left = max(left, min(x.min(), 0.0) - 0.02 * abs(right))
    bottom = max(bottom, 0.0) if y.min() >= 0 else bottom
    step = _round_step((right - left + top - bottom) / 8)
    for total in np.arange(np.ceil((left + bottom) / step), (right + top) / step) * step:
        axis.plot([left, right], [total - left, total - right], color=GREY, linewidth=0.6, alpha=0.7, zorder=0)
        inside = (total - top, top) if total - top > left else (left, total - left)
        axis.annotate(f"{-total:g}", inside, fontsize=7, color=GREY, textcoords="offset points", xytext=(2, -8))
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)
    axis.set_xlabel("rate, E[KL(q(z|x) || p(z))], in nats")
    axis.set_ylabel("distortion, -E[log p(x|z)], in nats")
    axis.set_title(f"Rate and distortion by {title}; grey: lines of equal ELBO", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _round_step(size: float) -> float:
    """Return the largest number up to ``size`` that is 1, 2 or 5 times a power of ten."""
    power = 10 ** np.floor(np.log10(size))
    return float(power * max(m for m in (1, 2, 5) if m * power <= size))


def _colour(label: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    return colormaps["tab20" if label >= 10 else "tab10"](label % 20)


def is_image(event_shape: tuple[int, ...]) -> bool:
    """Return True if examples of this shape can be drawn: ``(1 or 3, height, width)`` or ``(height, width)``."""
    return len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[0] in (1, 3))


def _picture(images: Tensor, columns: int, title: str) -> Figure:
    grid = _grid(images, columns, padding=max(1, images.shape[-1] // 14))
    height, width = grid.shape[:2]
    figure = Shown(figsize=(6, 6 * height / width + 0.35), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.imshow(grid, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
    return figure


def _grid(images: Tensor, columns: int, padding: int) -> np.ndarray:
    if len(images) == 0 or columns < 1:
        raise ValueError(f"there must be at least one image and one column; got {len(images)} and {columns}")
    if not is_image(tuple(images.shape[1:])):
        raise ValueError(
            f"images must be (n, 1 or 3, height, width) or (n, height, width) to be drawn; got {tuple(images.shape)}"
        )
    images = images.detach().float().cpu().clamp(0, 1)
    if images.dim() == 3:
        images = images.unsqueeze(1)
    blank, n = _blank(images), len(images)
    columns, padding = min(columns, n), padding if n > 1 else 0
    rows = -(-n // columns)
    cells = functional.pad(images, (padding, 0, padding, 0), value=blank)
    cells = torch.cat([cells, cells.new_full((rows * columns - n, *cells.shape[1:]), blank)])
    grid = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    grid = functional.pad(grid, (0, 0, 0, padding, 0, padding), value=blank)
    return (grid if images.shape[1] == 3 else grid[..., 0]).numpy()


def _blank(images: Tensor) -> float:
    """Return the value that shows as white: 1 for colours, 0 for greys, which go from white to black."""
    return 1.0 if images.dim() == 4 and images.shape[1] == 3 else 0.0
