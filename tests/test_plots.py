"""Figures show the data they are given."""

from __future__ import annotations

import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats
from sklearn.decomposition import PCA

from pyro_vae import plots
from pyro_vae.training import Epoch, History


def epochs(n, valid=True):
    return History(
        Epoch(i, 50.0 / i, -50.0 / i, -40.0 / i, 10.0 / i, -60.0 / i if valid else None, 0.1) for i in range(1, n + 1)
    )


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("n", [1, 2, 30])
def test_training_curves_show_each_term(n, valid, tmp_path):
    figure = plots.training_curves(epochs(n, valid))
    elbo, recon, kl = figure.axes
    assert elbo.lines[0].get_ydata().tolist() == [-50.0 / i for i in range(1, n + 1)]
    assert recon.lines[0].get_ydata().tolist() == [-40.0 / i for i in range(1, n + 1)]
    assert kl.lines[0].get_ydata().tolist() == [10.0 / i for i in range(1, n + 1)]
    assert len(elbo.lines) == (3 if valid else 1)
    low, high = elbo.get_ylim()
    assert low < -50.0 / n <= high
    figure.savefig(tmp_path / "f.png")


def shown(figure):
    return np.asarray(figure.axes[0].images[0].get_array()).astype(float).round(4)


def test_pairs_of_rows():
    x = torch.zeros(5, 1, 4, 4)
    figure = plots.reconstructions(x, x + torch.arange(1, 6).reshape(5, 1, 1, 1) / 10, columns=3)
    picture = shown(figure)
    assert picture[1:-1:5, 1:-1:5].tolist() == [[0, 0, 0], [0.1, 0.2, 0.3], [0, 0, 0], [0.4, 0.5, 0]]


def test_places_without_an_image_are_blank():
    for channels, blank in ((1, 0), (3, 1)):
        image = shown(plots.samples(torch.full((3, channels, 4, 4), 0.5), columns=2))
        assert (image[6:10, 1:5] == 0.5).all()
        assert (image[6:10, 6:10] == blank).all()
        assert image.shape[:2] == (11, 11)


def test_colour_and_greys_and_values_outside():
    assert shown(plots.samples(torch.full((2, 3, 4, 4), 7.0))).shape[-1] == 3
    assert shown(plots.samples(torch.full((2, 4, 4), -3.0))).max() == 0.0


def test_paths_are_rows():
    paths = torch.arange(6).reshape(2, 3, 1, 1, 1) / 10 + torch.zeros(2, 3, 1, 4, 4)
    assert shown(plots.interpolations(paths))[1::5, 1:-1:5].tolist() == [[0, 0.1, 0.2], [0.3, 0.4, 0.5]]


