"""Tables: columns of different kinds."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyro_vae import likelihoods, nets
from pyro_vae.config import build, describe
from pyro_vae.data_checks import check_support
from pyro_vae.likelihoods import Mixed
from tests.likelihoods.cases import CASES, CODES, COLUMNS


class Exponential(nn.Module):
    """A user's likelihood, without net_shape."""

    def __init__(self, net: nn.Module, faster: float = 1.0) -> None:
        super().__init__()
        self.net, self.faster = net, faster

    def forward(self, z: Tensor) -> torch.distributions.Distribution:
        rate = nn.functional.softplus(self.net(z)) * self.faster
        return torch.distributions.Independent(torch.distributions.Exponential(rate), 1)


def test_density_is_the_sum_of_the_columns_densities_by_scipy():
    p, x = CASES["mixed"].with_mlp(), CASES["mixed"].x().numpy()
    out = p.net(CODES).detach().numpy()
    kinds = ("normal_learned", "bernoulli", "nb_per_element", "class_codes", "beta")
    expected, start = np.zeros(7), 0
    for i, (kind, k) in enumerate(zip(kinds, (1, 1, 2, 4, 2), strict=True)):
        raw = out[:, start : start + k].reshape(7, *((k, 1) if k > 1 else (1,)))
        expected += CASES[kind].log_density(p.parts[i], raw, x[:, i : i + 1])[:, 0]
        start += k
    np.testing.assert_allclose(p(CODES).log_prob(torch.from_numpy(x)).detach(), expected, rtol=1e-10)


def test_columns_keep_scales_of_their_own():
    p = Mixed(nets.MLP(2, (), 2), {"a": {"class": "Normal", "initial_scale": 0.1}, "b": "Normal"})
    assert [name for name, _ in p.named_parameters()][-2:] == ["parts.0.raw_scale", "parts.1.raw_scale"]
    torch.testing.assert_close(p(torch.zeros(1, 2)).variance.sqrt(), torch.tensor([[0.1, 0.5]]))


def test_likelihoods_by_name_path_class_and_partial_are_the_same():
    ways = [
        {"x": {"class": "Normal", "scale": 0.3}},
        {"x": {"class": "pyro_vae.likelihoods.Normal", "scale": 0.3}},
        {"x": {"class": "pyro_vae.likelihoods.Normal", "scale": 0.3}},
        {"x": {"class": likelihoods.Normal, "scale": 0.3}},
        {"x": functools.partial(likelihoods.Normal, scale=0.3)},
    ]
    net = nets.MLP(2, (), 1)
    x = torch.randn(3, 1)
    each = [Mixed(net, way)(torch.ones(3, 2)).log_prob(x) for way in ways]
    assert all(torch.equal(one, each[0]) for one in each)


def test_a_users_likelihood_is_a_column_as_well():
    p = Mixed(nets.MLP(2, (), 2), {"wait": functools.partial(Exponential, faster=2.0), "age": "Normal"})
    x = torch.tensor([[0.5, -1.0]])
    d = p(torch.zeros(1, 2))
    rate = nn.functional.softplus(p.net(torch.zeros(1, 2))[0, 0]) * 2
    alone = torch.distributions.Exponential(rate).log_prob(x[0, 0])
    torch.testing.assert_close(d.log_prob(x) - d.columns[1].log_prob(x[:, 1:]), alone.unsqueeze(0))
    with pytest.raises(
        ValueError, match=r"likelihood Mixed: column 'wait' needs x in \[0, ∞\); got values in \[-1, -1\]. Transf"
    ):
        check_support(p, d, torch.tensor([[-1.0, 0.0]]))


def test_described_with_classes_and_partials():
    columns = {"wait": functools.partial(Exponential, faster=2.0), "age": likelihoods.Normal}
    vae = build(2, latent_dim=2, hidden=(5,), likelihood={"class": "Mixed", "columns": columns})
    described = describe(vae.likelihood)
    assert described["columns"] == {
        "wait": {"class": "tests.likelihoods.test_mixed.Exponential", "faster": 2.0},
        "age": {"class": "Normal"},
    }
    again = build(2, latent_dim=2, hidden=(5,), likelihood=described)
    again.load_state_dict(vae.state_dict())
    assert torch.equal(again.decode(torch.ones(1, 2)).mean, vae.decode(torch.ones(1, 2)).mean)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, 0.5, r"column 'smoker' needs x in {0, 1}; got values in \[0, 1\], such as 0.5. Binarise"),
        (2, -1.0, r"column 'visits' needs x in {0, 1, 2, ...}; got values in \[-1, .*\]. Give the counts"),
        (3, 4.0, r"column 'grade' needs x in {0, 1, ..., 3}; got values in \[.*, 4\]. Give the levels"),
        (4, 1.0, r"column 'share' needs x in \(0, 1\); got values in \[.*, 1\]. Its density is"),
    ],
)
def test_errors_name_the_column(place, value, message):
    p, x = CASES["mixed"].with_mlp(), CASES["mixed"].x()
    check_support(p, p(CODES), x)
    x[4, place] = value
    with pytest.raises(ValueError, match="^likelihood Mixed: " + message):
        check_support(p, p(CODES), x)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "columns must be a mapping from the name of each column to its likelihood"),
        (["Normal"], "columns must be a mapping from the name of each column"),
        ({"a": "Norml"}, r"column 'a': unknown likelihood 'Norml'; there are Bernoulli, .*by dotted path"),
        ({"a": "no_such.Thing"}, "column 'a': likelihood 'no_such.Thing' cannot be imported"),
        ({"a": {"scale": 1.0}}, "column 'a' must name its likelihood under 'class'; got"),
        ({"a": {"class": "Normal", "skale": 1.0}}, "column 'a': likelihood Normal has no argument 'skale'"),
        ({"a": {"class": "Normal", "scale": -1.0}}, "column 'a': scale must be a finite number above 0.*; got -1.0"),
        ({"a": {"class": "Poisson", "df": 3.0}}, "column 'a': likelihood Poisson has no argument 'df'"),
        ({"a": nn.Linear}, "column 'a' must have a likelihood by name, or a class with an argument net"),
        (
            {"a": functools.partial(likelihoods.Normal, None)},
            "column 'a': give the arguments of functools.partial by name",
        ),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Mixed(nets.MLP(2, (), 1), columns)


@pytest.mark.parametrize("shape", [(4,), (6,), (1, 5)])
def test_the_number_of_columns_must_be_that_of_the_data(shape):
    with pytest.raises(ValueError, match=r"columns must name every column of x, in order; got 5 \(age, smoker, visits"):
        Mixed.net_shape(shape, COLUMNS)
    with pytest.raises(ValueError, match="columns must name every column"):
        build(shape, likelihood={"class": "Mixed", "columns": COLUMNS})


def test_a_net_of_another_size_is_refused():
    p = Mixed(nets.MLP(2, (), 9), COLUMNS)
    with pytest.raises(
        ValueError, match=r"needs a net whose output is \(batch, 10\): 1 for 'age', 1 for .*got \(1, 9\)"
    ):
        p(torch.zeros(1, 2))
