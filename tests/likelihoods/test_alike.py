"""Columns of a kind are evaluated together; everything is as if each were evaluated alone."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import product

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.nn.module import to_pyro_module_
from torch import nn

from pyro_vae import CompiledSVI, build, check, likelihoods, nets, objectives
from pyro_vae.distributions.columns import Columns
from pyro_vae.likelihoods import Mixed
from pyro_vae.likelihoods.alike import alike, side_by_side
from pyro_vae.parts import Likelihood
from pyro_vae.value_checks import without_validation
from tests.likelihoods.cases import CASES, draw

Z = torch.linspace(-1, 1, 28, dtype=torch.float64).reshape(2, 7, 2)  # codes (2, 7)
OF_A_COLUMN = {name: case for name, case in CASES.items() if name not in ("mixed", "normal_optimal")}


class Exponential(Likelihood):
    """A user's likelihood."""

    def __init__(self, net):
        super().__init__()
        self.net, self.raw = net, nn.Parameter(torch.zeros(()))

    def forward(self, z):
        rate = nn.functional.softplus(self.net(z) + self.raw)
        return torch.distributions.Independent(torch.distributions.Exponential(rate), 1)


def every_likelihood(each=3):
    """Each likelihood of the library with its options, as several columns in mixed order."""
    specs = {name: {"class": case.cls, **case.options} for name, case in OF_A_COLUMN.items()}
    specs |= {"user": {"class": Exponential}, "normal_optimal": {"class": likelihoods.Normal, "scale": "optimal"}}
    return {f"{name} {i}": spec for i in range(each) for name, spec in specs.items()}


def make(columns):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = Mixed.net_shape((len(columns),), columns)
        p = Mixed(nets.MLP(2, (5,), size, activation="Tanh"), columns).double()
        for tensor in [*p.parts.parameters(), *p.parts.buffers()]:
            tensor.data = tensor + torch.rand_like(tensor)
        return p


def alone(p, z):
    """The distribution by calling the likelihood of each column by itself."""
    pieces = p.net(z).split(p.sizes, dim=-1)
    return Columns([part(piece) for part, piece in zip(p.parts, pieces, strict=True)], list(p.columns))


def values(columns, n=7):
    g = torch.Generator().manual_seed(1)
    found = []
    for name in columns:
        case = CASES.get(name.split()[0])
        kind, options = (case.values, case.options) if case else ("positive", {})
        found.append(draw(kind, (n, 1), g, options.get("levels", 256), options.get("upper", 1.0)))
    return torch.cat(found, dim=-1)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


COLUMNS = every_likelihood()


def test_columns_of_a_kind_are_together_and_others_alone():
    p = make(COLUMNS)
    groups = {name: [tuple(g) for g in alike(p.parts) if list(COLUMNS)[g[0]].startswith(name + " ")] for name in CASES}
    kinds = len(COLUMNS) // 3
    for name in OF_A_COLUMN:
        if name != "student_learned":
            place = list(COLUMNS).index(f"{name} 0")
            assert (place, place + kinds, place + 2 * kinds) in groups[name], name
    assert all(len(g) == 1 for g in groups["normal_optimal"])
    assert len(p(Z).groups) == len(alike(p.parts))


@pytest.mark.parametrize("training", [True, False])
def test_log_prob_and_its_gradients_are_those_of_columns_alone(training):
    p, x = make(COLUMNS).train(training), values(COLUMNS)
    z = Z.clone().requires_grad_()
    weights = torch.rand(2, 7, dtype=torch.float64)
    found = []
    for d in (p(z), alone(p, z)):
        p.parts[list(COLUMNS).index("normal_optimal 0")].running_variance.fill_(1.0)  # training moves it
        log_prob = d.log_prob(x)
        found.append([log_prob, *torch.autograd.grad((log_prob * weights).sum(), [z, *p.parameters()])])
        found[-1] += d.factor_log_probs(x).values()
    assert (p(z).batch_shape, p(z).event_shape) == ((2, 7), (len(COLUMNS),))
    for together, by_itself in zip(*found, strict=True):
        close(together, by_itself)


