"""The command line on tables: from a file with gaps to a run, its evaluation and its cross-check."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from pyro_vae import average_elbo, data, load
from pyro_vae.cli import main
from pyro_vae.data import Schema

QUICK = ["--hidden", "[8]", "--latent_dim", "2", "--epochs", "2"]


def make_table(n: int = 400) -> pd.DataFrame:
    """Columns of all kinds, a fifth of their values missing, and a name for each row."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 2))
    df = pd.DataFrame(
        {
            "height": 170 + 10 * z[:, 0] + rng.normal(size=n),
            "income": np.exp(8 + z[:, 1]),
            "visits": rng.poisson(np.exp(1 + 0.5 * z[:, 0])).astype(float),
            "smokes": (z[:, 1] > 0).astype(float),
            "sex": rng.integers(1, 3, n).astype(float),
            "share": 1 / (1 + np.exp(-z.sum(1))),
        }
    )
    df = df.mask(rng.random(df.shape) < 0.2)
    return df.assign(town=np.where(z[:, 0] > 0, "Ulm", "Bonn"), version=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of columns of different kinds and one of real numbers, and a run on each."""
    folder = tmp_path_factory.mktemp("tables")
    table = make_table()
    table.to_csv(folder / "mixed.csv", index=False)
    table[["height", "town"]].assign(weight=table.income.pow(0.1)).to_csv(folder / "real.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *QUICK, "--data", "mixed.csv", "--out", "mixed"]) == 0
        assert main(["train", *QUICK, "--data", "real.csv", "--label", "town", "--out", "real"]) == 0
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_train_says_what_it_chose_and_nothing_that_it_did_itself(here, capsys):
    assert main(["train", *QUICK, "--data", "mixed.csv", "--out", "again"]) == 0
    out = capsys.readouterr().out
    assert "note       1 of 8 columns is left out: 'version' is always 7" in out
    assert "likelihood Mixed(Normal for height; Normal of the logarithm for income; NegativeBinomial for visits;" in out
    assert not re.search("missing=True|[Ss]tandardise |Recode|First|better in the file", out)
    assert re.search(r"mixed.csv: \d+ rows of 7 to train on, real numbers, some missing", out)


def test_a_run_keeps_the_schema_of_its_table(here):
    found = json.loads((here / "mixed/data.json").read_text())
    train = data.load("mixed.csv").train.values
    columns = ["height", "income", "visits", "smokes", "sex", "share", "town"]
    assert found["columns"] == columns
    schema = Schema.read(here / "mixed/schema.yaml")
    assert [column.kind for column in schema.data] == [
        *("real", "positive", "count", "binary", "binary", "proportion", "binary")
    ]
    assert schema["sex"].values == (1, 2)
    assert (schema["height"].loc, schema["height"].scale) == pytest.approx(
        (train[:, 0].nanmean().item(), np.nanstd(train[:, 0]))
    )
    assert schema["income"].loc == pytest.approx(train[:, 1].log().nanmean().item())
    assert load(here / "mixed").schema == schema
    config = yaml.safe_load((here / "mixed/config.yaml").read_text())
    assert list(config["likelihood"]["columns"]) == columns
    assert config["missing"] is True


@pytest.mark.parametrize("run", ["mixed", "real"])
def test_evaluate_prints_what_python_computes(here, capsys, run):
    assert main(["evaluate", run, "--importance_particles", "5", "--n", "6", "--against", f"{run}.csv"]) == 0
    out = capsys.readouterr().out
    test = data.load(f"{run}.csv", label="town" if run == "real" else None).test
    found = average_elbo(load(run), test.values.float())
    assert f"test elbo {found.elbo:.2f} ± {found.standard_error:.2f} nats per row" in out
    assert ("labels from codes by a linear classifier" in out) == (run == "real")
    assert json.loads((here / run / "evaluation-test.json").read_text())["elbo"]["elbo"] == pytest.approx(found.elbo)


def test_check_passes(here, capsys):
    assert main(["check", "mixed", "--n", "4", "--only", "shapes,supports,data,trace-elbo"]) == 0
    assert "4 passed" in capsys.readouterr().out


def test_compare_resume_and_config_work_on_tables(here, capsys):
    assert main(["compare", "mixed", "real"]) == 0
    heading, mixed, _ = capsys.readouterr().out.splitlines()[:3]
    assert heading.count("likelihood.columns") == 1
    assert "2 Standardized, 1 NegativeBinomial, 3 Bernoulli, 1 LogitNormal" in mixed
    assert main(["train", "--config", "mixed/config.yaml", "--out", "repeated"]) == 0
    assert (here / "mixed/weights.safetensors").read_bytes() == (here / "repeated/weights.safetensors").read_bytes()
    assert main(["train", "--resume", "repeated", "--epochs", "3"]) == 0


def test_samples_of_a_table_are_judged_beside_held_out_rows(here, capsys):
    assert main(["evaluate", "mixed", "--samples", "60", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "60 synthetic rows, compared with" in out
    assert "exact copies of training rows" in out
    assert (here / "mixed/figures/synthetic.png").is_file()
    written = json.loads((here / "mixed/evaluation-test.json").read_text())["synthetic"]
    assert written["samples"] == 60
    assert 0 < written["discriminator"]["synthetic"] <= 1
    assert written["discriminator"]["training"] is None
    assert written["gaps"]["synthetic"] > 0, "samples get gaps, as the rows have"
    assert f"{written['columns']['synthetic']:.3f}" in out


def test_a_run_with_labels_as_context_gives_them_to_its_samples(here, capsys):
    table = pd.read_csv("real.csv").assign(day=pd.Timestamp("2024-03-01"))
    table["day"] += pd.to_timedelta(np.arange(len(table)) % 50, "D")
    table.to_csv("dated.csv", index=False)
    options = ["--label", "town", "--labels", "true", "--out", "given"]
    assert main(["train", *QUICK, "--data", "dated.csv", *options]) == 0
    assert main(["sample", "given", "--n", "6", "--out", "six.csv"]) == 0
    assert pd.read_csv("six.csv").town.tolist() == ["Bonn", "Ulm"] * 3
    capsys.readouterr()
    assert main(["evaluate", "given", "--samples", "60"]) == 0
    assert "60 synthetic rows" in capsys.readouterr().out
    assert main(["interpolate", "given", "--n", "1", "--out", "walk.csv"]) == 0
    assert pd.read_csv("walk.csv").day.str.fullmatch(r"\d{4}-\d\d-\d\d").all()


def test_suggest_says_how_to_train_with_the_schema_that_it_wrote(here, capsys):
    assert main(["suggest", "mixed.csv", "--out", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert "written to mine.yaml" in out
    assert "pyro-vae train --data mixed.csv --schema mine.yaml takes it" in out


def test_scores_say_of_which_rows_they_are(here):
    assert main(["score", "real", "--out", "scores.csv"]) == 0
    assert main(["encode", "real", "--split", "test", "--out", "codes.csv"]) == 0
    assert main(["encode", "real", "--out", "all.csv"]) == 0
    places = pd.read_csv("scores.csv").row
    codes, every = pd.read_csv("codes.csv"), pd.read_csv("all.csv")
    assert codes.row.tolist() == places.tolist()
    assert "row" not in every
    pd.testing.assert_series_equal(codes.z0, every.z0.iloc[places], check_index=False, rtol=1e-5)


def test_training_does_not_go_on_with_another_table(here, capsys):
    pd.read_csv("real.csv").drop(columns="weight").to_csv("lighter.csv", index=False)
    assert main(["train", "--resume", "real", "--data", "lighter.csv", "--epochs", "3"]) == 2
    assert "real needs the columns that it was trained on; " in capsys.readouterr().err
    assert main(["train", "--resume", "real", "--data", "digits", "--epochs", "3"]) == 2
    assert "real was trained on a table; digits holds images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--samples", "5"],
            "samples must be an integer of at least 10, to compare them with the rows of a table; got 5",
        ),
        (["--samples", "50", "--split", "train"], "samples need held-out examples of the run's own data"),
    ],
)
def test_samples_that_cannot_be_judged(options, message, here, capsys):
    assert main(["evaluate", "mixed", *options]) == 2
    out, err = capsys.readouterr()
    assert message in " ".join(err.split())
    assert not out, "before anything long"


def test_a_run_finds_its_columns_in_another_table(here, capsys):
    assert main(["evaluate", "real"]) == 0
    before = re.search("test elbo.*", capsys.readouterr().out)[0]
    table = pd.read_csv("real.csv")
    extra = table.assign(more=range(len(table)), name="x")[["weight", "more", "name", "height"]]  # and no labels
    extra.to_csv("extra.csv", index=False)
    assert main(["evaluate", "real", "--data", "extra.csv", "--split", "test"]) == 0
    assert before == re.search("test elbo.*", capsys.readouterr().out)[0]
    table.drop(columns="weight").to_csv("less.csv", index=False)
    assert main(["evaluate", "real", "--data", "less.csv"]) == 2
    said = "real needs the columns that it was trained on; less.csv has no column 'weight'. Did you mean 'height'?"
    assert said in capsys.readouterr().err


def test_a_run_with_labels_as_context_refuses_other_classes(here, capsys):
    options = ["--label", "town", "--labels", "true", "--out", "labels"]
    assert main(["train", *QUICK, "--data", "real.csv", *options]) == 0
    table = pd.read_csv("real.csv")
    table.replace({"town": {"Ulm": "Rom"}}).to_csv("rome.csv", index=False)
    assert main(["evaluate", "labels", "--data", "rome.csv"]) == 2
    assert "rome.csv has labels that the training data lack: Rom. They have Bonn, Ulm" in capsys.readouterr().err
    table.drop(columns="town").to_csv("none.csv", index=False)
    assert main(["evaluate", "labels", "--data", "none.csv"]) == 2
    assert "labels takes the labels 'town' beside x; none.csv has no column 'town'" in capsys.readouterr().err


def test_a_likelihood_of_ones_own_goes_by_the_names_of_the_columns(here, capsys):
    likelihood = ["--likelihood", '{"class": "Mixed", "columns": {"weight": "Normal", "height": "StudentT"}}']
    options = ["train", *QUICK, "--data", "real.csv", "--label", "town"]
    assert main([*options, *likelihood, "--out", "own"]) == 0
    found = yaml.safe_load((here / "own/config.yaml").read_text())["likelihood"]["columns"]
    assert {name: spec["likelihood"] for name, spec in found.items()} == {"height": "StudentT", "weight": "Normal"}
    assert list(found) == ["height", "weight"]
    capsys.readouterr()
    likelihood[1] = '{"class": "Mixed", "columns": {"wieght": "Normal", "height": "StudentT"}}'
    assert main([*options, *likelihood, "--out", "own2"]) == 2
    assert "likelihood.columns must name the columns of the table; it lacks 'weight'" in capsys.readouterr().err


def test_columns_and_groups_are_options(here, capsys):
    options = ["--columns", "visits,height", "--standardize", "false", "--split", "0.6,0.2,0.2"]
    assert main(["train", *QUICK, "--data", "mixed.csv", *options, "--out", "two"]) == 0
    assert json.loads((here / "two/data.json").read_text())["columns"] == ["visits", "height"]
    height = Schema.read(here / "two/schema.yaml")["height"]
    assert (height.loc, height.scale) == (0, 1)
    assert main(["train", "--data", "mixed.csv", "--label", "twon", "--out", "three"]) == 2
    assert re.search(r"label: \S*mixed.csv has no column 'twon'. Did you mean 'town'\?", capsys.readouterr().err)


def test_what_comes_out_is_in_the_units_of_the_table(here, capsys):
    assert main(["sample", "mixed", "--n", "50", "--out", "rows.csv"]) == 0
    rows = pd.read_csv("rows.csv")
    assert set(rows.sex) == {1, 2}
    assert set(rows.smokes) == {0, 1}
    assert 140 < rows.height.mean() < 200
    assert main(["impute", "mixed", "mixed.csv", "--out", "whole.csv"]) == 0
    before, after = pd.read_csv("mixed.csv"), pd.read_csv("whole.csv")
    assert not after.isna().any().any()
    known = before[after.columns].notna()
    pd.testing.assert_frame_equal(after.where(known), before[after.columns])
    assert after.sex.between(1, 2).all()


def test_a_likelihood_that_standardises_by_itself_gets_the_numbers_as_they_are(here, capsys):
    columns = {"weight": {"class": "Standardized", "loc": 2.3, "scale": 0.2}, "height": "Normal"}
    likelihood = ["--likelihood", json.dumps({"class": "Mixed", "columns": columns})]
    options = ["train", *QUICK, "--data", "real.csv", "--label", "town"]
    assert main([*options, *likelihood, "--out", "by_itself"]) == 0
    found = yaml.safe_load((here / "by_itself/config.yaml").read_text())["likelihood"]["columns"]
    assert found["weight"] == columns["weight"]
    assert found["height"]["loc"] == pytest.approx(pd.read_csv("real.csv").height.mean(), rel=0.01)
