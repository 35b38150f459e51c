"""What fit says of the data before it trains: their scale, and single examples that a BatchNorm cannot train on."""

from __future__ import annotations

import copy
import random
import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pyro_vae import VAE, build, fit, likelihoods, nets, posteriors, priors
from pyro_vae.training import TrainingInterrupted

SCALE = "the scale of the training data is not that of likelihood"


def said(vae, x, **options):
    """The warnings of a short training."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(vae, x, **{"epochs": 2, "batch_size": 64, "progress": False, **options})
    return [str(w.message) for w in caught]


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("likelihood", ["normal", "laplace", "student_t"])
def test_raw_columns_are_named_once_and_others_are_not(likelihood):
    x = draw(200, 3) * torch.tensor([1.0, 3000.0, 1.0]) + torch.tensor([0.0, 0.0, 2000.0])
    (text,) = said(build(3, 2, hidden=(8,), likelihood=likelihood), x)
    assert text.startswith(SCALE)
    assert "column 1 from -" in text
    assert "column 2 from 199" in text
    assert "column 0 from" not in text.partition("pyro_vae.suggest")[0]
    assert "pyro_vae.suggest(x) says: Normal" in text
    assert "Standardise (column 1, column 2)" in text
    assert "\n" not in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_grey_values_to_255_under_a_normal(dtype):
    x = (256 * torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))).floor().to(dtype)
    (text,) = said(build((1, 8, 8), 2, hidden=(8,), likelihood="normal"), x, batch_size=200)
    assert "Normal: its values from 0 to 255, but p(x | z) starts with a scale of 0.5" in text
    assert "DiscretizedLogistic(levels=256, upper=255.0)" in text


def test_columns_of_mixed_are_named():
    columns = {"income": "Normal", "smokes": "Bernoulli", "height": "Normal", "cells": "Poisson"}
    x = torch.stack([5e4 * torch.rand(99), torch.rand(99).round(), draw(99), 5e6 * torch.ones(99)], 1)
    (text,) = said(build(4, 2, hidden=(8,), likelihood={"class": "Mixed", "columns": columns}), x)
    before = text.partition("The training starts")[0]
    assert "'income' from" in before
    assert "'cells' from" in before
    assert "smokes" not in before
    assert "height" not in before


def test_prices_under_a_gamma():
    x = (
        3e5
        * torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).pow(3).add(0.01)
        * torch.tensor([1.0, 1e-5])
    )
    (text,) = said(build(2, 2, hidden=(8,), likelihood="gamma"), x)
    assert text.startswith(f"{SCALE} Gamma: column 0 from ")
    assert "column 1" not in text.partition("The training starts")[0]
    assert "Standardise" in text or "standardise" in text


def test_positive_data_under_a_density_of_the_users_that_is_an_exponential_of_a_normal():
    """Its location and scale are those of log x, and only the mean can be compared with x."""

    def vae():
        net = nets.MLP(2, (8,), 3).requires_grad_(False)  # a function's networks are not trained
        posterior = posteriors.DiagonalNormal(nets.MLP(3, (8,), 4))
        return VAE(priors.StandardNormal(2), lambda z: dist.LogNormal(net(z), 1.0).to_event(1), posterior)

    torch.manual_seed(0)
    assert said(vae(), 40 * draw(200, 3).exp()) == []
    (text,) = said(vae(), 1e6 * draw(200, 3).exp())
    assert text.startswith(SCALE)


QUIET = {
    "standardised": ("normal", lambda: draw(200, 3)),
    "standardised, one value far off": (
        "normal",
        lambda: draw(200, 3).index_put_((torch.tensor(7),), torch.tensor(14.0)),
    ),
    "images": ("normal", lambda: torch.rand(100, 1, 4, 4)),
    "images under a small scale": ({"class": "Normal", "scale": 0.001}, lambda: torch.rand(100, 1, 4, 4)),
    "a scale that fits": ({"class": "Normal", "initial_scale": 3000.0}, lambda: 3000 * draw(200, 3)),
    "a scale that is computed": ({"class": "Normal", "scale": "optimal"}, lambda: 3000 * draw(200, 3)),
    "positive": ("gamma", lambda: 40 * draw(200, 3).exp()),
    "counts": ("poisson", lambda: torch.poisson(torch.full((100, 3), 40.0))),
    "levels": ({"class": "DiscretizedLogistic", "upper": 255}, lambda: torch.randint(0, 256, (100, 3)).float()),
    "binary": ("bernoulli", lambda: torch.rand(100, 3).round()),
}


@pytest.mark.parametrize("case", QUIET)
def test_nothing_is_said_of_data_that_fit(case):
    likelihood, make = QUIET[case]
    x = make()
    assert said(build(tuple(x.shape[1:]), 2, hidden=(8,), likelihood=likelihood), x) == []


def test_missing_values_are_left_out():
    x = 1000 * draw(200, 3)
    x[::2] = torch.nan
    (text,) = said(build(3, 2, hidden=(8,), likelihood="normal", missing=True), x)
    assert "column 0 from -" in text
    assert "nan" not in text.lower().partition("suggest")[0]


# BatchNorm.


def with_batch_norm(seed=0):
    torch.manual_seed(seed)
    encoder = nets.MLP(4, (6,), 4, normalization="BatchNorm1d")
    return VAE(
        priors.StandardNormal(2), likelihoods.Bernoulli(nets.MLP(2, (6,), 4)), posteriors.DiagonalNormal(encoder)
    )


X = (draw(9, 4) > 0).float()
FORMS = {
    "tensor": lambda n: X[:n],
    "data set": lambda n: TensorDataset(X[:n]),
    "loader": lambda n: DataLoader(TensorDataset(X[:n]), batch_size=4),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_last_batch_of_one_is_merged_and_said_once(form):
    vae, sizes = with_batch_norm(), []
    vae.posterior.register_forward_pre_hook(lambda m, inputs: sizes.append(len(inputs[0])) if m.training else None)
    (text,) = said(vae, FORMS[form](9), batch_size=4, engine="pyro")
    assert sizes == [4, 5, 4, 5]
    assert text.startswith("a batch of one example is merged into the batch before it: BatchNorm1d in posterior.net")


def test_a_last_batch_of_two_is_left_alone():
    assert said(with_batch_norm(), X[:6], batch_size=4) == []


@pytest.mark.parametrize(("form", "n", "batch_size"), [("tensor", 1, 4), ("data set", 3, 1), ("loader", 1, 4)])
def test_where_there_is_nothing_to_merge_with_fit_says_so(form, n, batch_size, tmp_path):
    with pytest.raises(ValueError, match="a batch has one example, .* BatchNorm1d .* batch_size of at least 2"):
        fit(with_batch_norm(), FORMS[form](n), batch_size=batch_size, epochs=1, progress=False, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_batches_of_one_stay_where_nothing_needs_two():
    vae, sizes = build(4, 2, hidden=(3,)), []
    vae.posterior.register_forward_pre_hook(lambda m, inputs: sizes.append(len(inputs[0])) if m.training else None)
    assert said(vae, X, batch_size=4, engine="pyro", epochs=1) == []
    assert sizes == [4, 4, 1]


def test_merged_batches_run_as_a_graph(uncompiled):
    """By SGD: before a BatchNorm the gradient of a bias is all rounding, which Adam would make into whole steps."""
    by_graph, by_pyro = with_batch_norm(), with_batch_norm()
    for vae, engine in ((by_graph, "compiled"), (by_pyro, "pyro")):
        said(vae, X, batch_size=4, engine=engine, optimizer=torch.optim.SGD, lr=0.1)
    for name, value in by_graph.state_dict().items():
        torch.testing.assert_close(value, by_pyro.state_dict()[name], rtol=1e-4, atol=1e-5)


# Data sets that draw by themselves.


class Noisy(Dataset):
    """Draws from each generator that there is."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        if i == 5 and self.error is not None:
            raise self.error
        noise = np.random.rand(4) + random.random() + torch.rand(4).numpy()  # noqa: NPY002
        return torch.tensor(noise / 3).round().float()

    error: BaseException | None = None


