"""What a report shows, in a console, in a notebook and as a figure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pyro_vae.evaluation import SyntheticReport
from pyro_vae.evaluation.synthetic_rows import Measured
from pyro_vae.plots import synthetic_rows

COLUMNS = pd.DataFrame(
    {
        "kind": ["number", "category"],
        "measure": ["Kolmogorov-Smirnov", "total variation"],
        "synthetic": [0.1, 0.3],
        "training": [0.05, 0.01],
        "missing_synthetic": [0.0, 0.5],
        "missing_training": [0.1, 0.0],
        "missing_real": [0.1, 0.2],
    },
    index=["height", "a <b> with a name that is far too long to fit into one line"],
)
PAIR = ["height", COLUMNS.index[1], "correlation ratio", 0.5, 0.25, 0.45, 0.25, 0.05]
TITLES = ["first", "second", "measure", "real", "synthetic", "training", "difference", "training_difference"]
PAIRS = pd.DataFrame([PAIR], columns=TITLES)
TARGETS = pd.DataFrame(
    {"measure": ["R²", "balanced accuracy"], "synthetic": [-3.0, 0.5], "training": [0.5, 0.6]}, index=COLUMNS.index
).rename_axis("target")
REPORT = SyntheticReport(
    columns=COLUMNS,
    pairs=PAIRS,
    targets=TARGETS,
    discriminator=Measured(0.75, 0.02),
    privacy=Measured(0.5, 0.03),
    copies={"synthetic": 0.125, "held_out": 0.01},
    rows={"train": 1200, "synthetic": 1000, "held_out": 300},
    notes=("'name' is left out: 30 of its 30 values in train are different, as in an identifier, so we leave it out",),
)
ALONE = dataclasses.replace(
    REPORT,
    columns=COLUMNS.assign(training=np.nan, missing_training=np.nan),
    pairs=PAIRS.assign(training=np.nan, training_difference=np.nan),
    targets=None,
    privacy=None,
    copies={"synthetic": 0.0},
    rows={"train": 1200, "synthetic": 1000},
    notes=(),
)


def test_the_main_figures():
    found = REPORT.to_frame()
    expected = {
        "columns": (0.2, np.nan, 0.03, 0, 1),
        "gaps": (0.2, np.nan, 0.1, 0, 1),
        "pairs": (0.25, np.nan, 0.05, 0, 1),
        "targets": (0.25, np.nan, 0.55, 1, 0),  # −3 counts as 0
        "discriminator": (0.75, 0.02, np.nan, 0.5, 1),
        "privacy": (0.5, 0.03, np.nan, 0.5, 1),
        "copies": (0.125, np.nan, 0.01, 0, 1),
    }
    assert found.index.to_list() == list(expected)
    np.testing.assert_allclose(found.to_numpy(), list(expected.values()))
    spearman = dataclasses.replace(REPORT, pairs=PAIRS.assign(measure="Spearman")).to_frame()
    assert spearman.loc["pairs", "worst"] == 2
    alone = ALONE.to_frame()
    assert alone.loc[["targets", "privacy"], "synthetic"].isna().all()
    assert alone["training"].isna().all()


def test_what_print_shows():
    assert (
        str(REPORT)
        == """\
1,000 synthetic rows, compared with 300 held-out rows; 1,200 training rows

                                             synthetic  training  best  worst
distance of columns, mean                        0.200     0.030     0      1
difference of missing shares, mean               0.200     0.100     0      1
difference of associations, mean                 0.250     0.050     0      1
score of predictions, mean                       0.250     0.550     1      0
area under the discriminator's curve     0.750 ± 0.020             0.5      1
nearer to training rows                  0.500 ± 0.030             0.5      1
exact copies of training rows                    0.125     0.010     0      1

The columns that differ most
  a <b> with a name that is far too long to f… 0.300  total variation
  height                                       0.100  Kolmogorov-Smirnov

The pairs that differ most
  height, a <b> with a name that is far too l… 0.25 for 0.50  correlation ratio

The targets that lose most
  height                                       -3.00 for 0.50  R²
  a <b> with a name that is far too long to f… 0.50 for 0.60  balanced accuracy

Note: 'name' is left out: 30 of its 30 values in train are different, as in an
  identifier, so we leave it out"""
    )
    assert repr(REPORT) == (
        "SyntheticReport(columns 0.200, pairs 0.250, targets 0.250, discriminator 0.750 ± 0.020, privacy 0.500 ± 0.030)"
    )


@pytest.mark.parametrize("report", [REPORT, ALONE])
def test_it_fits_80_columns(report):
    assert max(map(len, str(report).splitlines())) <= 80


def test_without_held_out_rows():
    said = str(ALONE)
    assert said.startswith("1,000 synthetic rows, compared with 1,200 training rows\n")
    assert "nearer to training rows" not in said
    assert "predictions" not in said
    assert repr(ALONE) == "SyntheticReport(columns 0.200, pairs 0.250, discriminator 0.750 ± 0.020)"


def test_what_a_notebook_shows():
    page = REPORT._repr_html_()
    assert "<b>" not in page
    assert "a &lt;b&gt; with a name that is far too long" in page
    for said in ("0.250", "1,000 synthetic rows", "<th>best</th>", "Note: "):
        assert said in page


@pytest.mark.parametrize("report", [REPORT, ALONE])
def test_the_figure(report, tmp_path):
    figure = synthetic_rows(report)
    assert isinstance(figure, Figure)
    by_column, by_target, by_pair, over_all = figure.axes
    assert [label.get_text() for label in by_column.get_yticklabels()] == ["a <b> with a name that is f…", "height"]
    assert by_column.lines[-1].get_xdata().tolist() == [0.3, 0.1]
    assert len(by_column.lines) == (1 if report is ALONE else 2)
    assert by_pair.lines[-1].get_xdata().tolist() == [0.5]
    assert by_pair.lines[-1].get_ydata().tolist() == [0.25]
    assert len(by_target.lines) == (0 if report is ALONE else 2)
    names = ["discriminator"] if report is ALONE else ["discriminator", "privacy"]
    assert [label.get_text() for label in over_all.get_yticklabels()] == names
    figure.savefig(tmp_path / "f.png")


def test_the_figure_of_many_columns_shows_the_worst():
    many = pd.concat([COLUMNS] * 20).set_axis([f"column {i}" for i in range(40)])
    figure = synthetic_rows(dataclasses.replace(REPORT, columns=many, pairs=PAIRS[:0]))
    assert figure.axes[0].get_title() == "Distance of columns, the worst 20 of 40; best: 0"
    assert figure.axes[0].lines[-1].get_xdata().tolist() == [0.3] * 20
