"""VAEs whose codes are points of a simplex, which travel as logs: every estimator, at low temperatures, in float32."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, RenyiELBO, Trace_ELBO
from torch import nn

from pyro_vae import (
    VAE,
    CompiledSVI,
    average_elbo,
    build,
    elbo_terms,
    evaluation,
    fit,
    likelihoods,
    nets,
    objectives,
    posteriors,
    priors,
)
from tests.distributions.test_concrete import kl_of_gumbel_differences

TEMPERATURES = (0.5, 0.1, 0.02, 0.01)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def make_x(n=64):
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(0)).round()


def sharp(temperature, dtype=torch.float32, **options):
    """A VAE of 4 groups of 3 classes whose encoder is sure, with a uniform prior and a decoder that does not look."""
    torch.manual_seed(0)
    codes = {"class": "RelaxedCategorical", "classes": 3, "temperature": temperature}
    vae = build(6, 12, **{"hidden": (16,), "prior": codes, "posterior": codes, **options}).to(dtype)
    with torch.no_grad():
        last = [m for m in vae.posterior.modules() if isinstance(m, nn.Linear)][-1]
        last.weight.mul_(60)
    return vae


def true_kl(vae, x):
    with torch.no_grad():
        return 4 * kl_of_gumbel_differences(vae.posterior.net(x).double().reshape(-1, 4, 3), 1000).item()


@dtypes
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_kl_is_right_in_every_estimate(temperature, dtype):
    """Within 1 %, as Gumbel differences have it, by ours, by Pyro's and by those of this library's evaluation."""
    vae, x = sharp(temperature, dtype), make_x().to(dtype)
    truth = true_kl(vae, x)
    assert truth > 50
    terms = elbo_terms(vae, x, kl="sampled", num_particles=200, seed=1)
    assert terms.kl.mean().item() == pytest.approx(truth, rel=0.01)
    assert average_elbo(vae, x, num_particles=200).kl == pytest.approx(truth, rel=0.01)
    assert evaluation.latent_use(vae, x, num_particles=200).kl == pytest.approx(truth, rel=0.01)
    pyro.set_rng_seed(1)
    loss = Trace_ELBO(num_particles=200, vectorize_particles=True, max_plate_nesting=1).loss(vae.model, vae.guide, x)
    assert -loss / len(x) == pytest.approx(terms.elbo.mean().item(), rel=1e-4)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_estimates_of_log_p_do_not_pass_the_truth(temperature):
    """With a decoder that does not look at z, log p(x) is its recon, whatever the codes: no estimate is above it.

    E w = p(x), so a weight above e^12 has probability below e^−12 for each of 64 × 500 draws (Markov): 0.2 in all, and
    none on this seed.
    """
    vae, x = sharp(temperature), make_x()
    with torch.no_grad():
        for module in vae.likelihood.modules():
            if isinstance(module, nn.Linear):
                module.weight.zero_()
        exact = vae.decode(vae.prior_of().sample((64,))).log_prob(x)
    found = evaluation.importance_sampling(vae, x, num_particles=500, bounds=(1, 500))
    assert (found.log_prob < exact + 12).all()
    assert (found.bounds[1] < exact + 1e-4).all()  # rounding, where x is all zeros and q is the prior


@pytest.mark.parametrize("objective", [Trace_ELBO(), objectives.IWAE(3), objectives.DReG(3), objectives.StickingTheLanding(), RenyiELBO(num_particles=3)])  # fmt: skip
def test_training_at_the_lowest_temperature_stays_a_bound(objective):
    """No bound of binary images is above 0, on average over them."""
    torch.manual_seed(0)
    codes = {"class": "RelaxedCategorical", "classes": 3, "temperature": 0.01}
    vae = build(6, 12, hidden=(16,), prior=codes, posterior=codes)
    history = fit(vae, make_x(256), epochs=4, batch_size=64, lr=1e-2, objective=objective, progress=False)
    assert all(epoch.elbo < 0 for epoch in history)
    assert average_elbo(vae, make_x(256), num_particles=20).elbo < 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in vae.parameters())


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_step_as_one_graph_is_the_same(mode):
    losses = []
    for engine in (pyro.infer.SVI, CompiledSVI):
        vae, options = sharp(0.01), {} if engine is pyro.infer.SVI else {"mode": mode}
        svi = engine(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO(), **options)
        pyro.set_rng_seed(0)
        losses.append([svi.step(make_x()) for _ in range(4)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_decoder_sees_points_and_the_site_has_their_logs():
    seen = []

    def decoder(y):
        seen.append(y)
        return dist.Normal(y[..., :6], 1.0).to_event(1)

    codes = priors.RelaxedCategorical(12, classes=3, temperature=0.01)
    posterior = posteriors.RelaxedCategorical(nets.MLP(6, (8,), 12), classes=3, temperature=0.01)
    vae, x = VAE(codes, decoder, posterior), make_x()
    trace = pyro.poutine.trace(vae.guide).get_trace(x)
    z = trace.nodes["z"]["value"]
    pyro.poutine.trace(pyro.poutine.replay(vae.model, trace)).get_trace(x)
    assert torch.equal(seen[-1], z.exp())
    assert torch.equal(vae.decoder_input(z), z.exp())
    torch.testing.assert_close(seen[-1].unflatten(-1, (4, 3)).sum(-1), torch.ones(64, 4))
    drawn = Predictive(vae.model, num_samples=5, parallel=True)()["z"]
    assert vae.prior_of().log_prob(drawn).isfinite().all()


@pytest.mark.parametrize(("prior", "posterior"), [("Dirichlet", "LogisticNormal"), ("LogisticNormal", "RelaxedCategorical"), ("VampPrior", "RelaxedCategorical"), ("Dirichlet", "RelaxedCategorical")])  # fmt: skip
def test_what_one_does_with_a_trained_vae(prior, posterior):
    torch.manual_seed(0)
    vae, x = build(6, 3, hidden=(8,), prior=prior, posterior=posterior), make_x()
    if hasattr(vae.prior, "start_from"):
        vae.prior.start_from(x)
    z = vae.codes(x, seed=0)
    torch.testing.assert_close(vae.decoder_input(z).sum(-1), torch.ones(64))
    torch.testing.assert_close(vae.reconstruct(x, seed=0), vae.decode(z).mean)
    assert vae.sample(5, seed=0).shape == (5, 6)
    path = vae.interpolate(x[:4], x[4:8], 5, seed=0)
    torch.testing.assert_close(path[:, 0], vae.reconstruct(x[:4], seed=0))
    torch.testing.assert_close(path[:, -1], vae.reconstruct(x[4:8], seed=0))
    # Half way are the means of the points at the ends.
    ends = [vae.decoder_input(vae.codes(part, seed=0)) for part in (x[:4], x[4:8])]
    torch.testing.assert_close(path[:, 2], vae.decode((sum(ends) / 2).log()).mean)


def test_a_function_over_points_goes_with_a_posterior_over_logs():
    """The bound of Dirichlet and LogisticNormal, written with a plain torch Dirichlet or as ours, is the same number."""
    torch.manual_seed(0)
    posterior = posteriors.LogisticNormal(nets.MLP(6, (8,), 4))
    likelihood = likelihoods.Bernoulli(nets.MLP(3, (8,), (6,)))
    concentration = torch.tensor([0.7, 1.3, 2.0])
    ours = priors.Dirichlet(3)
    with torch.no_grad():
        ours.raw_concentration.copy_(torch.log(torch.expm1(concentration - 1e-6)))
    found = [
        elbo_terms(VAE(prior, likelihood, posterior), make_x(), kl="sampled", seed=0).elbo
        for prior in (ours, lambda: dist.Dirichlet(concentration), lambda: torch.distributions.Dirichlet(concentration))
    ]
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_without_a_part_of_ours_points_stay_points():
    vae = VAE(
        lambda: dist.Dirichlet(torch.ones(3)),
        likelihoods.Bernoulli(nets.MLP(3, (8,), (6,))),
        lambda x: dist.Dirichlet(torch.ones(len(x), 3)),
    )
    z = vae.encode(make_x()).sample()
    assert vae.decoder_input(z) is z


def test_other_codes_than_points_are_refused():
    likelihood, posterior = (
        likelihoods.Bernoulli(nets.MLP(3, (8,), (6,))),
        posteriors.LogisticNormal(nets.MLP(6, (8,), 4)),
    )
    vae = VAE(lambda: dist.Normal(torch.zeros(3), 1.0).to_event(1), likelihood, posterior)
    with pytest.raises(
        ValueError, match=r"prior <lambda> is over .*[Rr]eal.* and the codes of this VAE are points of a simplex"
    ):
        elbo_terms(vae, make_x(), kl="sampled")
    with pytest.raises(ValueError, match=r"z must hold the logs of points of a simplex.*For points y, pass y.log\(\)"):
        vae.decode(torch.full((4, 3), 1 / 3))
    assert vae.decode(torch.eye(3).log()).mean.isfinite().all()


def test_quadrature_of_codes_on_a_simplex_is_the_dirichlet_multinomial():
    """log p(x) of proportions with a relaxed posterior, where the truth is known."""
    concentration, x = (
        torch.tensor([0.5, 2.0, 1.3], dtype=torch.float64),
        torch.tensor([[3.0, 0, 2], [0, 5, 0]]).double(),
    )
    posterior = posteriors.LogisticNormal(nets.MLP(3, (), 4).double())
    ours = priors.Dirichlet(3).double()
    with torch.no_grad():
        ours.raw_concentration.copy_(torch.log(torch.expm1(concentration - 1e-6)))
    vae = VAE(ours, lambda y: dist.Multinomial(5, y, validate_args=False), posterior)
    truth = dist.DirichletMultinomial(concentration, torch.tensor(5.0).double()).log_prob(x)
    torch.testing.assert_close(evaluation.quadrature(vae, x).log_prob, truth.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
def test_infovae_compares_points_and_not_their_logs(temperature):
    """Codes near one corner are told from those at all corners, as much at every temperature.

    Between corners i and j the squared distance is 2, so with 3 classes and a kernel of variance 3 the discrepancy is
    1 + (1 + 2 k) / 3 − 2 (1 + 2 k) / 3 with k = exp(−1/3): 0.19. At a temperature of 1 points are less far apart.
    """
    codes = {"class": "RelaxedCategorical", "temperature": temperature}
    torch.manual_seed(0)
    vae = build(6, 3, hidden=(16,), prior=codes, posterior=codes)
    with torch.no_grad():
        last = [m for m in vae.posterior.modules() if isinstance(m, nn.Linear)][-1]
        last.bias[0] += 30
    objective = objectives.InfoVAE()
    torch.manual_seed(1)
    objective.loss(vae.model, vae.guide, make_x(1000))
    expected = 1 - (1 + 2 * torch.tensor(-1 / 3).exp().item()) / 3
    assert objective.terms["mmd"].item() == pytest.approx(expected, abs=0.01 if temperature < 1 else 0.1)
