"""The units of a table do not matter: raw, standardised and times a million give one model."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_wine

from pyro_vae import average_elbo, build, evaluation, fit

WINE = load_wine(as_frame=True).data.sample(frac=1, random_state=0)
STANDARD = (WINE - WINE.mean()) / WINE.std()
TABLES = {"raw": WINE, "standardised": STANDARD, "times a million": 1e6 * WINE}
UNITS = {"raw": WINE.std(), "standardised": STANDARD.std(), "times a million": 1e6 * WINE.std()}


def trained(table):
    """Log p(x) and elbo of test rows in nats, and the error of imputed values in standard deviations."""
    gaps = np.random.default_rng(0).random(table.shape) < 0.3
    with_gaps = table.mask(gaps)
    train, test = with_gaps[:140], table[140:]
    torch.manual_seed(0)
    vae = build(data=train, latent_dim=3, hidden=(32,), likelihood="Normal")
    fit(vae, train, epochs=60, lr=0.01, progress=False)
    filled = vae.impute(with_gaps[140:], num_particles=50, seed=0)
    error = ((filled - test) / table.std()).to_numpy()[gaps[140:]]
    log_prob = evaluation.importance_sampling(vae, test, num_particles=100, seed=0).log_prob.mean().item()
    return log_prob, average_elbo(vae, test).elbo, float(np.sqrt(np.mean(error**2)))


@pytest.mark.filterwarnings("ignore:importance_sampling. Pareto")  # the same in all units
def test_the_units_of_a_table_do_not_matter():
    found = {name: trained(table) for name, table in TABLES.items()}
    for name in ("standardised", "times a million"):
        jacobian = np.log(UNITS[name] / UNITS["raw"]).sum()
        for place in (0, 1):
            assert found[name][place] + jacobian == pytest.approx(found["raw"][place], abs=0.05)
        assert found[name][2] == pytest.approx(found["raw"][2], rel=0.01)
    assert found["raw"][2] < 0.9  # 1 is the error of means
    assert math.isfinite(found["raw"][0])


def test_a_table_in_its_own_units_gives_the_density_of_the_standardised_one():
    """The same weights, and x and the moments shifted and scaled together: log p(x) changes by the Jacobian alone."""
    plain = pd.DataFrame({"a": STANDARD.alcohol, "b": STANDARD.hue})
    far = pd.DataFrame({"a": 1e4 + 50 * plain.a, "b": 0.001 * plain.b - 7})
    torch.manual_seed(0)
    one, other = (build(data=df, latent_dim=2, hidden=(8,), likelihood="Normal").double() for df in (plain, far))
    moments = [name for name, _ in one.named_buffers() if name.endswith(("loc", "scale"))]
    assert moments
    other.load_state_dict({n: t for n, t in one.state_dict().items() if n not in moments}, strict=False)
    found = [average_elbo(vae, df).elbo for vae, df in ((one, plain), (other, far))]
    assert found[1] + np.log(50) + np.log(0.001) == pytest.approx(found[0], abs=1e-4)
