"""Files that impute, sample and interpolate write: as the table is written, but for the gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_vae import data
from pyro_vae.cli import main

N = 120
OPTIONS = ("--latent_dim", "2", "--hidden", "4", "--epochs", "1")
CELLS = {  # two ways to write a value of each column, and what the others look like
    "postcode": (["01234", "89073", "00017"], r"0?\d{4,5}"),
    "price": (["1.50", "12.00", "3.250", "7", "1e1"], r"-?\d+(\.\d+)?|1e1"),
    "day": ([f"2024-{m:02}-{d:02}" for m in (1, 2, 3, 10) for d in (5, 17)], r"\d{4}-\d\d-\d\d"),
    "seen": ([f"2024-0{m}-1{d}T0{d}:30" for m in (1, 2, 3) for d in (5, 7)], r"\d{4}-\d\d-\d\dT\d\d:\d\d"),
    "smokes": (["TRUE", "FALSE"], "TRUE|FALSE"),
    "pain": (["none", "mild", "a, b", 'so "so"'], 'none|mild|a, b|so "so"'),
    "clinic": (["007"], "007"),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({name: rng.choice(values, N) for name, (values, _) in CELLS.items()})
    cells = cells.mask(rng.random(cells.shape) < 0.2, "").assign(person=[f"p{i}" for i in range(N)])
    cells.to_csv(folder / "a.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "--data", "a.csv", *OPTIONS, "--out", "run"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(here, monkeypatch):
    monkeypatch.chdir(here)


def words(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.mark.parametrize("extra", [[], ["--split", "test"], ["--draws", "2"]])
def test_cells_of_a_text_file_stay_as_they_are_written_and_gaps_look_like_them(extra):
    assert main(["impute", "run", "--out", "b.csv", *extra]) == 0
    before, after = words("a.csv"), words("b.csv")
    after = after.drop(columns="imputation", errors="ignore")
    before = before.set_index("person").loc[after.person].reset_index()[list(after)]
    assert list(after) == list(words("a.csv"))
    assert len(after) == {"--split": 10, "--draws": 2 * N}.get(extra[0] if extra else "", N)
    assert ((before == after) | (before == "")).all(axis=None)
    for name, (_, pattern) in CELLS.items():
        assert after[name].str.fullmatch(pattern).all(), after[name][~after[name].str.fullmatch(pattern)]


def test_numbers_with_a_zero_in_front_and_the_word_none_are_categories():
    schema = data.load("a.csv").train.schema
    assert schema["postcode"].values == ("00017", "01234", "89073")
    assert "none" in schema["pain"].values
    assert main(["sample", "run", "--n", "50", "--out", "s.csv"]) == 0
    drawn = words("s.csv")
    assert set(drawn.postcode) <= {"01234", "89073", "00017"}
    assert set(drawn.clinic) == {"007"}


def test_the_word_none_among_numbers_is_a_mark_of_missing_values(tmp_path):
    pd.DataFrame({"a": [*map(str, range(90)), *["none"] * 10], "b": range(5, 105)}).to_csv(tmp_path / "c.csv")
    found = data.load(tmp_path / "c.csv")
    assert found.train.schema["a"].missing == ("none",)
    assert int(found.everything.values[:, 0].isnan().sum()) == 10


def test_whole_numbers_that_pandas_wrote_as_real_ones_because_of_gaps_are_whole():
    df = pd.DataFrame({"age": pd.Series(range(20, 80), dtype=float), "weight": np.linspace(50, 90, 60)})
    df.mask(np.random.default_rng(0).random(df.shape) < 0.2).to_csv("ages.csv", index=False)
    assert "20.0" in words("ages.csv").age.tolist()
    assert main(["train", "--data", "ages.csv", *OPTIONS, "--out", "ages"]) == 0
    assert main(["impute", "ages", "--out", "b.csv"]) == 0
    assert words("b.csv").age.str.fullmatch(r"\d+").all()


def test_dates_of_walks_are_written_as_those_of_samples():
    assert main(["interpolate", "run", "--n", "2", "--steps", "3", "--out", "walks.csv"]) == 0
    found = words("walks.csv")
    assert list(found)[:2] == ["walk", "step"]
    assert found.day.str.fullmatch(r"\d{4}-\d\d-\d\d").all()


@pytest.mark.parametrize("draws", ["0", "-1"])
def test_less_than_one_draw_is_refused(capsys, draws):
    assert main(["impute", "run", "--draws", draws, "--out", "b.csv"]) == 2
    assert f"draws must be an integer of at least 1; got {draws}" in capsys.readouterr().err


@pytest.mark.parametrize("index", [pd.RangeIndex(7, 7 + N), pd.Index([f"r{i}" for i in range(N)], name="row")])
def test_a_parquet_file_keeps_its_types_and_its_index(index):
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {
            "a": rng.normal(size=N).astype("float32"),
            "b": pd.Series(rng.integers(0, 40, N)).astype("Int16"),
            "town": pd.Categorical(rng.choice(["Ulm", "Bonn"], N), ["Ulm", "Bonn", "Kiel"]),
            "seen": pd.Timestamp("2024-01-01", tz="Europe/Berlin") + pd.to_timedelta(rng.integers(0, 9999, N), "h"),
        }
    )
    df = df.mask(rng.random(df.shape) < 0.2).assign(whole=rng.integers(0, 9, N)).set_axis(index)
    df.to_parquet("a.parquet")
    assert main(["train", "--data", "a.parquet", *OPTIONS, "--out", f"run-{index[0]}"]) == 0
    assert main(["impute", f"run-{index[0]}", "--out", "b.parquet"]) == 0
    found = pd.read_parquet("b.parquet")
    assert found.notna().all(axis=None)
    assert found.index.equals(df.index)
    assert found.dtypes.equals(df.dtypes)
    pd.testing.assert_frame_equal(found.where(df.notna()).astype(df.dtypes), df)
