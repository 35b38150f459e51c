"""Any model and guide taken apart: the three log-densities are those of the programs, whatever the number of draws."""

from __future__ import annotations

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch import nn
from torch.distributions import kl_divergence

from pyro_vae import VAE, likelihoods, nets, posteriors, priors
from pyro_vae.config import build
from pyro_vae.model_guide import ModelGuide, kept_store, model_and_guide, owner_of
from tests.conftest import make_context, make_vae, make_x


@pytest.fixture
def store():
    yield
    pyro.clear_param_store()


def test_terms_are_the_densities_of_the_three_distributions(case):
    vae, x, *c = case
    p = ModelGuide(vae, x, *c)
    z = vae.encode(x, *c).sample((3,))
    terms = p.terms(z)
    for draw in range(3):
        torch.testing.assert_close(terms.recon[draw], vae.decode(z[draw], *c).log_prob(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.prior, vae.prior_of(*c).log_prob(z), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.posterior, vae.encode(x, *c).log_prob(z), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.weight, terms.recon + terms.prior - terms.posterior)
    torch.testing.assert_close(p.log_posterior(z), terms.posterior)
    torch.testing.assert_close(p.log_prior(z), terms.prior)


def test_the_kl_in_closed_form_is_that_of_one_particle():
    vae, x = make_vae(), make_x()
    p = ModelGuide(vae, x)
    exact = kl_divergence(vae.encode(x), vae.prior_of())
    torch.testing.assert_close(p.draw_terms(1).analytic_kl(), exact.unsqueeze(0))
    for pair in (p, p.rows(0, 1)):
        with pytest.raises(ValueError, match=r"site 'z': the model ran on rows repeated for 3 particles.*one particle"):
            pair.draw_terms(3).analytic_kl()


def test_a_pair_of_functions_is_the_same_as_a_vae():
    vae, x = make_vae(), make_x()
    z = vae.encode(x).sample((2,))
    pair = (lambda x: vae.model(x), lambda x: vae.guide(x))
    torch.testing.assert_close(ModelGuide(pair, x).terms(z).totals, ModelGuide(vae, x).terms(z).totals, rtol=0, atol=0)
    assert ModelGuide(pair, x).modules == []
    assert ModelGuide((vae.model, vae.guide), x).modules == [vae]


def test_scales_are_left_out_and_masks_are_not():
    vae, x = make_vae(), make_x()
    z = vae.encode(x).sample((2,))
    plain = ModelGuide(vae, x).terms(z)
    scaled = (poutine.scale(vae.model, 10.0), poutine.scale(vae.guide, 10.0))
    torch.testing.assert_close(ModelGuide(scaled, x).terms(z).totals, plain.totals, rtol=0, atol=0)

    def masked(x):
        with poutine.mask(mask=torch.arange(len(x)) % len(make_x()) != 0):
            return vae.model(x)

    seen = ModelGuide((masked, vae.guide), x).terms(z).recon
    assert (seen[:, 0] == 0).all()
    torch.testing.assert_close(seen[:, 1:], plain.recon[:, 1:], rtol=0, atol=0)


def test_what_is_missing_goes_along_by_name():
    vae = build(4, 2, hidden=(5,), missing=True).double()
    x = torch.ones(6, 4, dtype=torch.float64)
    mask = torch.arange(24).reshape(6, 4) % 3 > 0
    p = ModelGuide(vae, x, mask=mask)
    z = vae.encode(x, mask=mask).sample((2,))
    expected = [vae.observed(vae.decode(d), x, mask)[0].log_prob(x) for d in z]
    torch.testing.assert_close(p.log_likelihood(z), torch.stack(expected))
    torch.testing.assert_close(p.rows(2, 4).log_likelihood(z[:, 2:4]), torch.stack(expected)[:, 2:4])


def test_gradients_go_through_draws_and_parameters():
    p = ModelGuide(make_vae(), make_x())
    p.draw_terms(4).weight.sum().backward()
    assert all(q.grad is not None and q.grad.abs().sum() > 0 for q in p.vae.parameters())


def test_draw_terms_are_terms_at_a_draw():
    p = ModelGuide(make_vae(), make_x())
    torch.manual_seed(3)
    together = p.draw_terms(4)
    torch.manual_seed(3)
    apart = p.terms(p.draw(4))
    torch.testing.assert_close(together.totals, apart.totals, rtol=1e-12, atol=0)


def test_simulated_data_follow_the_model(linear):
    """Mean and covariance of 20,000 draws; false alarms at 4.5 standard errors: about 1 seed in 6,000."""
    n = 20_000
    z, x = ModelGuide(linear.vae(), torch.zeros(n, 4, dtype=torch.float64)).simulate()
    marginal = linear.marginal()
    assert not x.requires_grad
    assert (((x.mean(0) - marginal.mean) / marginal.variance.sqrt() * n**0.5).abs() < 4.5).all()
    covariance = torch.cov(x.T)
    variances = marginal.variance
    error = ((variances.outer(variances) + marginal.covariance_matrix**2) / n).sqrt()
    assert (((covariance - marginal.covariance_matrix) / error).abs() < 4.5).all()
    residual = x - z @ linear.weight.T - linear.bias
    assert abs(residual.std().item() / linear.sigma - 1) < 0.01


def test_other_data_and_fewer_rows():
    x = make_x()
    p = ModelGuide(make_vae(context=4), x, *make_context(4))
    assert p.rows(1, 3).batch == 2
    assert torch.equal(p.rows(1, 3).context[0], make_context(4)[0][1:3])
    assert torch.equal(p.with_data(1 - x).x, 1 - x)
    assert torch.equal(p.with_data(1 - x).context[0], p.context[0])


class OfFloat32(nn.Module):
    """A VAE in the way of Pyro's tutorials, with its modules in Pyro's store."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(2, 4)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


@pytest.mark.parametrize("form", ["object", "pair of its methods"])
def test_a_copy_in_float64(store, form):
    vae, x = OfFloat32(), torch.ones(3, 4)
    p = ModelGuide(vae if form == "object" else (vae.model, vae.guide), x)
    copied = p.in_float64()
    z = torch.zeros(2, 3, 2)
    with kept_store():
        terms = copied.terms(z.double())
        assert terms.weight.dtype == torch.float64
        torch.testing.assert_close(terms.weight, p.terms(z).weight.double(), rtol=1e-5, atol=0)
    assert vae.encoder.weight.dtype == torch.float32
    assert copied.modules[0] is not vae


def test_a_copy_shares_nothing():
    vae, x = make_vae(), make_x()
    for pair in (ModelGuide(vae, x), ModelGuide((vae.model, vae.guide), x)):
        copied = pair.copied()
        z = vae.encode(x).sample((2,))
        torch.testing.assert_close(copied.terms(z).totals, pair.terms(z).totals, rtol=0, atol=0)
        before = pair.terms(z).weight
        with torch.no_grad():
            for q in copied.modules[0].parameters():
                q.add_(1)
        torch.testing.assert_close(pair.terms(z).weight, before, rtol=0, atol=0)
        assert not torch.allclose(copied.terms(z).weight, before)


def test_functions_have_no_copy():
    vae, x = make_vae(), make_x()
    pair = (lambda x: vae.model(x), lambda x: vae.guide(x))
    p = ModelGuide(pair, x)
    assert p.copied() is None
    assert p.in_float64() is p


def test_the_store_is_kept(store):
    pyro.param("old", torch.zeros(1))
    with kept_store():
        pyro.param("new", torch.zeros(1))
    assert set(pyro.get_param_store().keys()) == {"old"}


def test_the_store_is_kept_where_tensors_have_two_names(store):
    net = nn.Linear(2, 2)
    pyro.module("mine", net)
    with kept_store():
        pyro.module("yours", net)
        pyro.module("theirs", nn.ModuleList([net]))
        pyro.module("theirs too", nn.Linear(2, 2))
    kept = pyro.get_param_store()
    assert set(kept.keys()) == {"mine$$$weight", "mine$$$bias"}
    assert kept["mine$$$weight"] is net.weight
    assert kept.param_name(net.weight) == "mine$$$weight"


def test_flows_remember_their_draws():
    """The density of a draw that has just been made is taken from its making: one pass, not one a dimension."""
    vae = VAE(
        priors.StandardNormal(3),
        likelihoods.Bernoulli(nets.MLP(3, (), 4)),
        posteriors.InverseAutoregressiveFlow(nets.MLP(4, (), 2 * 3 + 2), 3, features=2),
    )
    p = ModelGuide(vae, torch.ones(2, 4))
    posterior = p.posterior()
    z = posterior((5,))
    torch.testing.assert_close(p.terms(z, posterior).posterior, p.posterior().log_prob(z.clone()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [nn.Linear(2, 2), None, (1, 2), lambda x: x])
def test_what_has_no_model_and_guide(wrong):
    with pytest.raises(TypeError, match="vae must have a model and a guide, as pyro_vae.VAE has, or be the pair"):
        ModelGuide(wrong, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (nn.Linear(2, 2), "got a Linear, a module without them. Write its prior and likelihood as a Pyro model"),
        ("runs/one", "got the text 'runs/one'. Open a run folder with pyro_vae.load"),
        (make_vae, "got one function alone, make_vae"),
    ],
)
def test_what_to_do_instead_of_a_model_and_a_guide(wrong, remedy):
    with pytest.raises(TypeError, match=remedy):
        ModelGuide(wrong, torch.ones(2, 2))


def test_a_class_is_no_vae():
    with pytest.raises(TypeError, match="vae must be an object with a model and a guide; got the class VAE itself"):
        ModelGuide(VAE, torch.ones(2, 2))
    with pytest.raises(TypeError, match="vae must be a pair of functions or modules; got the class VAE in it"):
        ModelGuide((VAE, make_vae().guide), torch.ones(2, 2))


class OfProgram(PyroModule):
    """A Pyro model or guide as a module of its own."""

    def __init__(self, program):
        super().__init__()
        self.program = program

    def forward(self, x):
        return self.program(x)


TARGETS = {
    "VAE": lambda vae: vae,
    "functions": lambda vae: (lambda x: vae.model(x), lambda x: vae.guide(x)),
    "bound methods": lambda vae: (vae.model, vae.guide),
    "PyroModules": lambda vae: (OfProgram(vae.model), OfProgram(vae.guide)),
    "torch.compile": torch.compile,  # called in a test only, since it turns validation off
    "object": lambda vae: SimpleNamespace(model=vae.model, guide=vae.guide),
    "ModelGuide": lambda vae: ModelGuide(vae, make_x()),
}


@pytest.mark.parametrize("form", TARGETS)
def test_targets(form):
    vae, x = make_vae(), make_x()
    target = TARGETS[form](vae)
    model, guide = model_and_guide(target)
    assert poutine.trace(model).get_trace(x).nodes.keys() >= {"z", "x"}
    assert "z" in poutine.trace(guide).get_trace(x)
    z = vae.encode(x).sample((2,))
    torch.testing.assert_close(
        ModelGuide(target, x).terms(z).totals, ModelGuide(vae, x).terms(z).totals, rtol=0, atol=0
    )


def test_torch_compile_stands_for_its_vae():
    vae = make_vae()
    for target in (vae, torch.compile(vae), (vae.model, vae.guide)):
        assert owner_of(target) is vae
        assert ModelGuide(target, make_x()).vae is vae
        assert ModelGuide(target, make_x()).modules == [vae]


def test_programs_of_several_owners_have_no_owner():
    vae, other = make_vae(), make_vae()
    for pair in ((vae.model, other.guide), (vae.guide, vae.model), (lambda x: vae.model(x), vae.guide)):
        assert owner_of(pair) is None
        assert ModelGuide(pair, make_x()).vae is pair


@pytest.mark.parametrize(
    ("x", "what"),
    [
        ([[1.0]], r"a list\. Pass torch\.tensor\(x\)"),
        ((), "a tuple"),
        ("digits", "a str"),
        (torch.tensor(1.0), r"one of shape \(\)"),
    ],
)
def test_what_is_no_batch(x, what):
    with pytest.raises(TypeError, match=rf"x must be a tensor of shape \(batch, \*event_shape\); got {what}"):
        ModelGuide(make_vae(), x)


def test_data_outside_the_support_are_refused_without_tables_of_shapes():
    vae = make_vae("bernoulli")
    pair = ModelGuide(vae, make_x("bernoulli") + 0.25)
    with pytest.raises(ValueError, match=r"^likelihood Bernoulli needs x in \{0, 1\}.*ContinuousBernoulli$"):
        pair.draw_terms(2)


def test_nested_tensors_are_refused_in_one_line():
    x = torch.nested.nested_tensor([torch.zeros(4), torch.zeros(4)])
    with pytest.raises(TypeError, match="x must be a dense array of real numbers; got a nested tensor"):
        ModelGuide(build(4, 2, hidden=()), x)


def test_plates_of_elements_become_dimensions_of_the_event():
    weight = torch.linspace(-1, 1, 4, dtype=torch.float64)

    def model(x, declared):
        with pyro.plate("data", len(x), dim=-1 if declared else -2):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), *(() if declared else (1,))), 1.0))
            if declared:
                pyro.sample("x", dist.Normal(z[:, None] * weight, 0.5).to_event(1), obs=x)
                return
            with pyro.plate("elements", 4, dim=-1), poutine.mask(mask=weight > -2):
                pyro.sample("x", dist.Normal(z * weight, 0.5), obs=x)

    def guide(x, declared):
        with pyro.plate("data", len(x), dim=-1 if declared else -2):
            pyro.sample("z", dist.Normal(x.sum(-1, keepdim=not declared), 0.7))

    x = torch.randn(5, 4, dtype=torch.float64)
    flat = ModelGuide((lambda x: model(x, True), lambda x: guide(x, True)), x)
    plates = ModelGuide((lambda x: model(x, False), lambda x: guide(x, False)), x)
    z = flat.draw(3)
    torch.testing.assert_close(plates.terms(z.unsqueeze(-1)).totals, flat.terms(z).totals)
    assert plates.posterior().batch_shape == (5,)
    assert plates.likelihood(z[0].unsqueeze(-1)).event_shape == (4,)


def test_a_dimension_without_a_plate_is_no_event():
    def model(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
        pyro.sample("x", dist.Normal(z[:, None].expand(-1, 4), 1.0), obs=x)

    pair = ModelGuide((model, lambda x: pyro.sample("z", dist.Normal(x.sum(-1), 1.0))), torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"the model's site 'x' must have .* got batch shape \(6, 4\)"):
        pair.terms(pair.draw(2))


def test_what_is_simulated_gets_the_dtype_of_x_where_that_changes_nothing():
    p = ModelGuide(make_vae(), make_x())
    assert p.with_data(torch.ones(7, 2, 3, dtype=torch.int64)).x.dtype == torch.float64
    integers = ModelGuide((lambda x: None, lambda x: None), torch.ones(3, 2, dtype=torch.int64))
    assert integers.with_data(torch.full((3, 2), 4.0)).x.dtype == torch.int64
    assert integers.with_data(torch.full((3, 2), 4.5)).x.dtype == torch.float32


def test_data_have_no_gradient():
    x, context = make_x().requires_grad_(), make_context(4)[0].requires_grad_()
    p = ModelGuide(make_vae(context=4), x, context)
    assert not p.x.requires_grad
    assert not p.context[0].requires_grad
    assert x.requires_grad


def test_one_run_has_the_noise_of_pyros_loss():
    vae, x = make_vae(), make_x()
    pair = ModelGuide(vae, x)
    pyro.set_rng_seed(4)
    terms = pair.run_terms()
    pyro.set_rng_seed(4)
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert terms.weight.shape == (1, len(x))
    assert terms.weight.sum().item() == pytest.approx(-loss, rel=1e-12)


def test_what_is_replaced_and_what_stays():
    x, (c,) = make_x(), make_context(4)
    pair = ModelGuide(make_vae(context=4), x, c).strict()
    other = make_vae(context=4, seed=1)
    z = pair.draw(2)
    replaced = pair.replace(other, 1 - x, (c.flip(0),))
    expected = ModelGuide(other, 1 - x, c.flip(0))
    torch.testing.assert_close(replaced.terms(z).totals, expected.terms(z).totals, rtol=0, atol=0)
    index = torch.tensor([3, 3, 0])
    at = pair.at(index)
    torch.testing.assert_close(at.terms(z[:, index]).totals, tuple(t[:, index] for t in pair.terms(z).totals))

    def with_factor(x, c):
        pyro.factor("penalty", torch.zeros(len(x)))
        return other.model(x, c)

    with pytest.raises(ValueError, match="the model must have one observed site"):
        pair.replace((with_factor, other.guide)).terms(z)  # it stays strict


def test_named_tensors_are_added_and_replaced():
    vae = build(4, 2, hidden=(5,), missing=True).double()
    x = torch.ones(6, 4, dtype=torch.float64)
    mask = torch.arange(24).reshape(6, 4) % 3 > 0
    z = torch.zeros(2, 6, 2, dtype=torch.float64)
    expected = ModelGuide(vae, x, mask=mask).terms(z).totals
    torch.testing.assert_close(ModelGuide(vae, x).replace(mask=mask).terms(z).totals, expected, rtol=0, atol=0)
    replaced = ModelGuide(vae, x, mask=~mask).replace(mask=mask)
    torch.testing.assert_close(replaced.terms(z).totals, expected, rtol=0, atol=0)


def test_a_model_and_guide_passes_on_the_names_of_its_sites():
    def model(x):
        with pyro.plate("data", len(x)):
            code = pyro.sample("code", dist.Normal(x.new_zeros(len(x)), 1.0))
            pyro.sample("image", dist.Normal(code, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("code", dist.Normal(x, 1.0))

    pair = ModelGuide((model, guide), torch.zeros(3), latent="code", observed="image")
    again = ModelGuide(pair, torch.ones(5))
    assert again.draw_terms(2).recon.shape == (2, 5)


def test_terms_of_each_column_of_a_table():
    columns = {"height": "normal", "children": "poisson"}
    vae = build(2, 2, hidden=(5,), likelihood={"class": "Mixed", "columns": columns}, missing=True).double()
    x = torch.tensor([[1.7, 2.0], [1.6, torch.nan], [torch.nan, 0.0]], dtype=torch.float64)
    pair = ModelGuide(vae, x)
    z = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 3, 2)
    terms = pair.terms(z)
    found = terms.by_factor("recon")["x"]
    assert list(found) == list(columns)
    torch.testing.assert_close(sum(found.values()), terms.recon, rtol=1e-12, atol=1e-12)
    assert (found["children"][:, 1] == 0).all()  # missing
    height = vae.decode(z[2]).columns[0].log_prob(x[:, :1].nan_to_num())
    torch.testing.assert_close(found["height"][2, :2], height[:2], rtol=1e-12, atol=1e-12)
