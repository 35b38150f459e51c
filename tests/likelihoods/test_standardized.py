"""Standardised numbers: the Jacobian, the closed forms of the log-normal, units, and everything else in these units."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from torch import nn

from pyro_vae import average_elbo, build, check, distributions, fit, likelihoods, load, nets
from pyro_vae.config import describe
from pyro_vae.distributions.observed import fill_missing, observed
from pyro_vae.likelihoods import Standardized
from pyro_vae.svi import CompiledSVI
from tests.likelihoods.cases import CODES, Raw

F64 = torch.float64
Z3 = torch.zeros(3, 2, dtype=F64)
INNER = ("Normal", "Laplace", {"class": "StudentT", "df": 3.0}, {"class": "Normal", "scale": "per_element"})
numbers = st.floats(-1e6, 1e6, allow_nan=False)
scales = st.floats(1e-3, 1e6)


def raw(inner, seed=0, elements=2):
    g = torch.Generator().manual_seed(seed)
    return Raw(torch.randn(3, *Standardized.net_shape((elements,), inner), generator=g, dtype=F64))


def of(inner, net, **options):
    return Standardized(net, inner, **options).double()(Z3)


def lognormal(**options):
    p = of("Normal", Raw(torch.tensor([[-1.0], [0.5], [2.0]], dtype=F64)), loc=0.25, scale=0.75, log=True, **options)
    s, m = 0.75 * p.base_dist.base_dist.scale[:, 0].detach().numpy(), 0.25 + 0.75 * np.array([-1.0, 0.5, 2.0])
    return p, m, stats.lognorm(s, scale=np.exp(m))


# Densities


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(INNER), numbers, scales, st.lists(st.floats(-6, 6), min_size=6, max_size=6))
def test_the_density_is_that_of_y_minus_the_log_of_the_scale(inner, loc, scale, ys):
    net, y = raw(inner), torch.tensor(ys, dtype=F64).reshape(3, 2)
    loc, scale = np.float32(loc).item(), np.float32(scale).item()  # as a buffer of float32 has them
    x = loc + scale * y
    rounding = 1e-15 * (abs(loc) / scale + 10)
    got, right = of(inner, net, loc=loc, scale=scale).log_prob(x), of(inner, net).log_prob(y) - 2 * math.log(scale)
    torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-9 + 1e3 * rounding)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(INNER), st.integers(-1000, 1000), st.integers(-6, 20), st.integers(-50, 50))
def test_units_change_the_density_by_the_jacobian_alone(inner, shift, power, loc):
    """x, loc and scale in other units, shifted and then scaled by a power of two: no rounding, so the same y."""
    net, x = raw(inner), torch.tensor([[0.5, -3.0], [2.25, 40.0], [-7.0, 1.0]], dtype=F64)
    factor = 2.0**power
    before = of(inner, net, loc=float(loc), scale=2.0).log_prob(x)
    after = of(inner, net, loc=factor * (loc + shift), scale=factor * 2.0).log_prob(factor * (x + shift))
    torch.testing.assert_close(after, before - 2 * math.log(factor), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inner", INNER)
def test_the_density_is_the_transformed_one_of_torch_and_of_the_family(inner):
    net, x = raw(inner), torch.tensor([[0.5, -3.0], [2.25, 40.0], [-7.0, 1.0]], dtype=F64)
    p, y = of(inner, net, loc=4.0, scale=2.5), of(inner, net).base_dist.base_dist
    torchs = dist.TransformedDistribution(y, dist.transforms.AffineTransform(4.0, 2.5)).to_event(1)
    torch.testing.assert_close(p.log_prob(x), torchs.log_prob(x))
    df = (y.df,) if isinstance(y, dist.StudentT) else ()
    same = type(y)(*df, 4.0 + 2.5 * y.loc, 2.5 * y.scale).to_event(1)
    for name in ("mean", "variance", "mode", "stddev"):
        torch.testing.assert_close(getattr(p, name), getattr(same, name))
    torch.testing.assert_close(p.log_prob(x), same.log_prob(x))
    torch.testing.assert_close(p.entropy(), same.entropy())


def test_log_normal_moments_mode_and_entropy_by_scipy():
    p, m, scipys = lognormal()
    x = torch.tensor([[0.01], [1.5], [30.0]], dtype=F64)
    np.testing.assert_allclose(p.log_prob(x).detach(), scipys.logpdf(x[:, 0].numpy()), rtol=1e-12)
    np.testing.assert_allclose(p.mean.detach()[:, 0], scipys.mean(), rtol=1e-7)
    np.testing.assert_allclose(p.variance.detach()[:, 0], scipys.var(), rtol=1e-6)
    np.testing.assert_allclose(p.stddev.detach()[:, 0], scipys.std(), rtol=1e-6)
    np.testing.assert_allclose(p.entropy().detach(), scipys.entropy(), rtol=1e-6)
    for i in range(3):
        highest = optimize.minimize_scalar(
            lambda t, i=i: -p.log_prob(torch.full((3, 1), math.exp(t), dtype=F64))[i].item(),
            bounds=(m[i] - 2, m[i] + 1),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert p.mode[i].item() == pytest.approx(math.exp(highest.x), rel=1e-5)
    total = integrate.quad(lambda x: p.log_prob(torch.full((3, 1), x, dtype=F64))[0].exp().item(), 0, 20)[0]
    assert total == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(("m", "s"), [(0.0, 1e-6), (-80.0, 9.0), (30.0, 0.1), (-200.0, 14.0)])
def test_log_normal_moments_do_not_cancel_or_overflow_in_between(m, s):
    p = distributions.Standardized(dist.Normal(torch.tensor(m), torch.tensor(s)), torch.zeros(()), torch.ones(()), True)
    m, v = p.base_dist.loc.double().item(), p.base_dist.scale.double().item() ** 2
    right = 2 * m + v + math.log(math.expm1(v))
    assert p.variance.log().item() == pytest.approx(max(right, -math.inf), rel=1e-4, abs=1e-2)
    assert p.stddev.log().item() == pytest.approx(right / 2, rel=1e-4, abs=1e-2)


def test_a_mean_beyond_the_range_is_said():
    p = distributions.Standardized(
        dist.Normal(torch.tensor([0.0, 90.0, 50.0]), 1.0), torch.zeros(()), torch.ones(()), True
    )
    with pytest.warns(UserWarning, match="mean of a log-normal is beyond the range of torch.float32, .* in 1 of 3"):
        assert p.mean.isinf().tolist() == [False, True, False]
    with pytest.warns(UserWarning, match="the variance of a log-normal is beyond .* in 2 of 3"):
        assert p.variance.isinf().tolist() == [False, True, True]
    with pytest.warns(UserWarning, match="the draw of a log-normal is beyond .* in 1 of 3"):
        assert p.sample().isinf().tolist() == [False, True, False]
    with pytest.warns(UserWarning, match="the standard deviation of a log-normal is beyond .* in 1 of 3"):
        assert p.stddev.isinf().tolist() == [False, True, False]


def test_float32_has_the_digits_of_the_data():
    """x = 10⁹ ± 10³ in float32: what is left of x is taken exactly; torch's own normal is half a nat off."""
    x = (1e9 + 1e3 * torch.randn(100, 1, generator=torch.Generator().manual_seed(0))).float()
    p = Standardized(nn.Flatten(), {"class": "Normal", "scale": 0.01}, loc=1e9, scale=1e3)
    z = ((x.double() - 1e9) / 1e3).float() + 0.01  # the net gives the mean of y
    right = stats.norm.logpdf(x.double().numpy(), 1e9 + 1e3 * z.double().numpy(), 10.0)[:, 0]
    np.testing.assert_allclose(p(z).log_prob(x), right, rtol=1e-5)
    naive = dist.Normal(1e9 + 1e3 * z, 10.0).log_prob(x)[:, 0].numpy()
    assert np.abs(naive - right).max() > 0.4
    assert p(z).log_prob(x).dtype == torch.float32


