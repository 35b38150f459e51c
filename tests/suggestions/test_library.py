"""Sparse counts are judged given the totals of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_vae import build, suggest
from pyro_vae.data import Counts, DataSet
from pyro_vae.resolver import class_name
from pyro_vae.suggestions.library import _log_prob, _variance

N, COLUMNS, SIZE = 1500, 60, 2.0


def means(seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.lognormal(5, 0.7, (N, 1)) * rng.dirichlet(np.ones(COLUMNS))


def poisson():
    rng, mean = means()
    return rng.poisson(mean)


def negative_binomial():
    rng, mean = means()
    return rng.poisson(mean * rng.gamma(SIZE, 1 / SIZE, mean.shape))


def zero_inflated():
    rng, _ = means(1)
    return negative_binomial() * (rng.random((N, COLUMNS)) > 0.4)


def first(x):
    return suggest(sparse.csr_array(x))[0]


def names(x):
    return [class_name(s.likelihood) for s in suggest(Counts(x))]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (poisson, "Poisson"),
        (negative_binomial, "NegativeBinomial"),
        (zero_inflated, "ZeroInflatedNegativeBinomial"),
    ],
)
def test_counts_of_each_kind_are_recognised_though_the_totals_vary(make, expected):
    found = first(make())
    assert found.likelihood == {"class": expected, "library": True}
    assert 'inputs="log1p"' in found.prepare
    assert build(COLUMNS, 2, hidden=(4,), likelihood=found.likelihood, inputs="log1p").likelihood.library
    assert {"Poisson", "NegativeBinomial", "Multinomial"} <= set(names(make()))


def test_the_totals_alone_make_no_overdispersion():
    """Judged without them, the same counts seem to vary far more than a Poisson's."""
    x = poisson()
    ratio, z = _variance(Counts(x))
    assert ratio == pytest.approx(1, abs=0.03)
    assert abs(z) < 4
    assert class_name(suggest(x)[0].likelihood) != "Poisson"


def test_the_variance_is_that_of_dense_counts():
    x = zero_inflated()
    mean = x.sum(1, keepdims=True) * x.sum(0) / x.sum()
    freedom = (1 - 1 / N) * (1 - 1 / COLUMNS)
    ratio, z = _variance(Counts(x))
    assert ratio == pytest.approx(((x - mean) ** 2).sum() / freedom / x.sum())
    score = (((x - mean) ** 2).sum() / freedom - x.sum()) / np.sqrt(2 * (mean**2).sum())
    assert z == pytest.approx(score)


def test_the_density_that_is_fitted_is_scipys():
    from scipy import stats

    x = torch.arange(6.0).double()[:, None]
    mean, size, gate = 2.5, 1.7, 0.3
    raw = torch.tensor([[np.log(mean)], [np.log(size)], [np.log(gate / (1 - gate))]]).double()
    expected = (1 - gate) * stats.nbinom.pmf(x.numpy(), size, size / (size + mean)) + gate * (x.numpy() == 0)
    np.testing.assert_allclose(_log_prob(x, torch.ones(6, 1).double(), raw).exp(), expected, rtol=1e-9)


def test_all_doors_give_the_same():
    x = negative_binomial()
    split = Counts(x)
    expected = suggest(split)
    for same in (sparse.coo_matrix(x.astype(np.float32)), DataSet(split, split[:5], split[:5])):
        assert suggest(same) == expected


def test_empty_rows_do_not_count():
    x = negative_binomial()
    assert suggest(Counts(np.concatenate([x, np.zeros_like(x)]))) == suggest(Counts(x))


def test_binary_and_constant_data():
    assert suggest(Counts((poisson() > 2).astype(int)))[0].likelihood == "Bernoulli"
    with pytest.raises(ValueError, match="every count is 0, which needs no likelihood"):
        suggest(Counts(np.zeros((5, 3))))


def test_one_column_has_no_library_size():
    found = suggest(Counts(np.random.default_rng(0).poisson(4, (500, 1))))
    assert found[0].likelihood == "Poisson"


def test_other_sparse_numbers_are_no_counts():
    x = np.random.default_rng(0).normal(size=(100, 4))
    try:
        found = suggest(sparse.csr_array(x))
    except TypeError:
        return  # where sparse matrices of other numbers are not taken
    assert class_name(found[0].likelihood) == "Normal"
