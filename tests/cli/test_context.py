"""The command line on tables with context columns and labels, as the schema says."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from pyro_vae.cli import main
from pyro_vae.data import Schema
from tests.vae.test_table_context import CONTEXT, make_doses

QUICK = ["--hidden", "[8]", "--latent_dim", "2", "--epochs", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on doses.csv, whose schema gives three columns the role context and one the role label."""
    folder = tmp_path_factory.mktemp("context")
    df = make_doses(200).assign(group=["u", "v"] * 100)
    df.to_csv(folder / "doses.csv", index=False)
    df[CONTEXT].head(6).to_csv(folder / "context.csv", index=False)
    df.drop(columns="group").to_csv(folder / "unlabelled.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["suggest", "doses.csv", "--out", "schema.yaml"]) == 0
        found = yaml.safe_load((folder / "schema.yaml").read_text())
        for name in CONTEXT:
            found["columns"][name]["role"] = "context"
        found["columns"]["group"]["role"] = "label"
        (folder / "schema.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
        assert main(["train", *QUICK, "--data", "doses.csv", "--schema", "schema.yaml", "--out", "run"]) == 0
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_the_run_keeps_the_roles(here):
    schema = Schema.read(here / "run" / "schema.yaml")
    assert [column.name for column in schema.context] == CONTEXT
    assert (schema.names, schema.label) == (("a", "b", "c"), "group")
    assert yaml.safe_load((here / "run" / "config.yaml").read_text())["shapes"]["context"] == 5


def test_samples_have_the_context_that_they_were_given(here, capsys):
    assert main(["sample", "run", "--context", "context.csv", "--out", "given.csv"]) == 0
    given, context = pd.read_csv("given.csv"), pd.read_csv("context.csv")
    pd.testing.assert_frame_equal(given[CONTEXT], context)
    assert list(given) == ["sex", "a", "dose", "b", "town", "c"]
    assert main(["sample", "run", "--n", "50", "--out", "drawn.csv"]) == 0
    drawn, rows = pd.read_csv("drawn.csv"), pd.read_csv("doses.csv")
    assert (
        len(drawn.merge(rows[CONTEXT].drop_duplicates(), on=["sex", "town"]).query("abs(dose_x - dose_y) < 1e-3")) == 50
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--context", "nowhere.csv"], "--context: there is no file nowhere.csv"),
        (["--context", "run"], "--context must be a table (.csv"),
        (
            ["--context", "context.csv", "--n", "3"],
            "context.csv has 6 rows, one for each sample; got n = 3. Leave n out",
        ),
        (["--context", "short.csv"], "--context: short.csv lacks the columns 'dose', 'town'"),
    ],
)
def test_wrong_contexts_are_refused(here, capsys, options, message):
    pd.read_csv("context.csv")[["sex"]].to_csv("short.csv", index=False)
    assert main(["sample", "run", *options]) == 2
    assert message in capsys.readouterr().err


def test_other_commands_take_the_context_from_the_table(here, capsys):
    for command in ("encode", "impute", "reconstruct"):
        assert main([command, "run", "--out", f"{command}.csv"]) == 0
    assert main(["evaluate", "run", "--samples", "100"]) == 0
    assert main(["plot", "run"]) == 0
    assert list(pd.read_csv("encode.csv").label[:2]) == ["u", "v"]
    assert list(pd.read_csv("impute.csv")) == list(pd.read_csv("doses.csv"))
    assert main(["impute", "run", "--data", "unlabelled.csv", "--out", "other.csv"]) == 0
    assert pd.read_csv("other.csv").a.notna().all()


def test_a_table_without_the_context_is_refused(here, capsys):
    pd.read_csv("doses.csv").drop(columns="dose").to_csv("without.csv", index=False)
    assert main(["encode", "run", "--data", "without.csv", "--out", "never.csv"]) == 2
    assert "has no column 'dose'" in capsys.readouterr().err