# loc and scale of each element


def test_each_element_may_have_its_own_loc_and_scale():
    net = raw("Normal", elements=3)
    loc, scale = [1.0, -2.0, 1e4], [0.5, 2.0, 1e3]
    p = of("Normal", net, loc=loc, scale=torch.tensor(scale))
    x = torch.tensor([[1.5, 0.0, 9e3]] * 3, dtype=F64)
    y = of("Normal", net).log_prob((x - torch.tensor(loc)) / torch.tensor(scale))
    torch.testing.assert_close(p.log_prob(x), y - sum(map(math.log, scale)))
    assert p.expand((4, 3)).log_prob(x).shape == (4, 3)
    torch.testing.assert_close(p.expand((4, 3)).log_prob(x)[2], p.log_prob(x))


def test_loc_and_scale_are_buffers_in_the_state_dict_and_the_configuration(tmp_path):
    spec = {"class": "Standardized", "likelihood": {"class": "Laplace", "scale": 0.5}, "loc": [1.0, 20.0], "scale": 3.0}
    vae = build(2, latent_dim=1, hidden=(4,), likelihood=spec)
    assert vae.likelihood.scale.dim() == 0
    assert {"likelihood.loc", "likelihood.scale"} <= set(vae.state_dict())
    described = describe(vae.likelihood)
    assert {name: described[name] for name in spec} == spec
    x = torch.randn(40, 2) * 3 + torch.tensor([1.0, 20.0])
    fit(vae, x, epochs=1, out=tmp_path / "run", seed=0, progress=False)
    again = load(tmp_path / "run")
    assert average_elbo(again, x, seed=0).elbo == average_elbo(vae, x, seed=0).elbo
    other = build(2, latent_dim=1, hidden=(4,), likelihood={**spec, "loc": 0.5})
    assert repr(other.likelihood).startswith("Standardized(\n  loc=0.5, scale=3\n")


