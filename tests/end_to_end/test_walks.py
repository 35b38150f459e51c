"""docs/your-data: each page leads from a user's data to a result, in a few commands, and the result is good."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.end_to_end.pages import SOURCE, blocks, walk

PAGES = sorted(path.relative_to(SOURCE).as_posix() for path in (SOURCE / "docs" / "your-data").glob("*.md"))
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")


def numbers(text):
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


@pytest.mark.parametrize("page", PAGES)
def test_a_walk_takes_five_commands_or_fifteen_lines_at_most(page):
    """But for the first block, which makes the data."""
    _, *rest = blocks((SOURCE / page).read_text(encoding="utf-8"))
    commands = [line for language, text in rest if language == "bash" for line in text.splitlines()]
    lines = [line for language, text in rest if language == "python" for line in text.splitlines() if line]
    assert 1 <= len(commands) <= 5
    assert len(commands) + len(lines) <= 15


@pytest.mark.parametrize("page", PAGES)
def test_a_walk_takes_less_than_five_minutes(page):
    assert walk(page).seconds < 300


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_quotes_is_printed(page):
    for line, printed in walk(page).quoted:
        same = [said for said in printed.splitlines() if NUMBER.sub("0", said) == NUMBER.sub("0", line)]
        assert any(numbers(said) == pytest.approx(numbers(line), rel=0.05) for said in same), (line, printed)


def test_samples_of_a_class_are_of_this_class():
    """By a classifier that was trained on other images than the VAE."""
    there = walk("docs/your-data/images.md").names
    assert there["threes"].shape == (200, 64)
    judged = there["judge"].predict(there["threes"])
    assert np.mean(judged == 3) > 0.9
    assert there["judge"].score(there["digits"].data[:900], there["digits"].target[:900]) > 0.9


def test_codes_carry_what_a_classifier_needs():
    there = walk("docs/your-data/arrays.md").names
    assert there["accuracy"] == pytest.approx(0.94, abs=0.03)
    raw = make_pipeline(StandardScaler(), there["LogisticRegression"]())
    accuracy = there["cross_val_score"](raw, there["x"], there["malignant"], cv=there["splits"]).mean()
    assert accuracy == pytest.approx(0.95, abs=0.01)
    assert max(np.mean(there["malignant"]), 1 - np.mean(there["malignant"])) == pytest.approx(0.63, abs=0.005)


def test_cells_of_one_type_lie_together_whatever_their_library_size():
    there = walk("docs/your-data/counts.md").names
    beside_their_like = there["types"] == there["types"][there["neighbour"]]
    size = there["depth"][:, 0]
    assert beside_their_like.mean() > 0.99
    assert beside_their_like[size < np.quantile(size, 0.1)].mean() > 0.97
    assert size.max() / size.min() > 10


def test_normal_rows_are_flagged_at_the_stated_rate():
    there = walk("docs/your-data/anomalies.md").names
    flagged, expected = there["flagged"].sum(), there["expected"]
    assert abs(flagged - expected.mean()) <= 2 * expected.std()
    assert expected.mean() / there["m"] == pytest.approx(0.01, rel=0.03)
    assert expected.std() / there["m"] == pytest.approx(0.003, rel=0.06)


def test_a_filled_table_keeps_what_it_had_and_a_synthetic_one_looks_like_it():
    there = walk("docs/your-data/tables.md").names
    patients, filled, synthetic = there["patients"], there["filled"], there["synthetic"]
    assert there["right"] > 0.5  # the most frequent ward would be right for 0.36
    assert filled.notna().all().all()
    assert list(filled.columns) == list(patients.columns)
    for name in patients:
        known = patients[name].notna()
        assert (filled[name][known] == patients[name][known]).all()
    assert list(synthetic.columns) == [name for name in patients if name != "id"]
    for name in ("ward", "mobility", "smokes"):
        assert set(synthetic[name]) == set(there["complete"][name])
    assert (synthetic.stay > 0).all()
    assert (synthetic.falls == synthetic.falls.round()).all()
    assert synthetic.occupancy.between(0, 1).all()
    # The means of 1,000 synthetic rows are within 0.2 standard deviations of those of the table.
    for name in ("age", "weight", "falls"):
        of = there["complete"][name]
        assert abs(synthetic[name].mean() - of.mean()) < 0.2 * of.std()
    assert synthetic.groupby("mobility").age.mean().idxmax() == "low"