def test_moments_supports_and_columns_are_those_of_columns_alone():
    p, x = make(COLUMNS).eval(), values(COLUMNS)
    together, by_itself = p(Z), alone(p, Z)
    close(together.mean, by_itself.mean)
    close(together.variance, by_itself.variance)
    wrong = x.clone()
    wrong[1, 0], wrong[2] = -0.5, -0.5
    for rows in (x, wrong):
        assert torch.equal(together.support.check(rows), by_itself.support.check(rows))
    for i, (column, expected) in enumerate(zip(together.columns, by_itself.columns, strict=True)):
        assert (column.batch_shape, column.event_shape) == (expected.batch_shape, expected.event_shape)
        close(column.log_prob(x[:, i : i + 1]), expected.log_prob(x[:, i : i + 1]))
        close(column.mean, expected.mean)
        wide = column.expand((4, 2, 7))
        assert wide.batch_shape == (4, 2, 7)
        close(wide.log_prob(x[:, i : i + 1]), expected.log_prob(x[:, i : i + 1]).expand(4, 2, 7))
        assert column.sample((5,)).shape == (5, 2, 7, 1)


def test_gaps_and_other_batch_shapes_are_those_of_columns_alone():
    p, x = make(COLUMNS).eval(), values(COLUMNS)
    mask = torch.rand(7, len(COLUMNS), generator=torch.Generator().manual_seed(2)) < 0.7
    for together, by_itself in ((p(Z), alone(p, Z)), (p(Z).expand((3, 2, 7)), alone(p, Z).expand((3, 2, 7)))):
        close(together.observed(mask).log_prob(x), by_itself.observed(mask).log_prob(x))
        of_columns = together.observed(mask).factor_log_probs(x)
        close(torch.stack(list(of_columns.values())).sum(0), together.observed(mask).log_prob(x))
        assert all((log_prob[..., ~m] == 0).all() for log_prob, m in zip(of_columns.values(), mask.T, strict=True))
        assert together.observed(mask).expand((5, *together.batch_shape)).log_prob(x).shape[0] == 5


def test_draws_have_the_moments_of_their_columns():
    """By chance, one of the 2 x 90 means and variances is beyond 6 standard errors once in 10⁶ times."""
    columns = {name: spec for name, spec in COLUMNS.items() if "user" not in name and "student" not in name}
    p = make(columns).eval()
    d = p(Z[0, :1])
    torch.manual_seed(0)
    n = 20_000
    x = d.sample((n,))
    assert d.support.check(x).all()
    centred = x - d.mean
    assert (centred.mean(0).abs() <= 6 * (d.variance / n).sqrt()).all()
    spread = (centred**4).mean(0) - d.variance**2
    assert (((centred**2).mean(0) - d.variance).abs() <= 6 * (spread / n).sqrt()).all()


def test_draws_that_have_gradients_have_them_together():
    columns = {name: spec for name, spec in COLUMNS.items() if name.startswith(("normal_l", "laplace", "gamma"))}
    p = make(columns)
    d = p(Z)
    assert d.has_rsample
    torch.manual_seed(0)
    x = d.rsample((3,))
    assert x.shape == (3, 2, 7, len(columns))
    # d x / d loc = 1, column by column.
    place = list(columns).index("normal_learned 1")
    start = sum(p.sizes[:place])
    (gradient,) = torch.autograd.grad(x[..., place].sum(), p.net.layers[-1].bias)
    expected = torch.zeros_like(gradient)
    expected[start] = 3 * 2 * 7
    close(gradient, expected)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)))
