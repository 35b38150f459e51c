"""Files of AnnData: the counts, labels and genes that anndata itself reads, and damage by what the error says."""

from __future__ import annotations

import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from pyro_vae import data
from pyro_vae.data import BadDataError, Counts, DamagedDataError, NoColumnError, cell_files

CELLS, GENES = 300, 8
TYPES = np.array(["T", "B", "NK"])


def counts(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.poisson(rng.gamma(0.4, 5, (CELLS, GENES))).astype(np.float32)
    x[:, 0] = np.arange(CELLS)  # tells the cells apart
    x[0, 0] = 1
    return x


def obs():
    return pd.DataFrame(
        {
            "cell_type": pd.Categorical(TYPES[np.arange(CELLS) % 3]),
            "donor": [f"donor {i}" for i in np.arange(CELLS) // 10],
            "batch": np.arange(CELLS) % 2,
            "gap": pd.Categorical([None, *TYPES[np.arange(1, CELLS) % 3]]),
        },
        index=[f"cell {i}" for i in range(CELLS)],
    )


def write(path, x, compression="gzip", layers=None, **more):
    var = pd.DataFrame(index=[f"gene {i}" for i in range(GENES)])
    anndata.AnnData(X=x, obs=obs(), var=var, layers=layers or {}, **more).write_h5ad(path, compression=compression)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cells.h5ad"


FORMS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "csr_array": sparse.csr_array, "dense": np.asarray}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_x_is_the_counts_in_any_form(path, form, dtype):
    write(path, FORMS[form](counts().astype(dtype)))
    found = data.load(path).everything
    assert isinstance(found, Counts)
    assert found.columns == tuple(f"gene {i}" for i in range(GENES))
    x = found.x(slice(None), torch.float64).numpy()
    np.testing.assert_array_equal(x[np.lexsort(x.T)], counts()[np.lexsort(counts().T)])


def test_the_same_rows_as_in_a_file_of_scipys_in_the_same_splits(path, tmp_path):
    sparse.save_npz(tmp_path / "cells.npz", sparse.csr_matrix(counts()))
    here, there = data.load(write(path, sparse.csc_matrix(counts()))), data.load(tmp_path / "cells.npz")
    for name in ("train", "valid", "test"):
        assert getattr(here, name).fingerprint() == getattr(there, name).fingerprint()


def test_a_dense_x_is_read_in_pieces(path, monkeypatch):
    monkeypatch.setattr(cell_files, "_AT_ONCE", 7 * GENES)
    write(path, counts())
    found = data.load(path).everything
    assert len(found) == CELLS
    assert int(found.matrix.sum()) == int(counts().sum())


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_the_layer_counts_is_read_if_x_holds_none_and_a_note_says_so(path, form):
    write(path, FORMS[form](np.log1p(counts())), layers={"scaled": counts() / 7, "counts": sparse.csr_matrix(counts())})
    found = data.load(path)
    (note,) = found.notes
    assert note.startswith(
        f"{path}: the layer 'counts' is read, not X: {path}: X must hold counts, whole numbers from 0"
    )
    assert int(found.everything.matrix.sum()) == int(counts().sum())


def test_the_layer_counts_is_read_if_there_is_no_x(path):
    write(path, None, layers={"counts": sparse.csr_matrix(counts())})
    found = data.load(path)
    assert found.notes == (f"{path}: the layer 'counts' is read, not X: {path} has no X",)


def test_without_counts_the_error_says_what_there_is(path):
    write(path, np.log1p(counts()), layers={"raw_counts": counts(), "scaled": counts() / 7})
    with pytest.raises(
        BadDataError, match=r"row 0, column 0 \('gene 0'\) has 0.693147. .*There is no layer 'counts'"
    ) as e:
        data.load(path)
    assert "its layers are 'raw_counts', 'scaled'. If one holds the counts" in str(e.value)
    write(path, np.log1p(counts()), layers={"counts": np.log1p(counts())})
    with pytest.raises(BadDataError, match="layers/counts must hold counts"):
        data.load(path)


@pytest.mark.parametrize("labels", [False, True])
def test_labels_and_groups_are_columns_of_obs(path, labels):
    found = data.load(write(path, sparse.csr_matrix(counts())), label="cell_type", group="donor", labels=labels)
    assert found.train.class_names == ("B", "NK", "T")
    donors = {}
    for name in ("train", "valid", "test"):
        split = getattr(found, name)
        cells = split.x(slice(None), torch.float64)[:, 0].numpy().astype(int)
        cells[cells == 1] = np.where(split.labels[cells == 1] == 2, 0, 1)  # the first two both have 1 there
        names = [split.class_names[k] for k in split.labels]
        assert names == list(TYPES[cells % 3])
        donors[name] = set(cells // 10)
        assert len(split.context(slice(None), torch.float32)) == 1 + labels
    assert not donors["train"] & donors["valid"]
    assert not donors["train"] & donors["test"]
    assert not donors["valid"] & donors["test"]


@pytest.mark.parametrize(("label", "names"), [("batch", ()), ("cell_type", ("B", "NK", "T"))])
def test_labels_that_are_their_numbers_have_no_names(path, label, names):
    found = data.load(write(path, counts()), label=label).train
    assert found.class_names == names


def test_a_label_that_is_missing_or_has_a_gap_is_named(path):
    write(path, counts())
    with pytest.raises(NoColumnError, match="label: .*obs has no column 'celltype'. Did you mean 'cell_type'?"):
        data.load(path, label="celltype")
    with pytest.raises(BadDataError, match="label 'gap' is empty in 1 of 300 rows"):
        data.load(path, label="gap")
    with pytest.raises(NoColumnError, match="group: .*obs has no column '_index'"):
        data.load(path, group="_index")


@pytest.mark.parametrize("columns", ["gene 5, gene 0", ["gene 5", "gene 0"]])
def test_genes_are_chosen_by_name(path, columns):
    found = data.load(write(path, sparse.csr_matrix(counts())), columns=columns, skip_bad=True).everything
    assert found.columns == ("gene 5", "gene 0")
    x, expected = found.x(slice(None), torch.float64).numpy(), counts()[:, [5, 0]]
    np.testing.assert_array_equal(x[np.lexsort(x.T)], expected[np.lexsort(expected.T)])


def test_genes_that_are_not_there_or_twice(path):
    write(path, sparse.csr_matrix(counts()))
    with pytest.raises(NoColumnError, match="columns: .*cells.h5ad has no column 'gene 9'. Did you mean"):
        data.load(path, columns="gene 9")
    with h5py.File(path, "a") as file:
        names = file["var/_index"][()]
        names[3] = names[2]
        file["var/_index"][...] = names
    with pytest.raises(ValueError, match="columns cannot be chosen by name, since two are named 'gene 2'"):
        data.load(path, columns="gene 0")
    assert data.load(path).train.columns[2:4] == ("gene 2", "gene 2")


def test_cells_without_counts_are_left_out_if_asked(path):
    x = counts()
    x[[4, 33]] = 0
    found = data.load(write(path, x), label="cell_type", group="donor", skip_bad=True)
    assert found.notes == (f"{path}: 2 rows are left out, which have no counts: 4, 33 (counted from 0)",)
    assert len(found.everything) == CELLS - 2
    rows = found.everything
    expected = np.delete(np.arange(CELLS) % 3, [4, 33])
    np.testing.assert_array_equal(np.bincount(rows.labels), np.bincount(expected)[[1, 2, 0]])


def test_an_option_of_tables_is_refused(path):
    with pytest.raises(ValueError, match="delimiter is for text files; .*cells.h5ad holds counts of cells"):
        data.load(write(path, counts()), delimiter=";")


# Files from strangers.


def test_links_are_not_followed(path, tmp_path):
    write(tmp_path / "other.h5ad", sparse.csr_matrix(counts()))
    for name in ("X", "obs", "var", "layers", "X/data", "obs/cell_type"):
        write(path, sparse.csr_matrix(counts()))
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = h5py.ExternalLink(str(tmp_path / "other.h5ad"), f"/{name}")
        with pytest.raises(BadDataError, match=f"'{name}' is a link, which is not followed"):
            data.load(path, label="cell_type")


def test_numbers_in_other_files_are_not_read(path, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(8 * GENES * CELLS))
    write(path, sparse.csr_matrix(counts()))
    with h5py.File(path, "a") as file:
        del file["X"]
        outside = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        made = file.create_dataset("X", (CELLS, GENES), "i8", external=outside)
        made.attrs["encoding-type"], made.attrs["encoding-version"] = "array", "0.2.0"
    with pytest.raises(BadDataError, match="'X' has its numbers in other files, which are not read"):
        data.load(path)


@pytest.mark.parametrize("name", ["X/data", "X/indices"])
def test_sizes_are_not_believed(path, name):
    write(path, sparse.csr_matrix(counts()))
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, (2**33,), "i4", chunks=(2**16,))
    with pytest.raises(BadDataError, match=f"'{name}' claims .* bytes, and the file has 0 of it"):
        data.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["X"].attrs.update(shape=(CELLS, 10**12)), "X has 1,000,000,000,000 columns, and var has 8 genes"),
        (lambda f: f["X"].attrs.update(shape=(10**12, GENES)), "index pointer|cannot be read"),
        (lambda f: f["X/indices"].write_direct(np.full(f["X/indices"].shape, 10**6, "i4")), "no valid sparse matrix"),
        (lambda f: f.__delitem__("X/indptr"), "cannot be read"),
        (lambda f: f.__delitem__("var"), "has no table var as anndata has written it since version 0.7"),
        (lambda f: f["var"].attrs.update(_index="nothing"), "cells.h5ad"),
        (lambda f: f["X"].attrs.update({"encoding-type": "evil"}), "cannot be read"),
        (lambda f: f["obs/cell_type/codes"].resize((5,)), "cells.h5ad"),
    ],
)
def test_a_damaged_file_is_named(path, change, message):
    write(path, sparse.csr_matrix(counts()))
    with h5py.File(path, "a") as file:
        codes = file["obs/cell_type/codes"][()]
        attributes = dict(file["obs/cell_type/codes"].attrs)
        del file["obs/cell_type/codes"]
        file.create_dataset("obs/cell_type/codes", data=codes, maxshape=(None,)).attrs.update(attributes)
        change(file)
    with pytest.raises((BadDataError, DamagedDataError), match=message):
        data.load(path, label="cell_type")


def test_what_is_no_hdf5(path):
    path.write_bytes(b"no" * 1000)
    with pytest.raises(DamagedDataError, match="cells.h5ad cannot be read"):
        data.load(path)
    whole = write(path, sparse.csr_matrix(counts())).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedDataError, match="cells.h5ad cannot be read"):
        data.load(path)


def test_without_anndata_the_error_says_how_to_install_it(path, monkeypatch):
    write(path, counts())
    monkeypatch.setitem(sys.modules, "anndata.io", None)
    with pytest.raises(ImportError, match="pip install 'pyro-vae\\[anndata\\]'"):
        data.load(path)
