"""The terms of the bound by site and by named factor, for programs with several of them."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.enum import get_importance_trace

from pyro_vae import objectives as o
from pyro_vae.distributions import Columns, HasFactors
from pyro_vae.terms import read_terms

N = 5
X = torch.tensor([[0.3, 2.0], [-1.0, 0.0], [0.4, 1.0], [2.0, 5.0], [0.0, 3.0]], dtype=torch.float64)
Y = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64)


def columns(z):
    return Columns(
        [dist.Normal(z[..., None], 0.5).to_event(1), dist.Poisson((0.3 * z[..., None]).exp()).to_event(1)],
        ["height", "children"],
    )


def model(x, y):
    """Two latent and two observed sites; one of these is a table with two columns."""
    with pyro.plate("data", len(x)):
        z1 = pyro.sample("z1", dist.Normal(x.new_zeros(()), 1.0))
        z2 = pyro.sample("z2", dist.Normal(0.5 * z1, 2.0))
        pyro.sample("x", columns(z2), obs=x)
        pyro.sample("y", dist.Bernoulli(logits=z1), obs=y)


def guide(x, y):
    with pyro.plate("data", len(x)):
        z1 = pyro.sample("z1", dist.Normal(x[:, 0], 0.5))
        pyro.sample("z2", dist.Normal(x[:, 1] - z1, 0.7))


def runs(num_particles, model=model, guide=guide, vectorized=True):
    objective = o.IWAE(num_particles, vectorize_particles=vectorized)
    objective.max_plate_nesting = 2
    seen = []
    objective.on_terms = seen.append
    pyro.set_rng_seed(3)
    loss = objective.loss(model, guide, X, Y)
    return seen[0], loss


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("num_particles", [1, 4])
def test_sites_are_worked_out_by_hand(num_particles, vectorized):
    terms, _ = runs(num_particles, vectorized=vectorized)
    z = {name: torch.stack([run["posterior"][name].value for run in terms.runs]) for name in ("z1", "z2")}
    z1, z2 = (value.reshape(num_particles, N) for value in z.values())
    expected = {
        "recon": {
            "x": dist.Normal(z2, 0.5).log_prob(X[:, 0]) + dist.Poisson((0.3 * z2).exp()).log_prob(X[:, 1]),
            "y": dist.Bernoulli(logits=z1).log_prob(Y),
        },
        "prior": {"z1": dist.Normal(0.0, 1.0).log_prob(z1), "z2": dist.Normal(0.5 * z1, 2.0).log_prob(z2)},
        "posterior": {
            "z1": dist.Normal(X[:, 0], 0.5).log_prob(z1),
            "z2": dist.Normal(X[:, 1] - z1, 0.7).log_prob(z2),
        },
    }
    for term, sites in expected.items():
        found = terms.by_site(term)
        assert found.keys() == sites.keys()
        for name, log_prob in sites.items():
            assert found[name].shape == terms.recon.shape
            torch.testing.assert_close(found[name].reshape(num_particles, N), log_prob, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(getattr(terms, term), sum(found.values()), rtol=1e-12, atol=1e-12)
    assert terms.num_particles == num_particles
    assert terms.examples == N


@pytest.mark.parametrize("vectorized", [True, False])
def test_named_factors_add_up_to_their_site(vectorized):
    terms, _ = runs(4, vectorized=vectorized)
    found = terms.by_factor("recon")
    assert found.keys() == {"x"}  # y has no named factors
    z2 = torch.stack([run["posterior"]["z2"].value for run in terms.runs]).reshape(terms.recon.shape)
    torch.testing.assert_close(found["x"]["height"], dist.Normal(z2, 0.5).log_prob(X[:, 0]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sum(found["x"].values()), terms.by_site("recon")["x"], rtol=1e-12, atol=1e-12)
    assert terms.by_factor("prior") == terms.by_factor("posterior") == {}


def test_factors_have_the_scale_the_mask_and_the_plates_of_their_site():
    mask = torch.tensor([True, False, True, True, False])

    def changed(program):
        return poutine.scale(poutine.mask(program, mask=mask), 0.3)

    plain, _ = runs(4)
    terms, _ = runs(4, changed(model), changed(guide))
    for name, log_prob in terms.by_factor("recon")["x"].items():
        expected = 0.3 * plain.by_factor("recon")["x"][name] * mask
        torch.testing.assert_close(log_prob, expected, rtol=1e-12, atol=1e-12)

    def in_a_plate_of_its_own(z):
        with pyro.plate("replicates", 3, dim=-2):
            pyro.sample("x", columns(z), obs=X[:3].expand(3, 3, 2))

    def with_replicates(x, y):
        with pyro.plate("data", 3):
            in_a_plate_of_its_own(pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0)))

    def of_z(x, y):
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Normal(x[:3, 0], 0.5))

    objective = o.IWAE(4)
    seen = []
    objective.on_terms = seen.append
    objective.loss(with_replicates, of_z, X, Y)
    (terms,) = seen
    found = terms.by_factor("recon")["x"]
    assert found["height"].shape == terms.recon.shape
    torch.testing.assert_close(found["height"] + found["children"], terms.recon, rtol=1e-12, atol=1e-12)
    z = terms.runs[0]["posterior"]["z"].value.reshape(4, 3)
    expected = 3 * dist.Normal(z, 0.5).log_prob(X[:3, 0])
    torch.testing.assert_close(found["height"].reshape(4, 3), expected, rtol=1e-12, atol=1e-12)


def test_a_subsample_is_scaled_in_sites_as_in_the_terms():
    def of_some(x, y, is_model):
        with pyro.plate("data", N, subsample_size=2) as index:
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0))
            if is_model:
                pyro.sample("x", columns(z), obs=x[index])

    guide_trace = poutine.trace(of_some).get_trace(X, Y, False)
    model_trace = poutine.trace(poutine.replay(of_some, guide_trace)).get_trace(X, Y, True)
    traces = [poutine.util.prune_subsample_sites(trace) for trace in (model_trace, guide_trace)]
    for trace in traces:
        trace.compute_log_prob()
    terms = read_terms([tuple(traces)])
    assert terms.data_size == N
    assert terms.scale == 5 / 2
    z, index = guide_trace.nodes["z"]["value"], guide_trace.nodes["data"]["value"]
    expected = columns(z).log_prob(X[index])  # without the factor of the plate
    torch.testing.assert_close(terms.recon[0], expected)
    torch.testing.assert_close(sum(terms.by_factor("recon")["x"].values())[0], expected)


def test_what_an_objective_notes_of_several_sites():
    objective = o.BetaELBO(1.0, 3)
    seen = []
    objective.on_terms = seen.append
    objective.loss(model, guide, X, Y)
    assert objective.terms.keys() == {"recon", "kl", "beta", "recon/x", "recon/y", "kl/z1", "kl/z2"}
    for term, names in (("recon", "xy"), ("kl", ("z1", "z2"))):
        total = sum(objective.terms[f"{term}/{name}"] for name in names)
        assert total.item() == pytest.approx(objective.terms[term].item(), rel=1e-12)
    recon = seen[0].by_site("recon")["y"].mean()
    assert objective.terms["recon/y"].item() == pytest.approx(recon.item(), rel=1e-12)


class WeightOfColumns(o.Objective):
    """The ELBO with a weight for each column of a table: what a user may write."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def objective(self, terms):
        by_column = terms.by_factor("recon")["x"]
        weighted = sum(self.weights[name] * log_prob for name, log_prob in by_column.items())
        return (terms.by_site("recon")["y"] + weighted - terms.kl).sum()


