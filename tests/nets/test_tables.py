"""The encoding of tables: numbers, one-hot vectors and embeddings, between and beyond codes, with gaps, in networks."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyro_vae import build, fit, load, nets, priors
from pyro_vae.config import describe
from pyro_vae.nets import TableEncoding
from pyro_vae.svi import CompiledSVI

F64 = torch.float64
COLUMNS = [
    {"as": "one_hot", "values": 5},
    {"as": "number", "loc": 3.0, "scale": 2.0},
    {"as": "embedding", "values": 7, "width": 3},
    {"as": "number", "log": "log", "loc": 1.0, "scale": 0.5},
    {"as": "embedding", "values": 20, "width": 2},
    {"as": "number", "log": "log1p"},
    {"as": "one_hot", "values": 1},
    {"as": "embedding", "values": 4, "width": 3},
    {"as": "number"},
]
ORDER = [1, 8, 3, 5, 0, 6, 4, 2, 7]  # numbers as they are, log, log1p; one-hot; embeddings by width


def rows(n=50, seed=0, columns=COLUMNS):
    """Data that such columns have."""
    rng = np.random.default_rng(seed)
    positive = {"log": 1e-3, "log1p": 0.0}
    each = [
        rng.integers(0, c["values"], n)
        if "values" in c
        else positive[c["log"]] + rng.lognormal(size=n)
        if c.get("log")
        else rng.normal(3, 2, n)
        for c in columns
    ]
    return torch.tensor(np.stack(each, 1), dtype=F64)


def by_hand(encoding, place, x):
    """The features of one column, by loops of NumPy; between codes by np.interp, which is flat outside."""
    column = encoding.columns[place]
    if column["as"] == "number":
        y = {"log": np.log, "log1p": np.log1p, None: np.asarray}[column.get("log")](x)
        return ((y - column.get("loc", 0.0)) / column.get("scale", 1.0))[:, None]
    codes = np.arange(column["values"])
    if column["as"] == "one_hot":
        table = np.eye(column["values"])
    else:
        same = [c for c in encoding.columns if c.get("width") == column["width"]]
        (kind,) = (
            k
            for k in encoding.kinds
            if isinstance(getattr(k, "table", None), nn.Embedding) and k.table.embedding_dim == column["width"]
        )
        start = sum(c["values"] for c in same[: [c is column for c in same].index(True)])
        table = kind.table.weight.detach().numpy()[start : start + column["values"]]
    return np.stack([np.interp(x, codes, table[:, i]) for i in range(table.shape[1])], 1)


def test_features_are_those_of_each_column_by_hand():
    encoding, x = TableEncoding(COLUMNS).double(), rows()
    got = encoding(x)
    right = np.concatenate([by_hand(encoding, place, x[:, place].numpy()) for place in ORDER], 1)
    np.testing.assert_allclose(got.detach(), right, rtol=1e-12, atol=1e-12)
    assert got.shape == (50, encoding.features)
    assert encoding.features == 4 + 6 + 2 + 6
    assert encoding.inputs == 9
    torch.testing.assert_close(encoding.float()(x.float()), got.float(), rtol=1e-5, atol=1e-5)


def test_codes_are_exact_in_float32():
    one_hot = TableEncoding([{"as": "one_hot", "values": 300}, {"as": "one_hot", "values": 2}])
    x = torch.stack([torch.arange(300.0), torch.arange(300.0) % 2], 1)
    assert torch.equal(one_hot(x), torch.cat([torch.eye(300), torch.eye(2).repeat(150, 1)], 1))
    embedding = TableEncoding([{"as": "embedding", "values": 300, "width": 4}])
    assert torch.equal(embedding(x[:, :1]), embedding.kinds[0].table.weight)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 10), min_size=9, max_size=9))
def test_the_encoding_is_linear_between_codes_and_flat_outside(values):
    encoding, x = TableEncoding(COLUMNS).double(), torch.tensor([values], dtype=F64)
    got, start = encoding(x).detach()[:, 4:], 0
    for place in ORDER[4:]:
        right = by_hand(encoding, place, x[:, place].numpy())
        np.testing.assert_allclose(got[:, start : start + right.shape[1]], right, rtol=1e-9, atol=1e-12)
        start += right.shape[1]
    assert got.isfinite().all()


def test_x_between_codes_gets_its_gradient():
    encoding = TableEncoding(COLUMNS).double()
    x = (rows(3) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(encoding, (x,))
    (gradient,) = torch.autograd.grad((encoding(x) * torch.linspace(1, 2, encoding.features).double()).sum(), x)
    inside = torch.tensor([c.get("values", math.inf) for c in COLUMNS]) - 1 > x
    assert ((gradient != 0) == inside).all()
    assert inside.float().mean() > 0.7


# Logarithms


def test_logarithms_are_exact_for_data_and_go_on_without_a_kink_below_them():
    encoding = TableEncoding([{"as": "number", "log": "log", "loc": 2.0, "scale": 0.5}]).double()
    data = torch.logspace(-1.3, 4, 100, dtype=F64)[:, None]
    np.testing.assert_allclose(encoding(data), (np.log(data.numpy()) - 2) / 0.5, rtol=1e-12, atol=1e-12)
    least = math.exp(2.0 - 10 * 0.5)
    near = (least * torch.linspace(0.9, 1.1, 201, dtype=F64))[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(encoding(near).sum(), near)
    torch.testing.assert_close(slope, 1 / (0.5 * (least + (near - least).abs())).detach(), rtol=1e-9, atol=0)
    x = torch.tensor([[-1e6], [-1.0], [0.0], [least], [0.1]], dtype=F64).requires_grad_()
    y = encoding(x)
    assert (y.diff(dim=0) > 0).all()
    assert y[2].item() == pytest.approx(-10 - math.log(2) / 0.5)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (slope > 0).all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("log", ["log", "log1p", None])
@pytest.mark.parametrize("value", [-1e30, -1.0, 0.0, 1e-38, 1e30])
def test_numbers_of_any_size_and_their_gradients_are_finite_in_float32(log, value):
    encoding = TableEncoding([{"as": "number", "log": log, "loc": 1.0, "scale": 3.0}])
    x = torch.tensor([[value]]).requires_grad_()
    y = encoding(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert slope.isfinite().all()


def test_large_numbers_keep_their_digits():
    encoding = TableEncoding([{"as": "number", "loc": 1e9, "scale": 1e3}])
    x = torch.tensor([[1e9 + 640.0], [1e9 - 1280.0]])  # steps of 64 in float32
    assert encoding(x).flatten().tolist() == pytest.approx([0.64, -1.28], rel=1e-6)


# Missing values


@pytest.mark.parametrize("fill", [0.0, -7.5, 1e30, math.nan, math.inf])
def test_features_of_missing_values_are_zero_whatever_fills_the_gap(fill):
    complete, encoding = TableEncoding(COLUMNS).double(), TableEncoding(COLUMNS, missing=True).double()
    encoding.load_state_dict(complete.state_dict())
    x, mask = rows(), torch.rand(50, 9, generator=torch.Generator().manual_seed(0)) > 0.4
    got = encoding(torch.cat([torch.where(mask, x, fill), mask.double()], 1))
    seen = mask[:, complete.owners]
    assert torch.equal(got[:, :-9], torch.where(seen, complete(x), 0.0))
    assert torch.equal(got[:, -9:], mask.double())
    assert (encoding.inputs, encoding.features) == (18, complete.features + 9)
    got.sum().backward()
    assert all(p.grad.isfinite().all() for p in encoding.parameters())


def test_gradients_with_gaps_are_finite_and_masks_between_zero_and_one_scale_the_features():
    encoding = TableEncoding(COLUMNS, missing=True).double()
    both = torch.cat([rows(4) + 0.3, torch.tensor([[0.0, 1.0, 0.5] * 3] * 4, dtype=F64)], 1).requires_grad_()
    out = encoding(both)
    (gradient,) = torch.autograd.grad(out.square().sum(), both)
    assert gradient.isfinite().all()
    assert (gradient[:, 0:9:3] == 0).all()  # missing
    of_feature = both[:, 9:].index_select(1, encoding.owners)
    whole = encoding(torch.cat([both[:, :9], torch.ones(4, 9)], 1))[:, :-9]
    torch.testing.assert_close(out[:, :-9], whole * of_feature)


def test_pseudo_inputs_of_a_prior_learn_every_number_and_mask():
    encoding = {"class": "TableEncoding", "columns": COLUMNS, "missing": True}
    q = {"class": "DiagonalNormal", "net": {"class": "MLP", "encoding": encoding}}
    vae = build(
        9, 2, hidden=(8,), posterior=q, missing=True, likelihood="Normal", prior={"class": "vamp", "components": 3}
    )
    assert isinstance(vae.prior, priors.VampPrior)
    with torch.no_grad():
        vae.prior.pseudo_inputs.copy_(torch.cat([rows(3).clamp_max(2.0) * 0.5 + 0.2, torch.full((3, 9), 0.8)], 1))
    vae.prior().log_prob(torch.randn(2)).backward()
    gradient = vae.prior.pseudo_inputs.grad
    assert gradient.isfinite().all()
    constant = 6  # one value
    assert ((gradient != 0).all(0) == (torch.arange(18) != constant)).all()


# In networks


@pytest.mark.parametrize("make", [nets.MLP, nets.GatedMLP])
@pytest.mark.parametrize("given", ["module", "mapping"])
def test_a_net_is_that_of_the_features(make, given):
    spec = {"class": "TableEncoding", "columns": COLUMNS}
    net = make(9, (6,), 4, context_features=2, encoding=spec if given == "mapping" else TableEncoding(COLUMNS)).double()
    plain = make(net.encoding.features, (6,), 4, context_features=2).double()
    plain.layers.load_state_dict(net.layers.state_dict())
    x, c = rows(10), torch.randn(10, 2, dtype=F64)
    assert torch.equal(net(x, c), plain(net.encoding(x), c))
    assert net.in_shape == (9,)
    with pytest.raises(ValueError, match=r"needs input of shape \(batch, 9\); got \(10, 8\)"):
        net(x[:, :8], c)


def test_a_run_with_an_encoding_comes_back(tmp_path):
    encoding = {"class": "TableEncoding", "columns": COLUMNS, "missing": True}
    q = {"class": "DiagonalNormal", "net": {"class": "GatedMLP", "encoding": encoding}}
    vae = build(9, 2, hidden=(8,), posterior=q, missing=True, likelihood="Normal")
    assert describe(vae.posterior)["net"]["encoding"] == encoding
    x = rows().float()
    x[::3, ::2] = math.nan
    fit(vae, x, epochs=1, out=tmp_path / "run", progress=False)
    again = load(tmp_path / "run", allow=[])
    assert torch.equal(again.codes(x), vae.codes(x))
    assert describe(again.posterior) == describe(vae.posterior)


@pytest.mark.slow
def test_a_step_as_a_graph_is_a_step_by_pyro(uncompiled):
    encoding = {"class": "TableEncoding", "columns": COLUMNS, "missing": True}
    q, losses, x = {"class": "DiagonalNormal", "net": {"class": "MLP", "encoding": encoding}}, [], rows().float()
    x[::3, ::2] = math.nan
    for make in (pyro.infer.SVI, lambda *a, **k: CompiledSVI(*a, **k, mode="exact", fallback="error")):
        torch.manual_seed(0)
        prior = {"class": "vamp", "components": 3}
        vae = build(9, 2, hidden=(8,), posterior=q, missing=True, likelihood="Normal", prior=prior)
        svi = make(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=pyro.infer.Trace_ELBO())
        pyro.set_rng_seed(1)
        losses.append([svi.step(x) for _ in range(3)])
    assert losses[0] == losses[1]


# Bad input


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([], r"columns must be a list with one mapping for each column, .*; got \[\]"),
        ({"age": {"as": "number"}}, "columns must be a list with one mapping for each column"),
        (["number"], r"columns\[0\] must be a mapping that says what it is encoded as, in 'as'; got 'number'"),
        ([{"as": "number"}, {"loc": 1.0}], r"columns\[1\] must be a mapping that says what it is encoded as"),
        ([{"as": "onehot"}], r'columns\[0\]: as must be "number", "one_hot" or "embedding"; got \'onehot\''),
        ([{"as": "number", "mean": 1.0}], r"columns\[0\]: number has no 'mean'; it has loc, scale, log"),
        ([{"as": "one_hot", "value": 3}], r"one_hot has no 'value'; it has values. Did you mean values\?"),
        ([{"as": "number", "loc": math.nan}], r"columns\[0\]: loc must be a finite number; got nan"),
        ([{"as": "number", "scale": 0.0}], r"columns\[0\]: scale must be a finite number above 0; got 0.0"),
        ([{"as": "number", "log": True}], r'columns\[0\]: log must be "log" or "log1p"; got True'),
        ([{"as": "one_hot"}], r"columns\[0\]: one_hot needs 'values'; got {'as': 'one_hot'}"),
        ([{"as": "one_hot", "values": 0}], r"columns\[0\]: values must be an integer of at least 1; got 0"),
        ([{"as": "embedding", "values": 3}], r"columns\[0\]: embedding needs 'width'"),
        ([{"as": "embedding", "values": 3, "width": 1.5}], r"width must be an integer of at least 1; got 1.5"),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        TableEncoding(columns)


def test_encodings_that_do_not_fit_are_refused():
    spec = {"class": "TableEncoding", "columns": COLUMNS}
    with pytest.raises(ValueError, match="missing must be True or False; got 1"):
        TableEncoding(COLUMNS, missing=1)
    with pytest.raises(
        ValueError, match=r"TableEncoding needs rows of 18 numbers: 9 values and their mask; got \(5, 9\)"
    ):
        TableEncoding(COLUMNS, missing=True)(rows(5))
    message = r"MLP has input of shape \(18,\), and its encoding TableEncoding takes 9 numbers. With missing=True it"
    with pytest.raises(ValueError, match=message):
        nets.MLP(18, (), 2, encoding=spec)
    with pytest.raises(ValueError, match="MLP takes log1p=True or an encoding, not both. In an encoding, a column may"):
        nets.MLP(9, (), 2, encoding=spec, log1p=True)
    with pytest.raises(
        ValueError, match="the encoding of MLP must have the attributes inputs and features; Flatten has"
    ):
        nets.MLP(9, (), 2, encoding=nn.Flatten())
    with pytest.raises(ValueError, match="unknown encoding 'TableEncodin'; there are TableEncoding"):
        nets.MLP(9, (), 2, encoding={**spec, "class": "TableEncodin"})
    q = {"class": "DiagonalNormal", "net": {"class": "MLP", "encoding": {"class": "TableEncoding"}}}
    with pytest.raises(ValueError, match="net TableEncoding.* cannot be made from .*: .*missing.* argument: 'columns'"):
        build(9, 2, posterior=q)
