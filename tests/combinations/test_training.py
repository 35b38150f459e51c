"""Every combination of prior and posterior, and every likelihood, learns from real data.

About two minutes on one core (81 s for the combinations and 21 s for the rest when it is idle). Each is trained for a few epochs; its bound on validation data must be better after the last
epoch than after the first, and than that of the untrained VAE. Priors and posteriors learn binarised digits, likelihoods
digits, tables and documents in the form that they are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets
from torch import Tensor

from pyro_vae import average_elbo, data, fit
from pyro_vae.config import build
from pyro_vae.training.preparation import start_from_data
from tests.combinations.parts import COMBINATIONS, LIKELIHOODS, POSTERIORS, PRIORS, name_of

pytestmark = pytest.mark.slow

EPOCHS, TRAIN, VALID = 4, 600, 200


@dataclass
class Data:
    """x for training and validation, the context beside it."""

    train: tuple[Tensor, ...]
    valid: tuple[Tensor, ...]


@cache
def digits(labels: bool = False, **form: Any) -> Data:
    """The first digits of scikit-learn, in a form that a likelihood takes."""
    loaded = data.load("digits", labels=labels, **form)

    def rows(images, n):
        batch = next(iter(data.batches(images, n, seed=0)))
        return tuple(t.float() for t in batch)

    return Data(rows(loaded.train, TRAIN), rows(loaded.valid, VALID))


def split(x: np.ndarray | Tensor) -> Data:
    """A table in random order, four fifths of it for training."""
    x = torch.as_tensor(x, dtype=torch.float32)
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    n = len(x) * 4 // 5
    return Data((x[:n],), (x[n:],))


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


@cache
def table(name: str) -> Data:
    return split(standardised(getattr(datasets, f"load_{name}")().data))


@cache
def measurements() -> Data:
    """Of wines: alcohol, magnesium, proline and so on, each over its mean."""
    x = datasets.load_wine().data
    return split(x / x.mean(0))


@cache
def reuters() -> Data:
    """395 articles of Reuters by their 300 commonest words (of the package lda)."""
    counts = pytest.importorskip("lda").datasets.load_reuters()
    commonest = np.argsort(-counts.sum(0), kind="stable")[:300]
    return split(counts[:, commonest])


MIXED = {
    "alcohol": "Normal",
    "magnesium": "StudentT",
    "many": "Bernoulli",
    "class": {"class": "Categorical", "levels": 3, "upper": 2},
}


@cache
def wine() -> Data:
    """Two numbers, whether there is much proline, and the class."""
    bunch = datasets.load_wine()
    x = standardised(bunch.data)
    return split(np.column_stack([x[:, 0], x[:, 4], x[:, 12] > 0, bunch.target]))


def learns(supply: Data, epochs: int = EPOCHS, seed: int = 0, lr: float = 3e-3, batch_size: int = 32, **options: Any):
    """Train a VAE and check its bound on validation data; return the bound before, after one epoch, and at the end."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = build(tuple(supply.train[0].shape[1:]), hidden=(32,), **options)
    start_from_data(vae, data.batches(supply.train, 100))
    # The same seed, so the same noise: differences are of the weights.
    before = average_elbo(vae, supply.valid, num_particles=10, has_context=True).elbo
    bounds: list[float] = []

    def keep(_: Any) -> None:
        bounds.append(average_elbo(vae, supply.valid, num_particles=10, has_context=True).elbo)

    fit(
        vae,
        supply.train,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        schedule="constant",
        seed=seed,
        progress=False,
        on_epoch=keep,
    )
    print(f"{before:.2f} -> {bounds[0]:.2f} -> {bounds[-1]:.2f} nats")
    assert np.isfinite([before, *bounds]).all()
    assert bounds[-1] > bounds[0] > before
    return before, bounds


@pytest.mark.parametrize("pair", COMBINATIONS, ids=name_of)
def test_a_combination_learns_digits(pair):
    """Labels are the context of priors that need one; 8 latent dimensions, two groups of classes of 4."""
    prior, posterior = PRIORS[pair[0]], POSTERIORS[pair[1]]
    sizes = {"classes": 4}

    def options(part):
        own = part.spec
        return {**own, **(sizes if "classes" in own else {}), **({"components": 20} if "components" in own else {})}

    supply = digits(labels=prior.context, binarize="dynamic")
    learns(
        supply,
        latent_dim=8,
        prior=options(prior),
        posterior=options(posterior),
        context_features=supply.train[1].shape[1] if prior.context else 0,
    )


# Data for each kind of values in tests/likelihoods/cases.py, which a new likelihood of that kind learns from.
DATA = {
    "binary": lambda: digits(binarize="dynamic"),
    "unit": lambda: digits(dequantize=True),
    "real": lambda: table("wine"),
    "positive": measurements,
    "counts": reuters,
}
SPECS = {
    **{
        case.cls.__name__: ({"class": case.cls.__name__}, DATA[case.values])
        for case in LIKELIHOODS.values()
        if case.values in DATA
    },
    "ContinuousBernoulli": ({"class": "ContinuousBernoulli"}, lambda: digits()),
    "Categorical": ({"class": "Categorical", "levels": 17}, lambda: digits()),
    "Categorical of counts": ({"class": "Categorical", "levels": 17, "upper": 16}, lambda: digits(integers=True)),
    "DiscretizedLogistic": ({"class": "DiscretizedLogistic", "levels": 17}, lambda: digits()),
    "DiscretizedLogisticMixture": (
        {"class": "DiscretizedLogisticMixture", "levels": 17, "components": 3},
        lambda: digits(),
    ),
    "Normal": ({"class": "Normal"}, lambda: table("breast_cancer")),
    "Normal of pixels": ({"class": "Normal", "scale": "optimal"}, lambda: digits()),
    "Laplace": ({"class": "Laplace"}, lambda: table("diabetes")),
    "Mixed": ({"class": "Mixed", "columns": MIXED}, wine),
    "Multinomial": ({"class": "Multinomial", "total_count": 200}, reuters),
    "Poisson of pixels": ({"class": "Poisson"}, lambda: digits(integers=True)),
}


def test_every_likelihood_learns():
    trained = {spec["class"] for spec, _ in SPECS.values()}
    tested = {case.cls.__name__ for case in LIKELIHOODS.values()}
    assert trained == tested, "give each likelihood data in SPECS, or its kind of values in DATA"


@pytest.mark.parametrize("name", SPECS)
def test_a_likelihood_learns(name):
    spec, supply = SPECS[name]
    learns(supply(), latent_dim=4, likelihood=spec, epochs=6)


@pytest.mark.parametrize("prior", ["Dirichlet", "LogisticNormal"])
def test_topic_models_learn(prior):
    """Proportions of topics, decoded by a linear net: log-linear topics of words (Srivastava and Sutton 2017)."""
    learns(
        reuters(),
        latent_dim=10,
        prior=prior,
        posterior="LogisticNormal",
        likelihood={"class": "Multinomial", "net": {"class": "MLP", "hidden": ()}},
        epochs=6,
        lr=1e-2,
    )
