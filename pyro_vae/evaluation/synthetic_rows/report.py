"""What :func:`pyro_vae.evaluation.synthetic` returns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pyro_vae.data.reading import import_optional
from pyro_vae.evaluation.synthetic_rows.discriminator import Measured

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SyntheticReport"]

_WIDTH, _NAME = 80, 44  # characters of a line, and of a name in it
_TITLES = {
    "columns": "distance of columns, mean",
    "gaps": "difference of missing shares, mean",
    "pairs": "difference of associations, mean",
    "targets": "score of predictions, mean",
    "discriminator": "area under the discriminator's curve",
    "privacy": "nearer to training rows",
    "copies": "exact copies of training rows",
}
_WORST = 3  # columns, pairs and targets that print shows


@dataclass(frozen=True, eq=False)
class SyntheticReport:
    """How good synthetic rows are. ``print`` shows the main figures; :func:`pyro_vae.plots.synthetic_rows` draws them.

    All numbers compare with real rows: held-out rows, or training rows if there are none of those. "training" is what
    as many training rows reach in the place of the synthetic ones, NaN without held-out rows.

    Args:
        columns: a row per column: its ``kind``; the ``measure`` of the distance from the real rows, of the
            ``synthetic`` and the ``training`` rows (0 is best, 1 is worst); and the shares ``missing_synthetic``,
            ``missing_training`` and ``missing_real``.
        pairs: a row per pair of columns, ``first`` and ``second``: the ``measure`` of association, which is ``real``,
            ``synthetic`` and ``training``, and its absolute ``difference`` from the real rows, of synthetic rows, and
            ``training_difference`` (0 is best; 1 is worst, for Spearman 2).
        targets: a row per target: the ``measure`` of the score on held-out rows, after training on ``synthetic`` and
            on ``training`` rows (1 is best; 0 is no better than a constant). None without held-out rows.
        discriminator: the area under the ROC curve of a classifier between synthetic and real rows (0.5 is best, 1 is
            worst), with its standard error. Below 0.5 by more than its error, rows are near copies of real ones.
        privacy: how often the nearest real row is a training row, with held-out rows weighted up to as many (0.5 is
            best, 1 is worst), and its standard error if nothing was memorised. None without held-out rows.
        copies: the share of ``"synthetic"`` rows, and of ``"held_out"`` rows, that equal a training row.
        rows: the number of rows of each table.
        notes: what was left out, and what else to know.
    """

    columns: pd.DataFrame
    pairs: pd.DataFrame
    targets: pd.DataFrame | None
    discriminator: Measured
    privacy: Measured | None
    copies: Mapping[str, float]
    rows: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return the main figures, a row each: ``synthetic``, ``standard_error``, ``training``, ``best`` and ``worst``.

        ``columns``, ``gaps`` (differences of the shares of missing values), ``pairs`` and ``targets`` are means; scores
        of targets below 0 count as 0.
        """
        nan = float("nan")
        gaps = [
            (self.columns[f"missing_{name}"] - self.columns["missing_real"]).abs().mean()
            for name in ("synthetic", "training")
        ]
        scores = [nan, nan]
        if self.targets is not None:
            scores = [self.targets[name].clip(lower=0).mean() for name in ("synthetic", "training")]
        differences = [self.pairs[name].mean() for name in ("difference", "training_difference")]
        privacy = self.privacy or Measured(nan, nan)
        spearman = bool((self.pairs["measure"] == "Spearman").any())
        rows = {
            "columns": (self.columns["synthetic"].mean(), nan, self.columns["training"].mean(), 0, 1),
            "gaps": (gaps[0], nan, gaps[1], 0, 1),
            "pairs": (differences[0], nan, differences[1], 0, 2 if spearman else 1),
            "targets": (scores[0], nan, scores[1], 1, 0),
            "discriminator": (self.discriminator.value, self.discriminator.standard_error, nan, 0.5, 1),
            "privacy": (privacy.value, privacy.standard_error, nan, 0.5, 1),
            "copies": (self.copies["synthetic"], nan, self.copies.get("held_out", nan), 0, 1),
        }
        titles = ["synthetic", "standard_error", "training", "best", "worst"]
        return import_optional("pandas", "tables").DataFrame.from_dict(rows, "index", columns=titles, dtype=float)

    def __repr__(self) -> str:
        """Return the main figures in one line."""
        main = self.to_frame()["synthetic"]
        said = [f"{name} {main[name]:.3f}" for name in ("columns", "pairs", "targets") if np.isfinite(main[name])]
        said.append(f"discriminator {self.discriminator}")
        said += [f"privacy {self.privacy}"] if self.privacy else []
        return f"SyntheticReport({', '.join(said)})"

    def __str__(self) -> str:
        """Return the main figures, the worst columns, pairs and targets, and the notes, at most 80 columns wide."""
        lines = [self._heading(), "", *self._table()]
        for heading, rows in self._worst().items():
            lines += ["", heading, *(f"  {_shortened(row[0]):{_NAME}} {row[1]}" for row in rows)] if rows else []
        for note in self.notes:
            lines += ["", *textwrap.wrap(f"Note: {note}", _WIDTH, subsequent_indent="  ")]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        worst = "".join(
            f"<p>{escape(heading)}<br>" + "<br>".join(escape(" ".join(" ".join(row).split())) for row in rows) + "</p>"
            for heading, rows in self._worst().items()
            if rows
        )
        notes = "".join(f"<p>Note: {escape(note)}</p>" for note in self.notes)
        table = self.to_frame().rename(index=_TITLES).to_html(float_format="{:.3f}".format, na_rep="")
        return f"<p>{escape(self._heading())}</p>{table}{worst}{notes}"

    def _heading(self) -> str:
        of_what = "held-out" if "held_out" in self.rows else "training"
        real = self.rows.get("held_out", self.rows["train"])
        said = f"{self.rows['synthetic']:,} synthetic rows, compared with {real:,} {of_what} rows"
        return said + (f"; {self.rows['train']:,} training rows" if of_what == "held-out" else "")

    def _table(self) -> list[str]:
        lines = [f"{'':38}{'synthetic':>16}{'training':>10}{'best':>6}{'worst':>7}"]
        for name, row in self.to_frame().iterrows():
            if np.isnan(row["synthetic"]):
                continue
            error = "" if np.isnan(row["standard_error"]) else f" ± {row['standard_error']:.3f}"
            training = "" if np.isnan(row["training"]) else f"{row['training']:.3f}"
            found = f"{row['synthetic']:.3f}{error}"
            lines.append(f"{_TITLES[str(name)]:38}{found:>16}{training:>10}{row['best']:>6g}{row['worst']:>7g}")
        return lines

    def _worst(self) -> dict[str, list[tuple[str, str]]]:
        """Return the worst columns, pairs and targets by heading, each with its figures."""
        columns = self.columns.nlargest(_WORST, "synthetic")
        pairs = self.pairs.nlargest(_WORST, "difference")
        found = {
            "The columns that differ most": [
                (str(name), f"{row['synthetic']:.3f}  {row['measure']}") for name, row in columns.iterrows()
            ],
            "The pairs that differ most": [
                (f"{row['first']}, {row['second']}", f"{row['synthetic']:.2f} for {row['real']:.2f}  {row['measure']}")
                for _, row in pairs.iterrows()
            ],
        }
        if self.targets is not None:
            order = (self.targets["training"] - self.targets["synthetic"]).sort_values(ascending=False, kind="stable")
            found["The targets that lose most"] = [
                (str(name), f"{row['synthetic']:.2f} for {row['training']:.2f}  {row['measure']}")
                for name, row in self.targets.loc[order.index[:_WORST]].iterrows()
            ]
        return found


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