def test_an_objective_that_weighs_columns():
    losses = []
    for weights in ({"height": 1.0, "children": 1.0}, {"height": 0.0, "children": 1.0}):
        pyro.set_rng_seed(1)
        losses.append(float(WeightOfColumns(weights).loss(model, guide, X, Y)))
    pyro.set_rng_seed(1)
    assert losses[0] == pytest.approx(float(o.BetaELBO().loss(model, guide, X, Y)), rel=1e-12)
    pyro.set_rng_seed(1)
    _, guided = get_importance_trace("flat", 1, model, guide, (X, Y), {})
    height = dist.Normal(guided.nodes["z2"]["value"], 0.5).log_prob(X[:, 0]).sum()
    assert losses[1] - losses[0] == pytest.approx(height.item(), rel=1e-12)


def test_the_mean_of_the_weights_is_the_bound():
    terms, loss = runs(4)
    assert terms.log_mean(terms.weight).sum().item() == pytest.approx(-float(loss), rel=1e-12)
    expected = terms.weight.exp().mean(terms.dim).log().sum()
    assert float(loss) == pytest.approx(-expected.item(), rel=1e-12)
    assert math.isfinite(float(loss))


def test_what_has_named_factors():
    assert isinstance(columns(torch.zeros(3)), HasFactors)
    assert not isinstance(dist.Normal(0.0, 1.0), HasFactors)
    with pytest.raises(ValueError, match="names must differ from one another"):
        Columns([dist.Normal(torch.zeros(1), 1.0).to_event(1)] * 2, ["a", "a"])
