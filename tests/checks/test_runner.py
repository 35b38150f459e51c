"""The check as a whole: what it takes, what it leaves as it was, and its refusals."""

from __future__ import annotations

import copy
import dataclasses
import io
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_vae import VAE, CompiledSVI, build, check, likelihoods, nets, posteriors, priors
from pyro_vae.checks import CHECKS, Finding, inputs, runner
from pyro_vae.closed_forms import BetaBernoulli, DirichletMultinomial, GammaPoisson, LinearGaussian, NormalNormal
from pyro_vae.model_guide import ModelGuide
from tests.checks.mutants.common import Plain, reals
from tests.checks.test_sites import TwoLevels
from tests.combinations.parts import make_context, make_vae, make_x

FAST = ["sites", "shapes", "supports", "deterministic", "examples", "parameters", "plate", "trace-elbo", "renyi-elbo"]


class Tutorial(nn.Module):
    """As in Pyro's own example, with pyro.module."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("obs", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


def binary(n=12, dim=6, seed=0):
    return torch.rand(n, dim, generator=torch.Generator().manual_seed(seed)).round()


def complete(report):
    """Every line was checked without cuts, and none failed."""
    assert report.cut == ()
    assert report.passed, [(x.name, x.finding.detail) for x in report.failures]
    assert [x.name for x in report] == [c.name for c in CHECKS]


def test_a_vae_of_pyros_tutorial():
    complete(check(Tutorial(), binary(), latent="latent", observed="obs", repeats=20))
    assert len(pyro.get_param_store()) == 0


@pytest.mark.parametrize("form", ["methods", "functions"])
def test_a_pair(form):
    vae = Tutorial()
    pair = (vae.model, vae.guide) if form == "methods" else (lambda x: vae.model(x), lambda x: vae.guide(x))
    report = check(pair, binary(), latent="latent", observed="obs", only=[*FAST, "gradient"])
    assert report.passed, report.failures
    exact = 1e-9 if form == "methods" else 1e-5  # functions cannot be copied to float64
    assert report["trace-elbo"].finding.tolerance == exact


def test_context():
    vae = make_vae("Conditional-Normal", "DiagonalNormal", 2)
    complete(check(vae, make_x(10), *make_context("Conditional-Normal", 10), repeats=20))


def test_missing_values_by_mask_and_by_nan():
    vae = build(6, 2, hidden=(8,), missing=True)
    x = binary()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) > 0.3
    assert check(vae, x, mask=mask, repeats=20).passed
    report = check(vae, torch.where(mask, x, torch.nan), repeats=20)
    assert report.passed, [(x.name, x.finding.detail) for x in report.failures]


def test_a_line_is_the_same_whatever_is_looked_at_before_it():
    """Each has random numbers of its own, also where the model draws the z at which it is looked at."""
    vae, x = build(6, 2, hidden=(8,), likelihood="normal"), binary()
    names = ["data", "examples", "likelihood-mass", "likelihood-draws", "kl"]
    together = check(vae, x, only=names, repeats=20)
    for name in names:
        assert check(vae, x, only=[name], repeats=20)[name] == together[name]


def test_an_objective_is_given_x_alone_where_there_is_a_mask():
    """It takes ``(x, *context)``, and knows of the mask by itself."""
    vae = build(6, 2, hidden=(8,), missing=True)
    x = binary()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) > 0.3

    def loss(x):
        return Trace_ELBO().differentiable_loss(vae.model, vae.guide, x, mask=mask)

    lines = ["objective", "objective-gradient", "objective-training", "objective-noise"]
    report = check(vae, x, mask=mask, objective=loss, only=lines, repeats=20)
    assert [line.verdict for line in report] == ["passed"] * 4, [line.finding.detail for line in report]


@pytest.mark.parametrize(
    "model",
    [
        BetaBernoulli(torch.tensor(2.0, dtype=torch.float64), 1.5, 5),
        GammaPoisson(torch.tensor(3.0, dtype=torch.float64), 1.5, 4),
        DirichletMultinomial(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64), 9),
        NormalNormal(torch.tensor(0.5, dtype=torch.float64), 1.5, 0.7, 4),
        LinearGaussian(
            torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
            torch.zeros(5, dtype=torch.float64),
            0.5,
        ),
    ],
    ids=lambda m: type(m).__name__,
)
def test_the_true_posterior_of_closed_forms(model):
    """q is the posterior: no weight varies, ranks are flat, and log p(x) by quadrature is the closed form."""
    vae = model.vae("exact") if isinstance(model, LinearGaussian) else model.vae()
    x = vae.sample(10, seed=1)
    report = check(vae, x, exact=True, repeats=20)
    complete(report)
    assert report["exact-posterior"].verdict == "passed"
    assert report["calibration"].verdict == "passed"
    assert f"log p(x) is {model.log_prob(x[:4]).mean():.6g}" in report["evidence"].finding.detail


def test_a_posterior_that_is_not_the_true_one_is_no_error_unless_it_is_said_to_be():
    vae, x = make_vae("StandardNormal", "DiagonalNormal", 2), make_x(10)
    assert check(vae, x, only=["calibration", "exact-posterior"]).passed
    report = check(vae, x, only=["calibration", "exact-posterior"], exact=True)
    assert [line.name for line in report.failures] == ["exact-posterior", "calibration"]


def test_nothing_is_changed():
    vae, x = Tutorial().train(), binary()
    vae.decoder.eval()
    pyro.param("mine", torch.ones(1))
    before = copy.deepcopy(vae.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check(vae, x, latent="latent", observed="obs", repeats=20)
    assert torch.rand(1) == expected
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in vae.parameters())
    assert vae.training
    assert vae.encoder[0].training
    assert not vae.decoder.training
    assert set(pyro.get_param_store().keys()) == {"mine"}
    pyro.clear_param_store()


def test_no_line_changes_what_the_next_one_sees():
    """Lines looked at alone come to what they come to after all the others."""
    vae, x = build(6, 2, hidden=(8,)), binary()
    whole = check(vae, x, repeats=20)
    for name in ("trace-elbo", "kl", "gradient", "evidence", "calibration"):
        assert check(vae, x, repeats=20, only=[name])[name] == whole[name]


def test_the_same_seed_gives_the_same_report():
    vae, x = build(6, 2, hidden=(8,)), binary()
    first, second = (check(vae, x, repeats=20, seed=3) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert check(vae, x, repeats=20, seed=4).to_json() != first.to_json()


def test_only_some_lines_and_their_progress():
    said = []
    report = check(build(6, 2, hidden=()), binary(), only=["kl", "trace-elbo"], progress=said.append)
    assert [line.name for line in report] == ["trace-elbo", "kl"]
    assert said == ["sites", "shapes", "supports", "trace-elbo", "kl"]


@pytest.mark.parametrize(("mixes", "verdicts"), [(False, ("passed", "passed")), (True, ("failed", "skipped"))])
def test_a_point_among_others_is_the_same_to_rounding(mixes, verdicts):
    """A matrix product of more rows may end in other last bits, and beside a point there is no density at all."""

    class Net(nn.Linear):
        def forward(self, x):
            others = 1 + (1e-2 if mixes else 1e-14) * len(x)
            return super().forward(x) * others

    vae = VAE(
        prior=priors.StandardNormal(2),
        likelihood=likelihoods.Bernoulli(nets.MLP(2, (8,), 6)),
        posterior=posteriors.Delta(Net(6, 2)),
    ).double()
    lines = {line.name: line for line in check(vae, binary().double(), only=["examples", "plate"])}
    assert (lines["examples"].verdict, lines["plate"].verdict) == verdicts
    assert not mixes or "z of q(z|x) of an example depends on the other" in lines["examples"].finding.detail


def test_what_rests_on_a_failed_line_is_skipped():
    vae = VAE(
        priors.StandardNormal(2),
        lambda z: dist.Bernoulli(logits=z.sum(-1, keepdim=True).expand(-1, 6)).to_event(1),
        posteriors.DiagonalNormal(nets.MLP(6, (), 4)),
    )
    report = check(vae, 0.5 * binary())
    assert [line.name for line in report.failures] == ["sites"]
    assert "needs x in {0, 1}; got values in [0, 0.5]" in report["sites"].finding.detail
    assert report["kl"].finding.detail == 'not checked, because "sites" failed'


@pytest.mark.parametrize("only", [None, ["kl"]])
def test_programs_that_are_not_supported_fail_no_line(only):
    report = check(TwoLevels(), reals(), only=only)
    detail = report.unsupported
    assert detail.startswith("not supported: model and guide have the latent sites")
    assert {line.verdict for line in report} == {"skipped"}
    assert not report.failures
    assert not report.passed
    assert report.summary() == f"nothing was checked: {detail}"
    assert report["kl"].finding.detail == detail


def test_a_later_line_that_is_not_supported_stops_nothing(monkeypatch):
    skipped = Finding("skipped", "not supported: a posterior of two latent sites")
    lines = [line if line.name != "kl" else dataclasses.replace(line, look=lambda _: skipped) for line in CHECKS]
    monkeypatch.setattr(runner, "CHECKS", tuple(lines))
    report = check(build(6, 2, hidden=()), binary(), only=["kl", "trace-elbo", "renyi-elbo"])
    assert report["renyi-elbo"].verdict == "passed"


def svi(loss, kind=SVI):
    vae = build(6, 2, hidden=())
    return kind(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss)


SVI_TEXT = "got an SVI, which takes steps. Pass its loss: "


@pytest.mark.parametrize(
    ("objective", "text"),
    [
        (svi(Trace_ELBO()), SVI_TEXT + r"Trace_ELBO\(\) or svi.loss"),
        (svi(TraceMeanField_ELBO(), CompiledSVI), SVI_TEXT + r"TraceMeanField_ELBO\(\) or svi.loss"),
        (svi(Trace_ELBO()).step, SVI_TEXT + r"Trace_ELBO\(\) or svi.loss"),
        (svi(lambda model, guide, x: x.sum()), SVI_TEXT + r"lambda x: svi.loss\(model, guide, x\)"),
        (torch.optim.Adam([torch.zeros(1)]), r"got the optimiser Adam. Pass the loss that it minimises"),
        (pyro.optim.Adam({}), r"got the optimiser PyroOptim. Pass the loss"),
        (Trace_ELBO, r"got the class Trace_ELBO. Pass an instance: Trace_ELBO\(\)"),
        ("elbo", r"got the string 'elbo'. Pass the loss itself, such as Trace_ELBO\(\)"),
    ],
)
def test_what_is_no_objective(objective, text):
    with pytest.raises(TypeError, match=text):
        check(build(6, 2, hidden=()), binary(), objective=objective)


def test_the_loss_of_an_svi_and_an_elbo_of_these_programs_are_the_elbo():
    vae, elbo = build(6, 2, hidden=()), Trace_ELBO()

    def found(objective):
        return check(vae, binary(), objective=objective, only=["objective"], repeats=20)["objective"].finding

    expected = found(elbo)
    assert expected.verdict == "passed"
    for objective in (svi(elbo).loss, elbo.differentiable_loss, elbo(vae.model, vae.guide)):
        assert found(objective) == expected
    other = build(6, 2, hidden=())
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(torch.full((18,), 2.0), other.likelihood.parameters())
    assert found(elbo(other.model, vae.guide)).verdict == "failed"


def test_an_elbo_module_and_the_loss_of_an_svi_pass():
    vae = build(6, 2, hidden=())
    for objective in (Trace_ELBO()(vae.model, vae.guide), svi(Trace_ELBO()).loss):
        report = check(vae, binary(), objective=objective, only=["objective", "objective-gradient"], repeats=20)
        assert [line.verdict for line in report] == ["passed", "passed"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "term", "shows"),
    [
        (Terminal, True, "xterm", True),
        (Terminal, False, "xterm", False),
        (Terminal, None, "xterm", False),
        (Terminal, True, "dumb", False),
        (io.StringIO, True, "xterm", False),
    ],
)
def test_a_bar_on_a_terminal_alone(monkeypatch, stream, progress, term, shows):
    """Also where the environment of a CI job asks for colours, as which rich takes its log for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", stream())
    check(build(6, 2, hidden=()), binary(), only=["shapes"], progress=progress)
    assert ("checking" in sys.stderr.getvalue()) == shows
    assert ("shapes" in sys.stderr.getvalue()) == shows