def trained(**options):
    torch.manual_seed(0)
    vae = build(4, 2, hidden=(3,))
    valid = Noisy() if options.pop("validate", False) else None
    fit(vae, options.pop("data", Noisy()), valid=valid, **{"batch_size": 5, "progress": False, "epochs": 3, **options})
    return torch.cat([p.detach().flatten() for p in vae.parameters()])


def disturb_generators(seed):
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    torch.manual_seed(seed)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_same_seed_gives_the_same_bits_whatever_generator_the_data_draw_from(workers):
    loader = DataLoader(Noisy(), batch_size=5, shuffle=True, num_workers=workers)
    found = []
    for state in (1, 2):
        disturb_generators(state)
        found.append(trained(data=loader, epochs=2, validate=workers == 0))
    assert torch.equal(*found)
    assert not torch.equal(found[0], trained(data=loader, epochs=2, validate=workers == 0, seed=1))


def test_a_resumed_training_draws_what_an_unbroken_one_does(tmp_path):
    whole = trained(out=tmp_path / "whole", validate=True)

    def stop(record):
        np.random.rand()  # noqa: NPY002
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        trained(out=tmp_path / "parts", validate=True, on_epoch=stop)
    disturb_generators(9)
    assert torch.equal(trained(out=tmp_path / "parts", validate=True, resume=True), whole)


@pytest.mark.parametrize("error", [None, RuntimeError("bad"), KeyboardInterrupt()])
@pytest.mark.parametrize("late", [False, True])
def test_the_users_generators_are_left_as_they_were(error, late):
    data = Noisy()
    data.error = None if late else error
    disturb_generators(3)
    before = torch.get_rng_state(), copy.deepcopy(np.random.get_state()), random.getstate()  # noqa: NPY002

    def callback(record):
        np.random.rand()  # noqa: NPY002
        random.random()
        if late and error is not None:
            raise error

    torch.manual_seed(0)
    vae = build(4, 2, hidden=(3,))
    torch.set_rng_state(before[0])
    try:
        fit(vae, data, batch_size=5, epochs=1, progress=False, on_epoch=callback)
    except (RuntimeError, KeyboardInterrupt):
        assert error is not None
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(before[1], np.random.get_state(), strict=True))  # noqa: NPY002
    assert before[2] == random.getstate()