def test_a_permutation_of_columns_permutes_everything(order):
    names = ("normal_learned", "bernoulli", "class_codes", "nb_per_element")
    columns = {f"{name} {i}": COLUMNS[f"{name} {i}"] for i in range(3) for name in names}
    p, x = make(columns).eval(), values(columns)
    out = p.net(Z).split(p.sizes, dim=-1)
    q = Mixed(nn.Identity(), {name: columns[name] for name in (list(columns)[i] for i in order)}).double()
    for part, i in zip(q.parts, order, strict=True):
        part.load_state_dict(p.parts[i].state_dict())
    d, e = p(Z), q(torch.cat([out[i] for i in order], dim=-1))
    close(e.log_prob(x[:, order]), d.log_prob(x))
    close(e.mean, d.mean[..., order])
    close(e.variance, d.variance[..., order])
    log_probs = d.factor_log_probs(x)
    for name, log_prob in e.factor_log_probs(x[:, order]).items():
        close(log_prob, log_probs[name])
    mask = x > x.median(0).values
    close(e.observed(mask[:, order]).log_prob(x[:, order]), d.observed(mask).log_prob(x))


def two(**options):
    return Mixed(nets.MLP(2, (), 2), {"a": {"class": "Normal", **options}, "b": {"class": "Normal", **options}})


def test_what_differs_between_parts_keeps_them_apart():
    assert alike(two().parts) == alike(two(initial_scale=2.0).parts) == [[0, 1]]
    columns = {"a": {"class": "Normal", "initial_scale": 2.0}, "b": "Normal"}
    p = Mixed(nets.MLP(2, (), 2), columns)
    assert alike(p.parts) == [[0, 1]]
    close(p(torch.zeros(1, 2)).variance.sqrt(), torch.tensor([[2.0, 0.5]]))
    standardized = {name: {"class": "Standardized", "loc": loc} for name, loc in (("a", 1.0), ("b", 2e3))}
    p = Mixed(nets.MLP(2, (), 2), standardized)
    assert alike(p.parts) == [[0, 1]]
    assert torch.equal((p(torch.zeros(1, 2)).mean - p.net(torch.zeros(1, 2))).round(), torch.tensor([[1.0, 2e3]]))
    for columns in (
        {"a": {"class": "Normal", "scale": 0.3}, "b": {"class": "Normal", "scale": 0.4}},
        {"a": "Normal", "b": {"class": "Normal", "scale": 0.5}},
        {"a": "Normal", "b": "Laplace"},
        {"a": {"class": "Categorical", "levels": 3}, "b": {"class": "Categorical", "levels": 4}},
        {"a": {"class": "Normal", "scale": "optimal"}, "b": {"class": "Normal", "scale": "optimal"}},
        {"a": Exponential, "b": Exponential},
    ):
        p = Mixed(nn.Identity(), columns)
        assert alike(p.parts) == [[0], [1]], columns


def test_a_part_that_was_changed_is_evaluated_as_it_is_now():
    z, x = torch.randn(5, 2), torch.randn(5, 2)

    def same(p):
        p(z)
        close(p(z).log_prob(x), alone(p, z).log_prob(x))

    p = two()
    p.parts[1].raw_scale.data.fill_(3.0)
    assert len(p(z).groups) == 1
    same(p)
    p.parts[1].raw_scale = nn.Parameter(torch.zeros(1))  # one number in another shape
    same(p)
    p = two(scale=1.0)
    p.parts[0].scale = 2.0
    assert len(p(z).groups) == 2
    same(p)
    p = two()
    p.parts[0].net = nn.Sequential(p.parts[0].net, nn.Tanh())
    assert len(p(z).groups) == 2
    same(p)
    p = two()
    calls = []
    p.parts[0].register_forward_hook(lambda *_: calls.append(1))
    p(z)
    assert calls == [1]
    p = two()
    p.parts[0].forward = lambda z: torch.distributions.Independent(torch.distributions.Laplace(z, 1.0), 1)
    same(p)
    p = two()
    p.parts[0].double()
    assert len(p(z).groups) == 2