def test_another_net_is_the_net():
    p = Standardized(nets.MLP(2, (), 3), loc=1.0)
    assert len(list(p.parameters())) == 3
    p.net = nn.Flatten()  # its output is the mean of y
    torch.testing.assert_close(p(torch.tensor([[1.0, 5.0]])).mean, torch.tensor([[2.0, 6.0]]))


# In a VAE


@pytest.mark.parametrize("inner", ["Normal", {"class": "StudentT", "df": 4.0}])
def test_the_unit_of_the_data_changes_log_p_by_the_jacobian_and_training_not_at_all(inner):
    """The encoder sees the same numbers, so the same seed gives the same weights, to the rounding of x."""
    y = torch.randn(60, 2, dtype=F64, generator=torch.Generator().manual_seed(3))
    found = []
    for loc, scale in ((0.0, 1.0), (1000.0, 2.0**10), (0.0, 2.0**-20)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            spec = {"class": "Standardized", "likelihood": inner, "loc": loc, "scale": scale}
            vae = build(2, latent_dim=1, hidden=(4,), likelihood=spec).double()
        z = torch.linspace(-2, 2, 60, dtype=F64)[:, None]
        optimizer = torch.optim.Adam(vae.likelihood.parameters(), 0.01)
        for _ in range(20):
            optimizer.zero_grad()
            log_p = vae.decode(z).log_prob(loc + scale * y)
            (-log_p.mean()).backward()
            optimizer.step()
        found.append(log_p.detach() + 2 * math.log(scale))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[2], found[0], rtol=1e-9, atol=1e-9)


def table(n=60, seed=0):
    y = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    x = torch.cat([1e4 + 300 * y[:, :1], (2 + y[:, 1:2]).exp(), (y[:, 2:] > 0).float()], 1)
    columns = {
        "height": {"class": "Standardized", "likelihood": "StudentT", "loc": 1e4, "scale": 300.0},
        "income": {"class": "Standardized", "loc": 2.0, "log": True},
        "smoker": "Bernoulli",
    }
    return x, {"class": "Mixed", "columns": columns}


def test_columns_of_a_table_with_missing_values():
    x, spec = table()
    holes = x.clone()
    holes[::2, 0] = holes[1::2, 1] = torch.nan
    vae = build(3, latent_dim=2, hidden=(4,), likelihood=spec, missing=True)
    mask = ~holes.isnan()
    p = vae.decode(torch.randn(60, 2))
    each = torch.stack([c.log_prob(x[:, i : i + 1]) for i, c in enumerate(p.columns)], 1)
    filled = fill_missing(p, holes, mask)
    got = observed(vae.likelihood, p, mask).log_prob(filled)
    torch.testing.assert_close(got, torch.where(mask, each, 0).sum(1))
    nn.init.zeros_(vae.posterior.net.layers[-1].weight)  # it sees raw numbers here
    imputed = vae.impute(holes, num_particles=5, mean=False, seed=0)
    assert imputed.isfinite().all()
    assert (imputed[:, 1] > 0).all()
    with pytest.raises(ValueError, match=r"column 'income' needs x in \(0, ∞\); got .* or use log=False"):
        average_elbo(vae, torch.tensor([[1e4, 0.0, 1.0]]))


