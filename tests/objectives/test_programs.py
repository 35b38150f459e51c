"""Objectives on Pyro programs that are no VAEs, and what they refuse."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam

from pyro_vae import objectives as o
from tests.conftest import make_vae, make_x

DATA = torch.tensor([0.3, 1.2, -0.4, 2.0, 0.9], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _cleared():
    yield
    pyro.clear_param_store()


class Groups:
    """A latent mean, and a latent variable for each observation, in a plate that may be subsampled."""

    def __init__(self, subsample: int | None = None, whole: bool = True) -> None:
        self.subsample, self.whole = subsample, whole

    def model(self, data):
        mean = torch.zeros((), dtype=torch.float64)
        noise = pyro.param("noise", torch.tensor(0.5, dtype=torch.float64), dist.constraints.positive)
        if self.whole:
            mean = pyro.sample("mean", dist.Normal(mean, 1.0))
        with pyro.plate("data", len(data), subsample_size=self.subsample) as index:
            z = pyro.sample("z", dist.Normal(mean, 1.0))
            pyro.sample("x", dist.Normal(z, noise), obs=data[index])

    def guide(self, data):
        loc = pyro.param("loc", torch.tensor(0.1, dtype=torch.float64))
        scale = pyro.param("scale", torch.tensor(0.7, dtype=torch.float64), dist.constraints.positive)
        mean = pyro.sample("mean", dist.Normal(loc, scale)) if self.whole else 0.0
        with pyro.plate("data", len(data), subsample_size=self.subsample) as index:
            pyro.sample("z", dist.Normal(0.5 * data[index] + loc + 0.2 * mean, scale))


def by_hand(groups, data, particles, seed=3):
    """Log weights (particles, examples), with what is outside the plate summed in."""
    found = []
    pyro.set_rng_seed(seed)
    elbo = o.IWAE(particles)
    elbo.max_plate_nesting = 2
    for model, guide in elbo._get_traces(groups.model, groups.guide, (data,), {}):
        for trace, sign in ((model, 1), (guide, -1)):
            for site in trace.nodes.values():
                if site["type"] == "sample" and not poutine.util.site_is_subsample(site):
                    log_prob = site["fn"].log_prob(site["value"])
                    found.append(sign * log_prob)
    return found


def test_weights_are_of_each_example_where_all_sites_are_in_one_plate():
    groups = Groups(whole=False)
    weights = sum(by_hand(groups, DATA, 7))
    pyro.set_rng_seed(3)
    loss = o.IWAE(7).loss(groups.model, groups.guide, DATA)
    assert weights.shape == (7, 5)
    expected = (weights.logsumexp(0) - math.log(7)).sum()
    assert float(loss) == pytest.approx(-expected.item(), rel=1e-12)


def test_weights_are_of_all_the_data_where_a_site_is_outside_the_plate():
    groups = Groups()
    weights = sum(log_prob.sum(-1) for log_prob in by_hand(groups, DATA, 7))
    pyro.set_rng_seed(3)
    loss = o.IWAE(7).loss(groups.model, groups.guide, DATA)
    assert float(loss) == pytest.approx(-(weights.logsumexp(0) - math.log(7)).item(), rel=1e-12)


def test_a_subsample_counts_for_all_the_data_and_not_within_the_weights():
    groups = Groups(subsample=2, whole=False)
    weights = sum(by_hand(groups, DATA, 7))
    pyro.set_rng_seed(3)
    loss = o.IWAE(7).loss(groups.model, groups.guide, DATA)
    expected = 5 / 2 * (weights.logsumexp(0) - math.log(7)).sum()
    assert float(loss) == pytest.approx(-expected.item(), rel=1e-12)


def test_a_scale_around_both_programs_is_no_part_of_the_weights():
    groups = Groups(whole=False)
    losses = []
    for scale in (1.0, 0.2):
        pyro.set_rng_seed(3)
        scaled = [poutine.scale(program, scale=scale) for program in (groups.model, groups.guide)]
        losses.append(float(o.IWAE(7).loss(*scaled, DATA)))
    assert losses[1] == pytest.approx(0.2 * losses[0], rel=1e-12)


def test_a_mask_leaves_examples_out():
    groups = Groups(whole=False)
    mask = torch.tensor([True, False, True, True, False])
    masked = [poutine.mask(program, mask=mask) for program in (groups.model, groups.guide)]
    weights = sum(by_hand(groups, DATA, 7))
    pyro.set_rng_seed(3)
    loss = o.IWAE(7).loss(*masked, DATA)
    expected = (weights.logsumexp(0) - math.log(7))[mask].sum()
    assert float(loss) == pytest.approx(-expected.item(), rel=1e-12)


OBJECTIVES = [
    o.BetaELBO(1.0),
    o.BetaELBO(1.0, 4),
    o.IWAE(1),
    o.Renyi(1.0, 4),
    o.StickingTheLanding(4),
    o.BetaELBO(1.0, 4, vectorize_particles=False),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
@pytest.mark.parametrize("guide", [None, AutoNormal, AutoDiagonalNormal, AutoLowRankMultivariateNormal])
def test_values_are_pyros_with_any_guide(guide, objective):
    groups = Groups()
    chosen = groups.guide if guide is None else guide(groups.model)
    chosen(DATA)  # an automatic guide is made in its first run
    losses = []
    pyros = Trace_ELBO(objective.num_particles, vectorize_particles=objective.vectorize_particles, max_plate_nesting=1)
    for loss in (objective, pyros):
        pyro.set_rng_seed(3)
        losses.append(float(loss.loss(groups.model, chosen, DATA)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize("objective", [o.StickingTheLanding(64), o.DReG(64)], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("guide", ["own", "auto", "auto of all"])
def test_gradients_along_the_draws_have_the_mean_of_the_plain_ones(guide, objective):
    """Over 200 draws; a false alarm has probability below 1e-4 a case (5 errors, at most 12 parameters)."""
    pyro.set_rng_seed(0)
    groups = Groups()
    chosen = {"own": groups.guide, "auto": AutoNormal(groups.model), "auto of all": AutoDiagonalNormal(groups.model)}[
        guide
    ]
    plain = o.BetaELBO(1.0, 64) if isinstance(objective, o.StickingTheLanding) else o.IWAE(64)
    means, errors = [], []
    for loss in (objective, plain):
        found = []
        for seed in range(200):
            pyro.set_rng_seed(seed)
            with poutine.trace(param_only=True) as seen:
                loss.loss_and_grads(groups.model, chosen, DATA)
            leaves = [site["value"].unconstrained() for site in seen.trace.nodes.values()]
            found.append(torch.cat([p.grad.flatten() for p in leaves]))
            for p in leaves:
                p.grad = None
        found = torch.stack(found)
        means.append(found.mean(0))
        errors.append(found.std(0) / 200**0.5)
    assert ((means[0] - means[1]).abs() < 5 * (errors[0].square() + errors[1].square()).sqrt() + 1e-9).all()


def test_it_trains(linear):
    """DReG finds the true posterior from a wrong one."""
    vae, x = linear.vae(), linear.marginal().sample((200,))
    with torch.no_grad():
        linear.encoder.weight.zero_()
    for p in linear.decoder.parameters():
        p.requires_grad_(False)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.02}), o.DReG(8))
    for _ in range(400):
        loss = svi.step(x)
    assert loss / 200 == pytest.approx(-linear.marginal().log_prob(x).mean().item(), abs=0.02)


# What is refused.


def test_discrete_codes():
    class Coin(PyroModule):
        def __init__(self):
            super().__init__()
            self.p = PyroParam(torch.tensor(0.4), dist.constraints.unit_interval)

        def model(self):
            pyro.sample("z", dist.Bernoulli(0.5))

        def guide(self):
            pyro.sample("z", dist.Bernoulli(self.p))

    coin = Coin()
    for objective in (o.BetaELBO(), o.IWAE(), o.DReG(), o.PIWAE()):
        with pytest.raises(ValueError, match=r"site 'z' of the guide is a Bernoulli.*TraceEnum_ELBO"):
            objective.loss_and_grads(coin.model, coin.guide)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.BetaELBO(-1.0), "beta must be a finite number of at least 0, or a schedule; got -1.0"),
        (lambda: o.BetaELBO(math.nan), "beta must be"),
        (lambda: o.BetaELBO("1"), "beta must be"),
        (lambda: o.BetaELBO(particles=0), "particles must be an integer of at least 1; got 0"),
        (lambda: o.IWAE(0), "particles must be"),
        (lambda: o.IWAE(2.5), "particles must be"),
        (lambda: o.MIWAE(0, 8), "groups must be"),
        (lambda: o.PIWAE(8, 0), "particles must be"),
        (lambda: o.CIWAE(1.5), "beta must be a share from 0 to 1; got 1.5"),
        (lambda: o.Renyi(math.inf), "alpha must be a finite number"),
        (lambda: o.FreeBits(-0.1), "nats must be"),
        (lambda: o.FreeBits(0.1, per="layer"), 'per must be "dimension" or "site"; got \'layer\''),
        (lambda: o.CapacityELBO(-1.0), "capacity must be"),
        (lambda: o.CapacityELBO(1.0, gamma=-1.0), "gamma must be"),
        (lambda: o.GECO(math.inf), "recon must be a finite number"),
        (lambda: o.GECO(-1.0, decay=1.0), "decay must be at least 0 and below 1; got 1.0"),
        (lambda: o.BetaTCVAE(beta=-6.0), "beta must be"),
        (lambda: o.BetaTCVAE(examples=0), "examples must be"),
        (lambda: o.InfoVAE(alpha=2.0), "alpha must be a finite number of at most 1; got 2.0"),
        (lambda: o.InfoVAE(lam=-1.0), "lam must be"),
        (lambda: o.InfoVAE(alpha=0.0, lam=0.5), "alpha \\+ lam must be at least 1"),
        (lambda: o.InfoVAE(bandwidth=0.0), "bandwidth must be"),
        (lambda: o.DReG(4, vectorize_particles=False), "DReG needs vectorize_particles=True; got False"),
        (lambda: o.Linear(steps=0), "steps must be above 0; got 0"),
        (lambda: o.Linear(end=-1.0), "end must be"),
        (lambda: o.Cyclical(rise=0.0), "rise must be"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parts_of_the_kl_want_products():
    vae, x = make_vae(), make_x()
    from pyro_vae import VAE, nets, posteriors

    full = VAE(
        vae.prior, vae.likelihood, posteriors.FullNormal(nets.MLP((2, 3), (5,), posteriors.FullNormal.net_shape(2)))
    ).double()
    for objective in (o.FreeBits(0.1), o.BetaTCVAE()):
        with pytest.raises(ValueError, match="is not a product over its dimensions"):
            objective.loss_and_grads(full.model, full.guide, x)
    o.FreeBits(0.1, per="site").loss_and_grads(full.model, full.guide, x)
    with pytest.raises(ValueError, match="needs a single latent site; got mean, z"):
        o.BetaTCVAE().loss(Groups().model, Groups().guide, DATA)


def test_shared_parameters_have_two_gradients():
    from pyro_vae import build

    vae = build(6, 2, hidden=(5,), prior={"class": "vamp", "components": 3}).double()
    x = torch.rand(7, 6, dtype=torch.float64).round()
    with pytest.raises(ValueError, match="both have the parameter 'posterior"):
        o.PIWAE(2, 2).loss_and_grads(vae.model, vae.guide, x)
