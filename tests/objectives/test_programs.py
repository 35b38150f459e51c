"""Objectives on Pyro programs that are no VAEs, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoNormal,
)
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


def by_hand(groups, data, num_particles, seed=3):
    """Log weights (particles, examples), with what is outside the plate summed in."""
    found = []
    pyro.set_rng_seed(seed)
    elbo = o.IWAE(num_particles)
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


@pytest.mark.parametrize("scale", [0.2, torch.tensor(0.2, dtype=torch.float64)], ids=["float", "tensor"])
def test_a_scale_around_both_programs_is_part_of_the_weights_as_in_pyro(scale):
    groups = Groups(whole=False)
    scaled = [poutine.scale(program, scale=scale) for program in (groups.model, groups.guide)]
    losses = []
    for loss in (o.IWAE(7), RenyiELBO(0, num_particles=7, vectorize_particles=True, max_plate_nesting=1)):
        pyro.set_rng_seed(3)
        losses.append(float(loss.loss(*scaled, DATA)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_free_bits_with_a_scale_of_each_example():
    groups, scale = Groups(whole=False), torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0], dtype=torch.float64)
    scaled = [poutine.scale(program, scale=scale) for program in (groups.model, groups.guide)]
    losses = []
    for loss in (o.FreeBits(0.0), o.BetaELBO(kl="analytic")):
        pyro.set_rng_seed(3)
        losses.append(float(loss.loss(*scaled, DATA)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


class Chain:
    """z1 and then z2 in the model; the guide draws them in one order or the other."""

    def __init__(self, order: str) -> None:
        self.order = order

    def model(self):
        z1 = pyro.sample("z1", dist.Normal(torch.tensor(0.0).double(), 1.0))
        pyro.sample("z2", dist.Normal(2 * z1, 0.5))

    def guide(self):
        if self.order == "the same":
            z1 = pyro.sample("z1", dist.Normal(torch.tensor(0.1).double(), 0.9))
            pyro.sample("z2", dist.Normal(1.8 * z1, 0.6))
        else:
            z2 = pyro.sample("z2", dist.Normal(torch.tensor(0.1).double(), 1.9))
            pyro.sample("z1", dist.Normal(0.45 * z2, 0.3))


@pytest.mark.parametrize("order", ["the same", "another"])
def test_the_order_of_the_sites(order):
    """100,000 draws, whose means are 5 standard errors apart with probability below 1e-6."""
    chain = Chain(order)
    sampled = float(o.BetaELBO(1.0, 100_000).loss(chain.model, chain.guide))
    for objective in (o.FreeBits(0.0, num_particles=100_000), o.FreeBits(0.0, per="site", num_particles=100_000)):
        assert float(objective.loss(chain.model, chain.guide)) == pytest.approx(sampled, abs=0.03)
    analytic = o.BetaELBO(1.0, 100_000, kl="analytic")
    if order == "the same":
        assert float(analytic.loss(chain.model, chain.guide)) == pytest.approx(sampled, abs=0.03)
    else:
        with pytest.raises(ValueError, match="in different orders"):
            analytic.loss(chain.model, chain.guide)


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
@pytest.mark.parametrize("guide", ["own", "auto of all", pytest.param("auto", marks=pytest.mark.slow)])
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


@pytest.mark.parametrize("guide", ["auto", "own"])
def test_points_that_depend_on_parameters_have_no_gradient_along_draws(guide):
    groups = Groups()

    def own(data):
        mean = pyro.sample("mean", dist.Delta(pyro.param("loc", torch.tensor(0.1, dtype=torch.float64))))
        with pyro.plate("data", len(data)):
            pyro.sample("z", dist.Normal(data + mean, 0.5))

    chosen = own if guide == "own" else AutoDelta(groups.model)
    chosen(DATA)
    for objective in (o.StickingTheLanding(), o.DReG(4)):
        with pytest.raises(ValueError, match=r"is a point \(Delta\) that depends on parameters"):
            objective.loss_and_grads(groups.model, chosen, DATA)


def test_a_guide_that_does_not_do_the_same_twice():
    vae, x = make_vae(), make_x()
    vae.posterior.net = torch.nn.Sequential(torch.nn.Dropout(0.5), vae.posterior.net)
    for objective in (o.StickingTheLanding(), o.DReG(4)):
        with pytest.raises(ValueError, match="as with dropout"):
            objective.loss_and_grads(vae.model, vae.guide, x)
    vae.eval()
    o.DReG(4).loss_and_grads(vae.model, vae.guide, x)


def test_a_batch_of_one_has_no_discrepancy():
    vae, x = make_vae(), make_x(n=1)
    objective = o.InfoVAE(0.5, 10.0)
    assert math.isfinite(objective.loss_and_grads(vae.model, vae.guide, x))
    assert objective.terms["mmd"] == 0


def test_a_prior_that_draws_would_not_train():
    vae, x = make_vae(), make_x()
    from pyro_vae import VAE, priors

    mixture = VAE(priors.MixtureOfNormals(2, components=3).double(), vae.likelihood, vae.posterior)
    with pytest.raises(ValueError, match="Use an alpha below 1"):
        o.InfoVAE().loss_and_grads(mixture.model, mixture.guide, x)
    o.InfoVAE(alpha=0.9).loss_and_grads(mixture.model, mixture.guide, x)


@pytest.mark.parametrize("objective", [o.BetaTCVAE(), o.InfoVAE()])
def test_masks_are_not_known_to_what_compares_codes(objective):
    vae, x = make_vae(), make_x()
    mask = torch.arange(len(x)) < 3
    masked = [poutine.mask(program, mask=mask) for program in (vae.model, vae.guide)]
    with pytest.raises(ValueError, match="takes no mask or scale of its examples; site 'z' has one"):
        objective.loss(*masked, x)


def test_numbers_of_numpy():
    assert o.BetaELBO(np.float32(0.5), np.int64(3)).num_particles == 3
    assert o.GECO(np.float64(-3.0)).recon == -3
    assert o.Linear(steps=np.int64(4))(2) == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.BetaELBO(-1.0), r"beta must be a finite number of at least 0, or a schedule .*; got -1.0"),
        (lambda: o.BetaELBO(o.Linear), "beta must be"),
        (lambda: o.BetaELBO(torch.ones(2)), "beta must be"),
        (lambda: o.GECO(-1.0, rate=o.Linear()), "rate must be a finite number of at least 0; got Linear"),
        (lambda: o.CapacityELBO(1.0, gamma=o.Linear()), "gamma must be"),
        (lambda: o.InfoVAE(bandwidth=True), "bandwidth must be"),
        (lambda: o.BetaELBO(math.nan), "beta must be"),
        (lambda: o.BetaELBO("1"), "beta must be"),
        (lambda: o.BetaELBO(num_particles=0), "num_particles must be an integer of at least 1; got 0"),
        (lambda: o.IWAE(0), "num_particles must be"),
        (lambda: o.IWAE(2.5), "num_particles must be"),
        (lambda: o.MIWAE(0, 8), "groups must be"),
        (lambda: o.PIWAE(8, 0), "group_size must be"),
        (lambda: o.CIWAE(1.5), "beta must be a finite number of at least 0 and of at most 1; got 1.5"),
        (lambda: o.Renyi(math.inf), "alpha must be a finite number"),
        (lambda: o.FreeBits(-0.1), "nats must be"),
        (lambda: o.FreeBits(0.1, per="layer"), 'per must be "dimension" or "site"; got \'layer\''),
        (lambda: o.CapacityELBO(-1.0), "capacity must be"),
        (lambda: o.CapacityELBO(1.0, gamma=-1.0), "gamma must be"),
        (lambda: o.GECO(math.inf), "recon must be a finite number"),
        (lambda: o.GECO(-1.0, decay=1.5), "decay must be"),
        (lambda: o.BetaTCVAE(beta=-6.0), "beta must be"),
        (lambda: o.BetaTCVAE(examples=0), "examples must be"),
        (lambda: o.InfoVAE(alpha=2.0), "alpha must be a finite number of at most 1; got 2.0"),
        (lambda: o.InfoVAE(lam=-1.0), "lam must be"),
        (lambda: o.InfoVAE(alpha=0.0, lam=0.5), "alpha \\+ lam must be at least 1"),
        (lambda: o.InfoVAE(bandwidth=0.0), "bandwidth must be"),
        (lambda: o.DReG(4, vectorize_particles=False), "DReG needs vectorize_particles=True; got False"),
        (lambda: o.Linear(steps=0), "steps must be a finite number above 0; got 0"),
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