class SeemsLarge(nn.Module):
    """A net with a product of matrices without values, which counts as work and takes no time."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        large = torch.empty(10_000, 10_000, device="meta")
        assert (large @ large).is_meta
        return self.net(z)


def test_large_networks_get_fewer_draws_and_the_report_says_so():
    vae, x, only = build(6, 3, hidden=(8,)), binary(32), ["order", "noise", "evidence", "gradient-score"]
    vae.likelihood.net = SeemsLarge(vae.likelihood.net)
    report = check(vae, x, only=only)
    assert report.passed, report.failures
    assert report.cut == (
        "2 examples under gradients instead of 8",
        "20 draws of each gradient instead of 100",
        "100 draws of noise instead of 400",
        "1 examples under the bounds instead of 16",
        "200 steps of annealing instead of 3,200",
    )
    assert report == check(vae, x, only=only)  # how much is done does not hang on how fast the machine is
    again = check(vae, x, only=["gradient-score"], repeats=60)
    assert again.cut == ("2 examples under gradients instead of 8",)  # what the user says is obeyed


def test_log_p_of_two_dimensions_is_annealed_where_integrating_costs_too_much():
    vae, x = build(6, 2, hidden=(8,)), binary()
    assert "by quadrature" in check(vae, x, only=["evidence"])["evidence"].finding.detail
    vae.likelihood.net = SeemsLarge(vae.likelihood.net)
    report = check(vae, x, only=["evidence"])
    assert report["evidence"].verdict == "passed"
    assert "for simulated data log p(x) lies between" in report["evidence"].finding.detail


def test_operations_are_counted_from_matrix_products():
    vae, x = build(6, 2, hidden=(8,)), binary()
    pair = ModelGuide(vae, x)
    counted = inputs.Inputs(pair, pair, None, 1, None, False, 1e-4, 20, 0).operations
    # Twice the weights of the guide's two layers and the model's two, at one example.
    assert counted == 2 * (6 * 8 + 8 * 4 + 2 * 8 + 8 * 6)


def test_programs_whose_operations_cannot_be_counted_are_left_to_the_lines():
    class Picky(Plain):
        """Its model takes all examples, or all but one."""

        def model(self, x):
            if len(x) not in (15, 16):
                raise ZeroDivisionError
            super().model(x)

    report = check(Picky(), reals(), only=["order", "trace-elbo"])
    assert [(line.name, line.verdict) for line in report] == [("trace-elbo", "passed"), ("order", "failed")]
    assert "ZeroDivisionError" in report["order"].finding.detail


def test_an_objective_of_pyros():
    vae, x = build(6, 2, hidden=(8,)), binary()
    report = check(vae, x, objective=TraceMeanField_ELBO(), only=["objective", "objective-gradient"], repeats=30)
    assert [line.verdict for line in report] == ["passed", "passed"]


def test_in_the_dtype_as_it_is():
    report = check(build(6, 2, hidden=(8,)), binary(), float64=False, repeats=20)
    complete(report)
    assert report["trace-elbo"].finding.tolerance == 1e-5


def test_dropout_and_batch_norm_are_switched_off():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))

        def forward(self, x):
            return self.layers(x)

    vae = VAE(priors.StandardNormal(2), likelihoods.Bernoulli(nets.MLP(2, (8,), 6)), posteriors.DiagonalNormal(Net()))
    vae.train()
    complete(check(vae, binary(), repeats=20))
    assert vae.posterior.net.layers[2].training


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"only": ["kll"]}, ValueError, "only names the line 'kll'; there are sites, shapes, .*. Did you mean kl?"),
        ({"only": "kl"}, TypeError, r"only must be a list of names, such as \['kl'\]; got the string 'kl'"),
        (
            {"objective": 3},
            TypeError,
            "objective must be a Pyro ELBO or a function of x that returns a loss; got int",
        ),
        ({"importance_particles": 0}, ValueError, "importance_particles must be an integer of at least 1; got 0"),
        (
            {"data_size": 0},
            ValueError,
            "data_size must be an integer of at least 1, the number of examples in the data; got 0",
        ),
        ({"level": 1.5}, ValueError, "level must be a finite number above 0 and below 1; got 1.5"),
        (
            {"repeats": 3},
            ValueError,
            "repeats must be an integer of at least 20, for a standard error; got 3",
        ),
        ({"x": torch.ones(0, 6)}, ValueError, r"x must hold at least one example; got shape \(0, 6\)"),
    ],
)
def test_bad_input(options, error, message):
    x = options.pop("x", binary())
    with pytest.raises(error, match=message):
        check(build(6, 2, hidden=()), x, **options)


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda x: x, "a tensor of shape (12, 6). Sum it over the examples"),
        (lambda x: x.sum().item(), "a float, which has no gradient. Leave out .item()"),
        (lambda x: {"loss": x.sum()}, "a dict. Return the loss alone"),
        (lambda x: None, "None. Does the function lack its return?"),
    ],
)
def test_an_objective_that_returns_no_number(loss, got):
    report = check(build(6, 2, hidden=()), binary(), objective=loss, only=["objective"])
    message = f"objective must return one tensor of one number, the loss of the batch in nats; got {got}"
    assert message in report["objective"].finding.detail


@pytest.mark.parametrize("loss", [lambda recon_x, x, mu, logvar: x.sum(), lambda: 0.0, nn.BCELoss()])
def test_an_objective_that_takes_something_else_than_model_and_guide(loss):
    with pytest.raises(
        TypeError, match="objective must take what model and guide take, x, and return a loss; it takes"
    ):
        check(build(6, 2, hidden=()), binary(), objective=loss)


def test_an_objective_may_have_further_arguments_with_defaults():
    vae = build(6, 2, hidden=())
    report = check(vae, binary(), objective=lambda x, beta=1.0: x.sum() * beta, only=["objective"], repeats=20)
    assert "the objective is" in report["objective"].finding.detail


def test_an_objective_that_is_not_finite():
    only = ["objective"]
    report = check(build(6, 2, hidden=()), binary(), objective=lambda x: x.sum() * torch.nan, only=only, repeats=20)
    assert "the objective is NaN or infinite in 20 of 20 draws. Look for log(0)" in report["objective"].finding.detail
    assert "nan" not in str(report)


def test_one_example_is_one():
    assert "on 1 example of shape (6,)" in check(build(6, 2, hidden=()), binary()[:1], only=["shapes"]).subject


def test_every_line_has_its_own_name_and_words():
    assert len({c.name for c in CHECKS}) == len(CHECKS)
    for c in CHECKS:
        assert c.why.endswith(".") or c.why.endswith("?"), c.name
        assert not c.compared.endswith("."), c.name


def test_a_line_fails_only_where_other_draws_fail_too(monkeypatch):
    """What fails by chance at the level 1e-4 fails by chance at 1e-8; what is certain is looked at once."""
    seen = []

    def by_chance(inputs):
        seen.append(torch.rand(()).item())
        return Finding("failed" if inputs.attempt == 0 else "passed", p_value=1e-6 if inputs.attempt == 0 else 0.3)

    def twice(inputs):
        return Finding("failed", "off", p_value=(1e-9, 1e-7)[inputs.attempt])

    def certain(inputs):
        assert inputs.attempt == 0
        return Finding("failed", "off by 1")

    looks = {"kl": by_chance, "order": twice, "trace-elbo": certain}
    lines = [line if line.name not in looks else dataclasses.replace(line, look=looks[line.name]) for line in CHECKS]
    monkeypatch.setattr(runner, "CHECKS", tuple(lines))
    report = check(build(6, 2, hidden=()), binary(), only=list(looks))
    assert [line.name for line in report.failures] == ["trace-elbo", "order"]
    assert report["kl"].finding.p_value == 0.3
    assert report["order"].finding.p_value == 1e-7
    assert seen[0] != seen[1]
