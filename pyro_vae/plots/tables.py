"""Figures about tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_vae.plots.style import BLUE, DPI, GREY, Shown

if TYPE_CHECKING:
    import pandas as pd

    from pyro_vae.evaluation import SyntheticReport

__all__ = ["synthetic_rows"]

_MOST = 20  # columns and targets that are drawn
_COLOURS = {"Spearman": BLUE, "correlation ratio": "#e07b39", "Cramér's V": "#6a994e"}


def synthetic_rows(report: SyntheticReport) -> Figure:
    """Plot how good synthetic rows are: by column, by pair of columns, by target, and over all columns at once.

    Args:
        report: what :func:`pyro_vae.evaluation.synthetic` returns.
    """
    columns = report.columns.nlargest(_MOST, "synthetic")
    targets = report.targets
    rows = max(len(columns), 6 if targets is None else min(_MOST, len(targets)))
    figure = Shown(figsize=(10, 4.4 + 0.17 * rows), dpi=DPI, layout="constrained")
    heights = [1.2 + 0.17 * rows, 3.2]
    (by_column, by_target), (by_pair, over_all) = figure.subplots(2, 2, height_ratios=heights)
    _draw_rows(by_column, columns["training"], columns["synthetic"])
    by_column.set_title(f"Distance of columns{_of(len(columns), len(report.columns))}; best: 0", fontsize=10)
    by_column.set_xlim(left=0)
    if targets is None:
        by_target.set_axis_off()
        said = "Scores of predictions and privacy\nneed held-out rows"
        by_target.text(0.5, 0.5, said, ha="center", va="center", transform=by_target.transAxes)
    else:
        lost = (targets["training"] - targets["synthetic"]).sort_values(ascending=False, kind="stable")
        shown = targets.loc[lost.index[:_MOST]]
        _draw_rows(by_target, shown["training"], shown["synthetic"])
        title = f"Score of predictions of held-out rows{_of(len(shown), len(targets))}; best: 1"
        by_target.set_title(title, fontsize=10)
    _draw_pairs(by_pair, report)
    _draw_over_all(over_all, report)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _of(shown: int, there: int) -> str:
    return f", the worst {shown} of {there}" if shown < there else ""


def _draw_rows(axis: Axes, training: pd.Series, synthetic: pd.Series) -> None:
    """Draw a row per name, with a line from what training rows reach to what synthetic rows reach."""
    names, training, synthetic = (np.asarray(values) for values in (synthetic.index, training, synthetic))
    places = np.arange(len(names))
    axis.hlines(places, np.where(np.isnan(training), synthetic, training), synthetic, color=GREY, linewidth=1)
    if np.isfinite(training).any():
        axis.plot(training, places, "o", color=GREY, markersize=5, label="training rows")
    axis.plot(synthetic, places, "o", color=BLUE, markersize=5, label="synthetic rows")
    axis.set_yticks(places, [_shortened(str(name)) for name in names], fontsize=8)
    axis.set_ylim(max(len(names), 1) - 0.5, -0.5)
    if len(names):
        axis.legend(frameon=False, fontsize=8)


def _shortened(name: str, most: int = 28) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _draw_pairs(axis: Axes, report: SyntheticReport) -> None:
    low = min(0.0, float(report.pairs[["real", "synthetic"]].min(axis=None))) if len(report.pairs) else 0.0
    axis.plot([low, 1], [low, 1], color=GREY, linewidth=1, zorder=0)
    for measure, colour in _COLOURS.items():
        some = report.pairs[report.pairs["measure"] == measure]
        if len(some):
            axis.plot(some["real"], some["synthetic"], "o", color=colour, markersize=4, alpha=0.7, label=measure)
    axis.set_title("Associations of pairs of columns; best: on the line", fontsize=10)
    axis.set_xlabel("real rows")
    axis.set_ylabel("synthetic rows")
    if len(report.pairs):
        axis.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_over_all(axis: Axes, report: SyntheticReport) -> None:
    found = {"discriminator": report.discriminator} | ({"privacy": report.privacy} if report.privacy else {})
    for place, measured in enumerate(found.values()):
        axis.errorbar(measured.value, place, xerr=2 * measured.standard_error, fmt="o", color=BLUE, capsize=3)
    axis.axvline(0.5, color=GREY, linewidth=1, zorder=0)
    axis.set_xlim(0, 1)
    axis.set_yticks(range(len(found)), list(found), fontsize=8)
    axis.set_ylim(len(found) - 0.5, -0.5)
    copies = report.copies["synthetic"]
    axis.set_title("With two standard errors; best: 0.5, worst: 1", fontsize=10)
    axis.set_xlabel(f"exact copies of training rows: {copies:.2%} of the synthetic rows")