@pytest.mark.slow
def test_a_step_as_a_graph_is_a_step_by_pyro(uncompiled):
    losses = []
    x, spec = table()
    for make in (pyro.infer.SVI, lambda *a, **k: CompiledSVI(*a, **k, mode="exact", fallback="error")):
        torch.manual_seed(0)
        vae = build(3, latent_dim=2, hidden=(4,), likelihood=spec)
        svi = make(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=pyro.infer.Trace_ELBO())
        pyro.set_rng_seed(1)
        losses.append([svi.step(x) for _ in range(3)])
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_the_cross_check_passes():
    x, spec = table()
    assert check(build(3, latent_dim=2, hidden=(8,), likelihood=spec), x, seed=0).passed


def optimal(running=None):
    p = Standardized(nn.Flatten(), {"class": "Normal", "scale": "optimal"}, loc=10.0, scale=4.0)
    assert p.depends_on_batch
    return p


def test_the_optimal_scale_is_of_y_and_of_observed_elements():
    p, z = optimal(), torch.zeros(5, 2)
    x = torch.tensor([[2.0, 18.0]] * 5)  # y = -2 and 2
    right = stats.norm.logpdf(x.numpy(), 10.0, 8.0).sum(1)
    np.testing.assert_allclose(p(z).log_prob(x), right, rtol=1e-6)
    assert p.part.running_variance.item() == pytest.approx(0.9 * 0.25 + 0.1 * 4.0)
    mask = torch.tensor([[True, False]]).expand(5, 2)
    masked = observed(p, p(z), mask).log_prob(torch.where(mask, x, 1e5))
    np.testing.assert_allclose(masked, right / 2, rtol=1e-6)
    np.testing.assert_allclose(p.eval()(z).stddev, 4 * p.part.running_variance.sqrt().expand(5, 2), rtol=1e-6)


class Correlated(nn.Module):
    """A user's likelihood that is no product over its elements."""

    location_scale, elementwise = True, False

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        return dist.MultivariateNormal(self.net(z), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))


def test_a_users_likelihood_that_is_no_product():
    p = Standardized(nn.Flatten(), Correlated, loc=[1.0, 2.0], scale=[2.0, 3.0])
    assert not p.elementwise
    d, x = p(torch.tensor([[0.5, -0.5]])), torch.tensor([[4.0, -1.0]])
    cov = np.array([[4.0, 3.0], [3.0, 9.0]])
    right = stats.multivariate_normal([2.0, 0.5], cov)
    assert d.log_prob(x).item() == pytest.approx(right.logpdf(x[0].numpy()), rel=1e-5)
    assert d.entropy().item() == pytest.approx(right.entropy(), rel=1e-5)
    assert d.sample((4,)).shape == (4, 1, 2)
    with pytest.raises(ValueError, match="is not a product over the elements of x"):
        observed(p, d, torch.ones(1, 2, dtype=torch.bool))


# The scale of the data


