"""From a file of sparse counts to a run, an evaluation, samples and codes, on the command line."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import sparse

from pyro_vae import average_elbo, data, load
from pyro_vae.cli import main

GENES, TYPES = 20, 3


def cells(n=400, seed=0):
    """Counts of three types of cells, and the types."""
    rng = np.random.default_rng(seed)
    types, shares = rng.integers(0, TYPES, n), rng.dirichlet(np.full(GENES, 0.5), TYPES)
    mean = rng.lognormal(4, 0.5, (n, 1)) * shares[types]
    return rng.poisson(mean * rng.gamma(4, 1 / 4, mean.shape)) + np.eye(GENES, dtype=int)[types], types


def train(out, *options):
    small = ["--epochs", "3", "--hidden", "8", "--latent_dim", "2", "--engine", "pyro"]
    assert main(["train", "--data", "cells.npz", "--out", out, *small, *options]) == 0


def write_cells(path):
    """Write log counts as X, the counts as a layer, and the types."""
    x, types = cells()
    cell_type = pd.Categorical(np.array(["T", "B", "NK"])[types])
    obs = pd.DataFrame({"cell_type": cell_type}, index=[f"cell {i}" for i in range(len(x))])
    var = pd.DataFrame(index=[f"gene {i}" for i in range(GENES)])
    anndata.AnnData(np.log1p(x), obs, var, layers={"counts": sparse.csr_matrix(x)}).write_h5ad(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    sparse.save_npz(folder / "cells.npz", sparse.csc_matrix(cells()[0]))
    write_cells(folder / "cells.h5ad")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train("run")
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_library_size_and_log1p_are_the_default_for_counts(folder):
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert config["likelihood"]["class"] in ("NegativeBinomial", "ZeroInflatedNegativeBinomial")
    assert config["likelihood"]["library"] is True
    assert config["inputs"] == "log1p"
    vae = load(folder / "run")
    assert vae.likelihood.library
    assert vae.posterior.net.log1p
    assert not vae.likelihood.net.log1p


def test_the_run_is_evaluated_on_its_data(folder, capsys):
    assert main(["evaluate", "run", "--importance_particles", "20", "--n", "9", "--samples", "5"]) == 0
    found = json.loads((folder / "run" / "evaluation-test.json").read_text())
    test = data.load("cells.npz").test
    assert found["elbo"]["elbo"] == pytest.approx(average_elbo(load("run"), test, seed=0).elbo)
    assert "nats per row" in capsys.readouterr().out


def test_samples_have_library_sizes_of_the_training_data():
    train("negative", "--likelihood", "negative_binomial")
    assert main(["sample", "negative", "--n", "500", "--mean", "true", "--out", "samples.npy"]) == 0  # sum to them
    totals = np.load("samples.npy").sum(1)
    sizes = data.load("cells.npz").train.matrix.sum(1)
    assert np.isin(totals.round(), sizes).all()
    np.testing.assert_allclose(np.quantile(totals, [0.1, 0.5, 0.9]), np.quantile(sizes, [0.1, 0.5, 0.9]), rtol=0.1)


def test_pictures_of_vectors_are_arrays(folder):
    assert main(["reconstruct", "run", "--n", "5", "--out", "five.npy"]) == 0
    test = data.load("cells.npz").test[:5]
    expected = load("run").reconstruct(test.x(slice(None), torch.float32), *test.context(slice(None), torch.float32))
    np.testing.assert_allclose(np.load("five.npy"), expected, rtol=1e-5)
    assert main(["interpolate", "run", "--n", "2", "--steps", "3", "--out", "paths.npy"]) == 0
    assert np.load("paths.npy").shape == (2, 3, GENES)


def test_the_cross_check_of_the_command_line():
    assert main(["check", "run", "--n", "16", "--only", "trace-elbo,evidence"]) == 0


def test_both_can_be_switched_off():
    train("plain", "--likelihood", "poisson", "--likelihood.library", "false", "--inputs", "x")
    vae = load("plain")
    assert (vae.likelihood.library, vae.posterior.net.log1p) == (False, False)
    assert main(["evaluate", "plain"]) == 0
    assert main(["sample", "plain", "--out", "plain.npy"]) == 0


def test_a_likelihood_without_library_sizes():
    train("words", "--likelihood", "multinomial")
    assert load("words").posterior.net.log1p
    assert main(["evaluate", "words"]) == 0


def test_a_training_goes_on(folder):
    assert main(["train", "--resume", "run", "--epochs", "4"]) == 0
    assert load(folder / "run").likelihood.library


def test_cells_of_anndata_with_their_types(folder, capsys):
    small = ["--epochs", "30", "--hidden", "16", "--latent_dim", "2", "--engine", "pyro", "--likelihood", "poisson"]
    assert main(["train", "--data", "cells.h5ad", "--label", "cell_type", "--out", "cells", *small]) == 0
    assert "the layer 'counts' is read, not X" in capsys.readouterr().out
    described = json.loads((folder / "cells" / "data.json").read_text())
    assert described["columns"] == [f"gene {i}" for i in range(GENES)]
    assert described["class_names"] == ["B", "NK", "T"]
    assert main(["evaluate", "cells"]) == 0
    probe = json.loads((folder / "cells" / "evaluation-test.json").read_text())["probe"]
    assert probe["accuracy"] > 0.8


def test_genes_are_found_by_name_in_other_files(capsys):
    small = ["--epochs", "1", "--hidden", "8", "--likelihood", "poisson", "--engine", "pyro"]
    assert main(["train", "--data", "cells.h5ad", "--out", "genes", *small]) == 0
    found = anndata.read_h5ad("cells.h5ad")
    found.X = found.layers.pop("counts")
    found[:, ::-1].write_h5ad("backwards.h5ad")
    found[:, 1:].write_h5ad("fewer.h5ad")
    capsys.readouterr()
    assert main(["evaluate", "genes"]) == main(["evaluate", "genes", "--data", "backwards.h5ad"]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("test elbo"))
    assert first == second
    assert main(["evaluate", "genes", "--data", "fewer.h5ad"]) != 0
    assert "needs the columns that it was trained on; " in (said := capsys.readouterr().err)
    assert "fewer.h5ad has no column 'gene 0'" in said


def test_cells_with_their_types_as_context():
    """Each type in turn, with library sizes of the training data."""
    small = ["--epochs", "2", "--hidden", "8", "--engine", "pyro", "--likelihood", "poisson"]
    assert (
        main(["train", "--data", "cells.h5ad", "--label", "cell_type", "--labels", "true", "--out", "typed", *small])
        == 0
    )
    assert main(["evaluate", "typed"]) == 0
    assert main(["sample", "typed", "--n", "6", "--out", "six.npy"]) == 0
    assert np.load("six.npy").shape == (6, GENES)
    assert main(["check", "typed", "--n", "8", "--only", "trace-elbo"]) == 0


def test_rows_without_counts(capsys):
    x = cells()[0]
    x[5] = 0
    sparse.save_npz("empty.npz", sparse.csr_array(x))
    assert main(["train", "--data", "empty.npz", "--out", "none", "--epochs", "1", "--hidden", "8"]) != 0
    assert "1 of " in (said := capsys.readouterr().err)
    assert "skip_bad leaves them out" in said
    assert (
        main(["train", "--data", "empty.npz", "--out", "some", "--epochs", "1", "--hidden", "8", "--skip_bad", "true"])
        == 0
    )
    assert "1 row is left out, which has no counts: 5" in capsys.readouterr().out


def test_values_that_are_no_counts(capsys):
    sparse.save_npz("logs.npz", sparse.csr_array(np.log1p(cells()[0])))
    assert main(["train", "--data", "logs.npz", "--out", "never"]) != 0
    assert "must hold counts, whole numbers from 0" in capsys.readouterr().err
