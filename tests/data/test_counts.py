"""Counts: sparse in memory, the same numbers from any representation, and bad ones named."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_vae import average_elbo, build, data, fit, suggest
from pyro_vae.data import BadDataError, Counts, DamagedDataError
from pyro_vae.data.description import Description

FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
DTYPES = (np.int8, np.uint8, np.uint16, np.int64, np.uint64, np.float32, np.float64)


def cells(n=60, genes=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.poisson(rng.gamma(0.3, 6, (n, genes)))
    x[:, 0] += 1  # no empty rows
    return x


def scrambled(x):
    """The same matrix with explicit zeros and with columns in falling order."""
    rows, columns = np.indices(x.shape)
    order = np.argsort(-columns.ravel(), kind="stable")
    order = order[np.argsort(rows.ravel()[order], kind="stable")]
    values, at = x.ravel()[order], columns.ravel()[order]
    return sparse.csr_matrix((values, at, np.arange(len(x) + 1) * x.shape[1]), shape=x.shape)


def doubled(x):
    """The same matrix with each count in two entries."""
    rows, columns = np.nonzero(x)
    values = x[rows, columns]
    first = values // 2
    twice = (np.concatenate([first, values - first]), (np.tile(rows, 2), np.tile(columns, 2)))
    return sparse.coo_array(twice, shape=x.shape)


# The same numbers.


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_format_and_dtype_gives_the_same_numbers(form, dtype):
    x = cells().astype(dtype)
    counts = Counts(sparse.csr_array(x).asformat(form))
    np.testing.assert_array_equal(counts.x(slice(None), torch.float64).numpy(), x)
    assert counts.fingerprint() == Counts(x).fingerprint()


@pytest.mark.parametrize("make", [scrambled, doubled, torch.from_numpy, sparse.csc_matrix])
def test_zeros_order_and_duplicates_do_not_matter(make):
    x = cells()
    matrix = make(x)
    counts = Counts(matrix)
    np.testing.assert_array_equal(counts.x(slice(None), torch.float64).numpy(), x)
    assert counts.fingerprint() == Counts(x).fingerprint()
    assert list(counts.keys()) == list(Counts(x).keys())


def test_the_callers_matrix_stays_as_it_is():
    matrix = scrambled(cells())
    before = [part.copy() for part in (matrix.data, matrix.indices, matrix.indptr)]
    Counts(matrix)
    for part, kept in zip((matrix.data, matrix.indices, matrix.indptr), before, strict=True):
        np.testing.assert_array_equal(part, kept)


def test_bools_are_0_and_1_also_twice():
    """As in SciPy, where True and True are True."""
    matrix = sparse.coo_matrix((np.array([True, True, True]), ([0, 0, 1], [1, 1, 2])), shape=(2, 3))
    assert Counts(matrix).x(slice(None), torch.float32).tolist() == matrix.toarray().astype(float).tolist()


def test_duplicates_of_small_integers_do_not_overflow():
    matrix = sparse.coo_matrix((np.full(3, 100, np.int8), ([0, 0, 0], [1, 1, 1])), shape=(1, 2))
    assert Counts(matrix).x(slice(None), torch.float32).tolist() == [[0, 300]]


def test_the_fingerprint_sees_each_value_place_label_and_shape():
    x = cells()
    other, moved, wider = x.copy(), np.roll(x, 1, 1), np.pad(x, ((0, 0), (0, 1)))
    other[3, 4] += 1
    labels = torch.zeros(60, dtype=torch.int64)
    prints = {Counts(c).fingerprint() for c in (x, other, moved, wider, x[:-1], x[::-1])}
    prints |= {Counts(x, labels).fingerprint(), Counts(x, labels + torch.eye(60, dtype=torch.int64)[5]).fingerprint()}
    assert len(prints) == 8


@pytest.mark.parametrize("rows", [slice(3, 9), slice(None, None, 7), torch.tensor([5, 5, 0, 59]), slice(0, 0)])
def test_rows_by_slice_and_index(rows):
    x, labels = cells(), torch.arange(60) % 3
    counts = Counts(x, labels, 3, with_labels=True)
    at = rows if isinstance(rows, slice) else rows.numpy()
    np.testing.assert_array_equal(counts.x(rows, torch.float32), x[at])
    one_hot, log_library = counts.context(rows, torch.float64)
    np.testing.assert_allclose(log_library[:, 0], np.log(x[at].sum(1)))
    np.testing.assert_array_equal(one_hot, np.eye(3)[labels[at]])
    some = counts[rows]
    np.testing.assert_array_equal(some.x(slice(None), torch.float32), x[at])
    assert torch.equal(some.labels, labels[rows])


def test_splits_put_together_are_the_whole():
    counts = Counts(cells(), torch.arange(60) % 3, 3)
    both = counts[:20].followed_by(counts[20:])
    assert both.fingerprint() == counts.fingerprint()


def test_batches_end_with_the_log_library_size():
    x = cells()
    counts = Counts(x, torch.arange(60) % 3, 3, with_labels=True)
    seen = list(data.batches(counts, 16, shuffle=True, seed=1, dtype=torch.float64))
    assert [len(batch) for batch in seen] == [3] * 4
    for batch, labels, log_library in seen:
        assert labels.shape[1] == 3
        torch.testing.assert_close(log_library.exp(), batch.sum(-1, keepdim=True))
    rows = torch.cat([batch[0] for batch in seen]).numpy()
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], x[np.lexsort(x.T)])
    without = next(iter(data.batches(Counts(x, library=False), 16)))
    assert len(without) == 1


def test_it_says_what_it_is():
    counts = Counts(cells(), columns=tuple(f"gene {i}" for i in range(12)), name="cells.npz")
    assert repr(counts).startswith("Counts(cells.npz: 60 rows; x (12,), counts up to ")
    assert not counts.has_missing
    assert repr(counts[:1]).startswith("Counts(cells.npz: 1 row; ")


# Memory.


def test_no_more_than_a_batch_is_ever_dense(monkeypatch, tmp_path):
    """3,000 x 2,000 at 2 % are 1.4 MB as they are and 48 MB dense."""
    sizes = []
    toarray = sparse.csr_array.toarray
    monkeypatch.setattr(
        sparse.csr_array, "toarray", lambda m, *a, **k: sizes.append(m.shape[0] * m.shape[1]) or toarray(m, *a, **k)
    )
    rng = np.random.default_rng(0)
    at = (rng.integers(0, 3000, 120_000), rng.integers(0, 2000, 120_000))
    sparse.save_npz(tmp_path / "cells.npz", sparse.coo_array((1 + rng.poisson(2, 120_000), at), shape=(3000, 2000)))
    tracemalloc.start()
    counts = data.load(tmp_path / "cells.npz")
    counts.train.fingerprint()
    suggest(counts)
    Description.of(counts.train_and_valid)
    for _ in data.batches(counts.train, 64, shuffle=True):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert max(sizes) == 64 * 2000


# Files.


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_a_file_of_scipys_is_told_from_one_of_numpys(tmp_path, form, kind):
    x = cells(400)
    sparse.save_npz(tmp_path / "cells.npz", getattr(sparse, f"csr_{kind}")(x).asformat(form))
    np.savez(tmp_path / "arrays.npz", x=x)
    counts, arrays = data.load(tmp_path / "cells.npz"), data.load(tmp_path / "arrays.npz")
    assert isinstance(counts.train, Counts)
    assert isinstance(arrays.train, data.Rows)
    rows = counts.everything.x(slice(None), torch.float64).numpy()
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], x[np.lexsort(x.T)])


def test_a_row_stays_in_its_split_when_others_are_added(tmp_path):
    x = np.unique(cells(500), axis=0)
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(x[:300]))
    sparse.save_npz(tmp_path / "b.npz", sparse.csc_array(x[::-1].astype(np.float32)))
    before, after = data.load(tmp_path / "a.npz"), data.load(tmp_path / "b.npz")
    for name in ("train", "valid", "test"):
        first, second = (set(getattr(found, name).keys()) for found in (before, after))
        assert first < second
    assert 0.7 < len(after.train) / len(x) < 0.9


def test_rows_without_counts_are_left_out_if_asked_and_named(tmp_path):
    x = cells(300)
    x[[7, 200]] = 0
    sparse.save_npz(tmp_path / "cells.npz", sparse.csr_array(x))
    found = data.load(tmp_path / "cells.npz", skip_bad=True)
    assert len(found.everything) == 298
    assert found.notes == (
        f"{tmp_path / 'cells.npz'}: 2 rows are left out, which have no counts: 7, 200 (counted from 0)",
    )
    whole = data.load(tmp_path / "cells.npz").everything
    assert len(whole) == 300
    with pytest.raises(
        BadDataError, match="2 of 300 rows have no counts, so they have no library size. skip_bad leaves"
    ):
        whole.context(slice(0, 5), torch.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(indices=m["indices"] + 100), "indices must be < 12|column index values must be < 12"),
        (lambda m: m.update(indptr=m["indptr"][:-1]), "index pointer size|index pointer"),
        (lambda m: m.update(indptr=m["indptr"][::-1].copy()), "index"),
        (lambda m: m.update(shape=np.array([60, 3])), "must be < 3"),
        (lambda m: m.update(shape=np.array([2**60, 12])), "index|large"),
        (lambda m: m.update(format=np.array(b"eval")), "cannot be read as a sparse matrix: .*eval"),
        (lambda m: m.pop("indices"), "cannot be read as a sparse matrix: .*indices"),
        (lambda m: m.update(data=np.array([object()])), "Object arrays cannot be loaded|cannot be read"),
        (lambda m: m.update(data=np.full_like(m["data"], 1, dtype=complex)), "must hold counts, .*; got complex128"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    matrix = sparse.csr_matrix(cells())
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    parts |= {"shape": np.array(matrix.shape), "format": np.array(b"csr")}
    change(parts)
    np.savez(tmp_path / "cells.npz", **parts)
    with pytest.raises((BadDataError, DamagedDataError), match=message):
        data.load(tmp_path / "cells.npz")


def test_a_cut_file_and_one_of_claims_are_refused(tmp_path):
    sparse.save_npz(tmp_path / "cells.npz", sparse.csr_matrix(cells()))
    whole = (tmp_path / "cells.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedDataError, match="cut.npz cannot be read"):
        data.load(tmp_path / "cut.npz")
    for shape in ((10**9, 3), (3, 10**9)):
        sparse.save_npz(tmp_path / "claims.npz", sparse.coo_matrix(([1, 2], ([0, 1], [0, 2])), shape=shape))
        with pytest.raises(BadDataError, match="claims.npz says that it has .* rows and .* columns, with 2 counts"):
            data.load(tmp_path / "claims.npz")


def test_an_option_that_counts_do_not_use_is_refused(tmp_path):
    sparse.save_npz(tmp_path / "cells.npz", sparse.csr_matrix(cells()))
    with pytest.raises(ValueError, match="label is for tables; .*cells.npz is a sparse matrix"):
        data.load(tmp_path / "cells.npz", label="type")
    with pytest.raises(ValueError, match="binarize is for images; .*cells.npz holds rows"):
        data.load(tmp_path / "cells.npz", binarize="dynamic", split=(0.6, 0.2, 0.2))


# What is no count.


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5"), (-1, "-1"), (np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e17, "1e\\+17")],
)
@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_the_first_value_that_is_no_count_is_named(value, shown, form):
    x = cells().astype(float)
    x[4, 2] = x[9, 1] = value
    names = tuple("abcdefghijkl")
    message = rf"whole numbers from 0 to 2\^53; row 4, column 2 \('c'\) has {shown}. Give the counts themselves"
    with pytest.raises(BadDataError, match=message):
        Counts(sparse.coo_array(x).asformat(form), columns=names)


def test_halves_that_sum_to_a_count_are_counts():
    matrix = sparse.coo_matrix(([0.5, 0.5, 3.0, -1.0], ([0, 0, 1, 1], [0, 0, 1, 1])), shape=(2, 2))
    assert Counts(matrix).x(slice(None), torch.float32).tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (np.zeros(3), r"must be counts \(n, columns\), .*; got shape \(3,\)"),
        (sparse.csr_array((4, 0)), r"got shape \(4, 0\)"),
        (np.zeros((2, 3), complex), "must hold counts, whole numbers from 0; got complex128"),
        (np.array([["a"]]), "got <U1"),
    ],
)
def test_what_is_no_matrix_of_numbers(thing, message):
    with pytest.raises(BadDataError, match=message):
        Counts(thing)


def test_a_list_and_wrong_numbers_of_names_and_labels():
    with pytest.raises(TypeError, match="must be a sparse matrix of SciPy's, or an array; got list"):
        Counts([[1, 2]])
    with pytest.raises(ValueError, match="columns must have one name for each of 12 columns; got 2"):
        Counts(cells(), columns=("a", "b"))
    with pytest.raises(ValueError, match="labels must have one entry per row: 60; got 3"):
        Counts(cells(), torch.zeros(3))


def test_indices_beyond_the_matrix_are_refused():
    matrix = sparse.csr_matrix(cells())
    matrix.indices[5] = 10**6
    with pytest.raises(BadDataError, match="is no valid sparse matrix"):
        Counts(matrix)


def test_a_count_that_float32_rounds_is_refused():
    counts = Counts(np.array([[2**24 + 1, 3]]))
    with pytest.raises(ValueError, match="x has integers that float32 rounds to others, such as 16777217"):
        counts.x(slice(None), torch.float32)
    assert counts.x(slice(None), torch.float64).tolist() == [[2**24 + 1, 3]]


# At the doors.


def library_vae(genes=12):
    return build(genes, 2, hidden=(4,), likelihood={"class": "NegativeBinomial", "library": True}, inputs="log1p")


def test_fit_and_the_bound_take_counts_and_sparse_matrices_alike():
    x = cells()
    matrix, dense = sparse.csc_matrix(x), torch.from_numpy(x).float()
    context = dense.sum(-1, keepdim=True).log()
    losses, bounds = [], []
    for source in (Counts(matrix), matrix, Counts(matrix, library=False), (dense, context)):
        torch.manual_seed(0)
        vae = library_vae()
        losses.append(fit(vae, source, valid=source, epochs=2, progress=False)[-1].elbo)
        bounds.append(average_elbo(vae, source).elbo)
    assert losses == pytest.approx([losses[0]] * 4)
    assert bounds == pytest.approx([bounds[0]] * 4)


def test_a_vae_without_library_sizes_takes_the_same_counts():
    vae = build(12, 2, hidden=(4,), likelihood="Poisson", inputs="log1p")
    fit(vae, Counts(cells()), epochs=1, progress=False)
    dense = torch.from_numpy(cells()).float()
    assert average_elbo(vae, Counts(cells())).elbo == pytest.approx(average_elbo(vae, dense).elbo)


@pytest.mark.parametrize("make", [Counts, sparse.csr_matrix])
def test_build_looks_at_counts_without_a_warning(make, recwarn):
    vae = build(data=make(cells(300)), latent_dim=2, hidden=(4,))
    assert vae.likelihood.library
    assert vae.posterior.net.log1p
    assert not [w for w in recwarn if "log1p" in str(w.message)]
    plain = build(data=make(cells(300)), latent_dim=2, hidden=(4,), likelihood="Poisson", inputs="x")
    assert not plain.likelihood.library
    assert not plain.posterior.net.log1p
    assert not build(data=cells(300), latent_dim=2, hidden=(4,), likelihood="Poisson").posterior.net.log1p


def test_the_methods_of_a_vae_take_counts():
    vae, counts = library_vae(), Counts(cells())
    x, log_library = counts.x(slice(None), torch.float32), counts.log_library.float()
    assert torch.equal(vae.codes(counts), vae.codes(x, log_library))
    torch.testing.assert_close(vae.reconstruct(counts), vae.reconstruct(x, log_library))
    torch.testing.assert_close(vae.reconstruct(counts.matrix), vae.reconstruct(x, log_library))


def test_an_empty_row_is_found_before_the_training():
    x = cells()
    x[11] = 0
    with pytest.raises(BadDataError, match="1 of 60 rows have no counts"):
        fit(library_vae(), Counts(cells()), valid=Counts(x), epochs=1, progress=False)
    fit(build(12, 2, hidden=(4,), likelihood="Poisson"), Counts(x), epochs=1, progress=False)


def test_the_description_keeps_some_library_sizes():
    counts = Counts(cells(3000), columns=tuple("abcdefghijkl"))
    described = Description.from_json(Description.of(counts).to_json())
    totals = np.sort(cells(3000).sum(1))
    assert described.columns == counts.columns
    assert len(described.library_sizes) == 1000
    assert described.library_sizes[0] == totals[0]
    assert described.library_sizes[-1] == totals[-1]
    np.testing.assert_allclose(
        np.quantile(described.library_sizes, [0.1, 0.5]), np.quantile(totals, [0.1, 0.5]), atol=1
    )
    assert Description.of(Counts(cells(), library=False)).library_sizes == ()
    assert Description.of(Counts(cells())).library_sizes == tuple(np.sort(cells().sum(1)).tolist())