def said(spec, x, encoding=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = (
            {"class": "MLP", "encoding": {"class": "TableEncoding", "columns": encoding}}
            if encoding
            else {"class": "MLP"}
        )
        q = {"class": "DiagonalNormal", "net": net}
        vae = build(x.shape[1], latent_dim=2, hidden=(4,), likelihood=spec, posterior=q)
        fit(vae, x, epochs=1, progress=False, seed=0)
    return [str(w.message) for w in caught if "scale" in str(w.message) or "standardises" in str(w.message)]


ENCODING = [{"as": "number", "loc": 1e4, "scale": 300.0}, {"as": "number", "log": "log", "loc": 2.0}, {"as": "number"}]


def test_nothing_is_said_of_the_scale_of_standardised_data_and_of_other_data_in_units_of_y():
    x, spec = table()
    assert not said(spec, x, ENCODING)
    columns = {**spec["columns"], "height": {**spec["columns"]["height"], "loc": 0.0, "scale": 1.0}}
    (message,) = said({"class": "Mixed", "columns": columns}, x)
    assert "'height', standardised, from 9" in message
    assert "p(x | z) starts with a scale of 0.5" in message


def test_an_encoder_that_sees_x_as_it_is_is_said():
    x, spec = table()
    (message,) = said(spec, x)
    assert message.startswith("likelihood Mixed standardises x, posterior DiagonalNormal does not: its codes start")
    y = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    assert not said({"class": "Standardized", "loc": 10.0, "scale": 30.0}, 10 + 30 * y)  # a network takes such numbers


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loc": math.nan}, "loc must be a finite number, or such numbers in the shape of x; got nan"),
        ({"loc": 1e300}, r"loc must be a finite number, .*; got 1e\+300, as torch.float32"),
        ({"loc": "mean"}, "loc must be a finite number, .*; got 'mean'"),
        ({"loc": [[1.0], [2.0, 3.0]]}, r"loc must be a finite number, .*; got \[\[1.0\], \[2.0, 3.0\]\]"),
        ({"loc": []}, "loc must be a finite number, .*; got none"),
        ({"scale": 0.0}, "scale must be a finite number above 0, or such numbers in the shape of x; got 0"),
        ({"scale": [1.0, -2.0]}, "scale must be a finite number above 0, .*; got -2"),
        ({"scale": 1e-60}, "scale must be a finite number above 0, .*; got 1e-60, as torch.float32"),
        ({"scale": True}, "scale must be a finite number above 0, .*; got True"),
        ({"log": "yes"}, "log must be True or False; got 'yes'"),
        (
            {"likelihood": "Gamma"},
            r"needs a likelihood of numbers that may be shifted and scaled: Laplace, Normal, StudentT, or your own .*; "
            "got Gamma",
        ),
        ({"likelihood": "Norml"}, "likelihood Standardized: unknown likelihood 'Norml'; .* Did you mean 'Normal'"),
        ({"likelihood": {"scale": 1.0}}, "likelihood Standardized: unknown likelihood ''"),
        ({"likelihood": {"class": "Normal", "sd": 1.0}}, "Standardized: likelihood Normal has no argument 'sd'"),
        ({"likelihood": {"class": "Normal", "scale": -1.0}}, "Standardized: scale must be a finite number above 0"),
        (
            {"likelihood": "StudentT", "log": True},
            "with log=True needs a likelihood Normal of the logarithm; got Stude",
        ),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Standardized(nets.MLP(2, (), 3), **options)


def test_numbers_of_another_shape_than_x_are_refused():
    p = Standardized(nets.MLP(2, (), 3), loc=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"loc must be one number, or of the shape of x, \(3,\); got \(2,\)"):
        p(torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("y", "log", "message"),
    [
        (dist.Exponential(torch.ones(2)), False, "y must be over real numbers; got Exponential, over GreaterThanEq"),
        (dist.Laplace(torch.ones(2), 1.0), True, "with log=True, y must be normal; got Laplace"),
    ],
)
def test_distributions_over_other_numbers_are_refused(y, log, message):
    with pytest.raises(ValueError, match=message):
        distributions.Standardized(y, torch.tensor(0.0), torch.tensor(1.0), log)


def test_every_likelihood_that_says_so_may_be_standardised():
    inner = [name for name in likelihoods.__all__ if getattr(likelihoods, name).location_scale]
    assert inner == ["Laplace", "Normal", "Standardized", "StudentT"]
    twice = Standardized(nn.Flatten(), {"class": "Standardized", "loc": 1.0, "scale": 2.0}, loc=3.0, scale=4.0)(CODES)
    once = Standardized(nn.Flatten(), loc=7.0, scale=8.0)(CODES)  # 3 + 4 (1 + 2 y)
    torch.testing.assert_close(twice.log_prob(5 * CODES), once.log_prob(5 * CODES))
    torch.testing.assert_close(twice.mean, once.mean)


def test_parts_of_one_kind_are_stacked():
    """Columns of a kind with different numbers, as one part whose parameters and buffers have one number per column."""
    each = [Standardized(nn.Flatten(), loc=float(i), scale=2.0**i) for i in range(3)]
    parameters, buffers = torch.func.stack_module_state(each)
    assert {name: tuple(value.shape) for name, value in {**parameters, **buffers}.items()} == {
        "part.raw_scale": (3,),
        "loc": (3,),
        "scale": (3,),
    }
    out, x = torch.randn(5, 3), torch.randn(5, 3)
    together = torch.func.functional_call(each[0], {**parameters, **buffers}, (out,))
    apart = [p(out[:, i : i + 1]).log_prob(x[:, i : i + 1]) for i, p in enumerate(each)]
    torch.testing.assert_close(together.base_dist.log_prob(x), torch.stack(apart, 1))
