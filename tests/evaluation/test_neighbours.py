"""Nearest examples compared with scikit-learn, and copies of training data."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from pyro_vae.evaluation.neighbours import memorisation, nearest


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("k", "n"), [(1, 2007), (4, 2007), (30, 2007), (6000, 5)])
def test_beside_scikit_learn(k, n):
    """Full and partial blocks, of up to 1,000 images and 5,000 training examples, some smaller than k."""
    images, train = draws(n, 2, 3), draws(10_003, 2, 3, seed=1)
    found = nearest(images, train, k=k)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train.flatten(1).numpy())
    distances, indices = search.kneighbors(images.flatten(1).numpy())
    torch.testing.assert_close(found.distances, torch.tensor(distances), rtol=1e-10, atol=0)
    assert torch.equal(found.indices, torch.tensor(indices))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_distances_far_from_zero(dtype):
    """Here |a|² − 2 a·b + |b|² loses all digits in float32: steps of 2⁻¹⁰ around 1,000, in 784 dimensions."""
    steps = 2.0**-10 * torch.randint(-8, 9, (40, 784), generator=torch.Generator().manual_seed(0))
    train = (1000 + steps).to(dtype)
    images = train[:30].clone()
    images[:, 0] += 2.0**-10
    found = nearest(images, train, k=2)
    assert torch.equal(found.indices[:, 0], torch.arange(30))
    assert torch.equal(found.distances[:, 0], torch.full((30,), 2.0**-10, dtype=torch.float64))
    assert torch.equal(nearest(train, train).distances, torch.zeros(40, 1, dtype=torch.float64))
    second = (images.double() - train[found.indices[:, 1]].double()).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.distances[:, 1], second)


def test_bytes_and_booleans():
    images = torch.tensor([[0, 255], [3, 4]], dtype=torch.uint8)
    found = nearest(images, images.flip(0), k=2)
    assert found.indices.tolist() == [[1, 0], [0, 1]]
    assert found.distances[1, 1].item() == pytest.approx((9 + 251**2) ** 0.5)
    assert nearest(images > 3, images > 3).distances.tolist() == [[0.0], [0.0]]


def test_copies_are_found():
    train, test = draws(300, 4, 4), draws(200, 4, 4, seed=1)
    copies = torch.arange(50).flip(0)
    found = memorisation(train[copies] + 1e-3 * draws(50, 4, 4, seed=2), train, test)
    assert found.fraction == 1.0
    assert found.sample_median < 0.01 < found.threshold < found.test_median
    assert torch.equal(found.neighbours.indices[:, 0], copies)
    distances = nearest(test, train).distances[:, 0]
    assert found.test_median == distances.median().item()
    assert found.threshold == distances.quantile(0.01).item()


def test_some_copies_among_new_ones():
    train, test = draws(300, 16), draws(500, 16, seed=1)
    samples = torch.cat([draws(90, 16, seed=2), train[:10]])
    found = memorisation(samples, train, test)
    assert 0.1 <= found.fraction < 0.2
    assert set(found.suspects[:10].tolist()) == set(range(90, 100))
    assert found.suspects.sort().values.equal(torch.arange(100))
    shown = samples[found.suspects[:10]]
    assert torch.equal(shown, train[found.neighbours.indices[found.suspects[:10], 0]])


def test_fresh_draws_are_not():
    """At most 40 of 1,000 count as near: a false alarm has probability below 1e-5; the seed is fixed.

    The threshold lies between the 10th and the 11th of 1,000 test examples, so the number of samples below the
    11th, which is no smaller, is beta-binomial.
    """
    assert stats.betabinom(1000, 11, 990).sf(40) < 1e-5
    found = memorisation(draws(1000, 8, seed=2), draws(2000, 8), draws(1000, 8, seed=1))
    assert 0 < found.fraction <= 0.04
    assert found.sample_median == pytest.approx(found.test_median, rel=0.05)


def test_quantile():
    train, test, samples = draws(100, 3), draws(400, 3, seed=1), draws(400, 3, seed=2)
    found = memorisation(samples, train, test, quantile=0.5)
    assert found.quantile == 0.5
    assert found.fraction == pytest.approx(0.5, abs=0.2)  # 5.6 standard errors of two halves of 400


@pytest.mark.parametrize(
    ("images", "train", "k", "message"),
    [
        (torch.zeros(3), torch.zeros(3), 1, r"images must be \(n, \*event_shape\), at least one example; got shape"),
        (torch.zeros(0, 2), torch.zeros(3, 2), 1, r"images must be .*got shape \(0, 2\)"),
        (torch.zeros(3, 2), torch.zeros(0, 2), 1, r"train must be .*got shape \(0, 2\)"),
        (torch.zeros(3, 2), torch.zeros(3, 1, 2), 1, r"the same event shape; got \(2,\) and \(1, 2\)"),
        (torch.zeros(3, 2), torch.zeros(3, 2), 4, "k must be at most the number of training examples, 3; got 4"),
        (torch.zeros(3, 2), torch.zeros(3, 2), 0, "k must be an integer of at least 1; got 0"),
        (torch.full((3, 2), torch.nan), torch.zeros(3, 2), 1, "images must be finite; got 6 values that are not"),
        (torch.zeros(3, 2), torch.full((3, 2), torch.inf), 1, "train must be finite; got 6 values that are not"),
    ],
)
def test_bad_input(images, train, k, message):
    with pytest.raises(ValueError, match=message):
        nearest(images, train, k=k)


def test_bad_memorisation():
    good = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="quantile must be a finite number above 0 and below 1; got 1"):
        memorisation(good, good, good, quantile=1)
    with pytest.raises(ValueError, match="samples must be finite"):
        memorisation(torch.full((3, 2), torch.nan), good, good)
    with pytest.raises(ValueError, match=r"test must be .*got shape \(0, 2\)"):
        memorisation(good, good, good[:0])


def test_arguments_other_than_tensors_are_named():
    x = draws(3, 2)
    with pytest.raises(TypeError, match=r"^images must be a tensor \(n, \*event_shape\).*; got function"):
        nearest(draws, x)
    with pytest.raises(TypeError, match="^train must be a tensor .* got str"):
        nearest(x, "digits")
    with pytest.raises(TypeError, match="^samples must be a tensor .* got list"):
        memorisation([1.0], x, x)