def test_copies_pickles_and_dtypes():
    p = two()
    z, x = torch.randn(5, 2), torch.randn(5, 2)
    expected = p(z).log_prob(x)
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert torch.equal(q(z).log_prob(x), expected)
        q.parts[0].raw_scale.data.fill_(2.0)
        assert torch.equal(p(z).log_prob(x), expected)
    assert copy.deepcopy(p).double()(z.double()).log_prob(x.double()).dtype == torch.float64
    d = pickle.loads(pickle.dumps(p(z)))
    assert torch.equal(d.log_prob(x), expected)
    with without_validation():
        on_meta = copy.deepcopy(p).to("meta")(z.to("meta"))
        assert on_meta.log_prob(x.to("meta")).device.type == "meta"
    assert list(p.state_dict()) == [
        "net.layers.0.weight",
        "net.layers.0.bias",
        "parts.0.raw_scale",
        "parts.1.raw_scale",
    ]


TABLE = {
    **{f"real {i}": "Normal" for i in range(3)},
    **{f"class {i}": {"class": "Categorical", "levels": 3, "upper": 2} for i in range(2)},
    **{f"count {i}": "NegativeBinomial" for i in range(2)},
}


def a_table(n=6):
    g = torch.Generator().manual_seed(3)
    each = {"real": lambda: torch.randn(n, 3, generator=g), "class": lambda: torch.randint(3, (n, 2), generator=g)}
    return torch.cat([each["real"](), each["class"](), torch.poisson(torch.full((n, 2), 4.0), generator=g)], dim=1)


def a_vae(**options):
    torch.manual_seed(0)
    return build(7, 2, hidden=(4,), likelihood={"class": "Mixed", "columns": TABLE}, **options)


def several():
    return objectives.IWAE(num_particles=2)


@pytest.mark.parametrize(
    ("loss", "missing"),
    [
        (Trace_ELBO, True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in product((TraceMeanField_ELBO, several), (False, True))
        ),
    ],
)
def test_steps_are_captured_and_give_pyros_numbers(loss, missing):
    x = a_table()
    if missing:
        x[1, 0] = x[2, 4] = x[3] = torch.nan
    found = []
    for kind, more in ((SVI, {}), (CompiledSVI, {"mode": "exact", "fallback": "error", "audit": False})):
        vae = a_vae(missing=missing)
        svi = kind(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), loss(), **more)
        pyro.set_rng_seed(0)
        losses = [svi.step(x) for _ in range(4)]
        found.append([*losses, *(p.detach().clone() for p in vae.parameters())])
        pyro.clear_param_store()
    assert svi.captures == 1
    for by_pyro, captured in zip(*found, strict=True):
        assert torch.equal(torch.as_tensor(by_pyro), torch.as_tensor(captured))


@pytest.mark.slow
def test_the_cross_check_passes():
    """About 20 lines compare estimates, each at one false alarm in 10,000 seeds; the seed is fixed."""
    report = check(a_vae(), a_table(), repeats=20)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]


@pytest.mark.slow
def test_compiled_by_torch():
    p = Mixed(nets.MLP(2, (4,), Mixed.net_shape((7,), TABLE)), TABLE)
    z, x = torch.randn(6, 2), a_table()
    compiled = torch.compile(lambda z, x: p(z).log_prob(x), backend="eager")
    torch.testing.assert_close(compiled(z, x), p(z).log_prob(x))


def test_pyro_modules_are_evaluated_alone():
    p = two()
    z, x = torch.randn(5, 2), torch.randn(5, 2)
    expected = p(z).log_prob(x)
    to_pyro_module_(p)
    close(p(z).log_prob(x), expected)
    assert set(pyro.get_param_store()) == {name for name, _ in p.named_parameters()}
    pyro.clear_param_store()


def test_side_by_side_leaves_the_parts_as_they_are():
    p = two()
    before = dict(p.named_parameters())
    together = side_by_side(p.parts)
    assert together.raw_scale.shape == (2, 1)
    assert all(p.get_parameter(name) is tensor for name, tensor in before.items())
    d = together.forward(torch.zeros(4, 2, 1))
    assert (d.batch_shape, d.event_shape) == ((4, 2), (1,))
    assert math.isclose(d.stddev[0, 1, 0].item(), 0.5, rel_tol=1e-6)