def test_a_manifold_keeps_its_places_and_names_its_axes():
    images = torch.arange(6).reshape(2, 3, 1, 1, 1) / 10 + torch.zeros(2, 3, 1, 2, 2)
    figure = plots.manifold(images, torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([2.0, -2.0]))
    assert shown(figure)[::2, ::2].tolist() == [[0, 0.1, 0.2], [0.3, 0.4, 0.5]]
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["-1.0", "0.0", "1.0"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["2.0", "-2.0"]
    with pytest.raises(ValueError, match="one entry per column and per row of 2 x 3 images"):
        plots.manifold(images, torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_codes_are_drawn_as_they_are_or_through_pca(dim):
    z = torch.randn(40, dim, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 3
    for given in (None, labels):
        figure = plots.codes(z, given)
        drawn = np.concatenate([c.get_offsets() for c in figure.axes[0].collections])
        expected = z.double().numpy()
        if given is not None:
            expected = np.concatenate([expected[labels == i] for i in range(3)])
        expected = PCA(2).fit(z.double().numpy()).transform(expected) if dim > 2 else expected
        np.testing.assert_allclose(np.asarray(drawn)[:, : expected.shape[1]], expected, atol=1e-10)


def test_codes_are_drawn_from_arrays_and_with_the_names_of_classes():
    z, names = np.random.default_rng(0).normal(size=(6, 2)), ["fir", "ash", "fir", "ash", "fir", "fir"]
    for labels in (names, np.array(names)):
        axis = plots.codes(z, labels).axes[0]
        drawn = {c.get_label(): c.get_offsets() for c in axis.collections}
        assert list(drawn) == ["ash", "fir"]
        np.testing.assert_array_equal(drawn["ash"], z[[1, 3]])
        np.testing.assert_array_equal(drawn["fir"], z[[0, 2, 4, 5]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.training_curves(History()), "history must hold at least one epoch; got none"),
        (
            lambda: plots.samples(torch.zeros(2, 5, 4, 4)),
            r"images must be \(n, 1 or 3, height, width\) .*got \(2, 5, 4, 4\)",
        ),
        (lambda: plots.reconstructions(torch.zeros(2, 4, 4), torch.zeros(3, 4, 4)), "must have the same shape"),
        (lambda: plots.samples(torch.zeros(0, 4, 4)), "at least one image and one column; got 0 and 8"),
        (lambda: plots.samples(torch.zeros(2, 4, 4), columns=0), "at least one image and one column; got 2 and 0"),
        (lambda: plots.codes(torch.zeros(3, 2), torch.zeros(2)), "labels must have one entry per code: 3; got 2"),
        (lambda: plots.codes(torch.zeros(1, 2)), "z must be at least two codes"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_backend_is_chosen_and_no_figure_is_registered():
    backend = matplotlib.rcParams._get("backend") if hasattr(matplotlib.rcParams, "_get") else None
    assert isinstance(plots.samples(torch.zeros(2, 4, 4)), Figure)
    if backend is not None:
        assert matplotlib.rcParams._get("backend") == backend
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_rank_histograms_count_the_ranks_beside_a_band(tmp_path):
    """Bars are the counts; the band holds the 0.5 % and 99.5 % quantiles of a flat histogram's bars."""
    ranks = torch.stack([torch.arange(320) % 64, torch.arange(320) % 4], dim=1)
    figure = plots.rank_histograms(ranks, 64, bins=16)
    flat, crowded = figure.axes
    assert [bar.get_height() for bar in flat.patches[1:]] == [20.0] * 16
    assert [bar.get_height() for bar in crowded.patches[1:]] == [320.0] + [0.0] * 15
    band = flat.patches[0]
    low, high = stats.binom.ppf([0.005, 0.995], 320, 1 / 16)
    assert (band.get_y(), band.get_y() + band.get_height()) == (low, high)
    figure.savefig(tmp_path / "f.png")


def test_rank_histograms_of_many_dimensions_show_the_first():
    figure = plots.rank_histograms(torch.randint(0, 10, (50, 23)), 10, bins=5, most=7)
    assert sum(axis.has_data() for axis in figure.axes) == 7
    assert "the first 7 of 23 dimensions" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("ranks", "values", "bins", "message"),
    [
        (torch.zeros(3), 10, 5, r"ranks must be \(simulations, latent_dim\), at least one simulation; got \(3,\)"),
        (torch.zeros(0, 2), 10, 5, r"at least one simulation; got \(0, 2\)"),
        (torch.zeros(3, 2), 10, 4, "bins must divide the 10 values of a rank, or bars differ in width; got 4"),
        (torch.zeros(3, 2), 10, 0, "bins must divide the 10 values of a rank, or bars differ in width; got 0"),
    ],
)
def test_rank_histograms_of_bad_input(ranks, values, bins, message):
    with pytest.raises(ValueError, match=message):
        plots.rank_histograms(ranks, values, bins)


def test_rate_and_distortion_of_each_model_and_lines_of_equal_elbo(tmp_path):
    rates, distortions, labels = [20.0, 5.0, 10.0], [70.0, 100.0, 80.0], ["0.5", "4", "1"]
    figure = plots.rate_distortion(rates, distortions, labels, "beta")
    (axis,) = figure.axes
    frontier, *equal = axis.lines
    assert list(zip(*frontier.get_data(), strict=True)) == [(5.0, 100.0), (10.0, 80.0), (20.0, 70.0)]
    texts = {text.get_text(): text.xy for text in axis.texts}
    assert [texts[label] for label in labels] == list(zip(rates, distortions, strict=True))
    assert len(equal) >= 3
    for line in equal:
        rate, distortion = line.get_data()
        total = rate + distortion
        assert np.allclose(total, total[0])  # the elbo is minus their sum
        assert f"{-total[0]:g}" in texts
    assert "beta" in axis.get_title()
    figure.savefig(tmp_path / "f.png")


def test_rate_and_distortion_of_one_model_and_of_densities():
    (axis,) = plots.rate_distortion([3.0], [2.0], ["1"], "beta").axes
    assert axis.lines[0].get_xydata().tolist() == [[3.0, 2.0]]
    (axis,) = plots.rate_distortion([-0.001, -0.002], [100.0, 101.0], ["8", "16"], "beta").axes  # both collapsed
    left, right = axis.get_xlim()
    assert left < -0.002 < -0.001 < right
    (axis,) = plots.rate_distortion([3.0, 5.0], [-40.0, -60.0], ["1", "2"], "beta").axes
    assert axis.get_ylim()[0] < -60 < -40 < axis.get_ylim()[1]


@pytest.mark.parametrize("rates", [[], [1.0, 2.0], [float("nan")], [float("inf")]])
def test_rate_and_distortion_of_bad_input(rates):
    with pytest.raises(ValueError, match="one model at least|finite"):
        plots.rate_distortion(rates, [1.0] if rates else [], ["1"] if rates else [], "beta")
