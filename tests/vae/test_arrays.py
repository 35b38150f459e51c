"""Every function that takes a VAE takes the same arrays, gives the same numbers, and refuses the same shapes."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from pyro_vae import VAE, average_elbo, build, elbo_terms, evaluation, fit, likelihoods, nets, posteriors, priors
from pyro_vae.checks import check

COUNTS = torch.tensor([[0, 3, 1, 7], [2, 0, 0, 1], [5, 5, 1, 0]])
FUNCTIONS = {
    "encode": lambda vae, x: vae.encode(x).mean,
    "codes": lambda vae, x: vae.codes(x),
    "reconstruct": lambda vae, x: vae.reconstruct(x),
    "interpolate": lambda vae, x: vae.interpolate(x, x, 2),
    "model": lambda vae, x: vae.model(x),
    "guide": lambda vae, x: vae.guide(x),
    "SVI": lambda vae, x: SVI(vae.model, vae.guide, pyro.optim.Adam({}), Trace_ELBO()).evaluate_loss(x),
    "elbo_terms": lambda vae, x: elbo_terms(vae, x, seed=0).elbo,
    "average_elbo": lambda vae, x: average_elbo(vae, x).elbo,
    "latent_use": lambda vae, x: evaluation.latent_use(vae, x).kl,
    "importance_sampling": lambda vae, x: evaluation.importance_sampling(vae, x, num_particles=3).log_prob,
    "outlier_scores": lambda vae, x: evaluation.outlier_scores(vae, x, num_particles=3)["kl"],
    "check": lambda vae, x: check(vae, x, only=["shapes"]).passed,
}
FORMS = {
    "int64": COUNTS,
    "uint8": COUNTS.to(torch.uint8),
    "float64": COUNTS.double(),
    "NumPy": COUNTS.numpy(),
    "NumPy float64, reversed twice": COUNTS.double().numpy()[::-1].copy()[::-1],
}


def poisson() -> VAE:
    torch.manual_seed(0)
    return build(4, 2, hidden=(5,), likelihood="poisson")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_forms_of_the_same_counts_give_the_same_numbers(function):
    found = {}
    for name, x in {"float32": COUNTS.float(), **FORMS}.items():
        torch.manual_seed(1)
        found[name] = torch.as_tensor(FUNCTIONS[function](poisson(), x))
    for name, value in found.items():
        assert torch.equal(value, found["float32"]), name


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f not in ("guide", "check")])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (4,), (2, 5)])
def test_one_example_without_a_batch_is_refused_as_by_the_model(function, shape):
    vae = build(shape, 2, hidden=(4,))
    shown = ", ".join(map(str, shape))
    text = rf"likelihood Bernoulli is over x of shape \(batch, {shown}\); got "
    x = torch.zeros(shape)
    if function == "average_elbo":  # which takes it for a data set of other examples
        with pytest.raises(ValueError, match=text):
            average_elbo(vae, x)
        return
    for _ in range(2):  # also where the event shape is known already
        with pytest.raises(ValueError, match=rf"{text}\({shown},?\). This is a single example: .* x\[None\]"):
            FUNCTIONS[function](vae, x)
        FUNCTIONS[function](vae, x[None].repeat(2, *(1 for _ in shape)))


def test_the_event_shape_is_looked_at_again_where_the_likelihood_changes():
    vae = build(4, 2, hidden=())
    vae.codes(torch.zeros(3, 4))
    vae.posterior.net = nets.MLP(5, (), 4)
    with pytest.raises(ValueError, match=r"over x of shape \(batch, 4\); got \(3, 5\)"):
        vae.codes(torch.zeros(3, 5))
    vae.likelihood.net = nets.MLP(2, (), 5)
    assert vae.codes(torch.zeros(3, 5)).shape == (3, 2)


def test_looking_at_the_event_shape_leaves_generators_modes_and_statistics():
    net = nets.MLP(2, (3,), 4, normalization="BatchNorm1d")
    vae = VAE(priors.StandardNormal(2), likelihoods.Bernoulli(net), posteriors.DiagonalNormal(nets.MLP(4, (), 4)))
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in vae.state_dict().items()}
    vae.encode(torch.zeros(3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k, v in vae.state_dict().items())
    assert all(m.training for m in vae.modules())


def test_context_goes_through_the_same_door():
    vae = build(4, 2, hidden=(3,), context_features=2)
    x, c = torch.zeros(3, 4), torch.eye(3)[:, :2]
    expected = vae.reconstruct(x, c)
    assert torch.equal(vae.reconstruct(x.numpy(), c.double().numpy()), expected)
    assert torch.equal(elbo_terms(vae, x, c.double(), seed=0).elbo, elbo_terms(vae, x, c, seed=0).elbo)
    assert vae.sample(3, c.numpy()).shape == (3, 4)
    with pytest.raises(TypeError, match="context 0 must be a dense array of real numbers; got a sparse tensor"):
        vae.codes(x, c.to_sparse())


def test_missing_values_of_numpy_and_of_integers_with_a_mask():
    vae = build(4, 2, hidden=(3,), likelihood="poisson", missing=True)
    mask = COUNTS > 0
    with_nan = torch.where(mask, COUNTS.float(), torch.nan)
    expected = vae.codes(with_nan)
    assert torch.equal(vae.codes(with_nan.double().numpy()), expected)
    assert torch.equal(vae.codes(COUNTS, mask=mask), expected)
    assert torch.equal(vae.codes(COUNTS.numpy(), mask=mask.numpy()), expected)
    imputed = vae.impute(COUNTS.numpy(), mask=mask.numpy(), num_particles=3, seed=0)
    assert torch.equal(imputed[mask], COUNTS[mask].float())


def test_mixed_tables_take_integers():
    vae = build(2, 2, likelihood={"class": "Mixed", "columns": {"smokes": "Bernoulli", "visits": "Poisson"}})
    x = np.array([[0, 3], [1, 0]])
    assert torch.equal(vae.codes(x), vae.codes(torch.tensor(x).float()))


class _Words(nn.Module):
    """A posterior of words by their numbers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)

    def forward(self, x):
        loc, raw = self.embedding(x).mean(1).chunk(2, dim=-1)
        return torch.distributions.Independent(torch.distributions.Normal(loc, raw.exp()), 1)


def test_embeddings_get_the_integers_that_they_look_up():
    likelihood = likelihoods.Categorical(nets.MLP(2, (), (9, 4)), levels=9, upper=8.0)
    vae = VAE(priors.StandardNormal(2), likelihood, _Words())
    assert vae.codes(COUNTS.numpy()).shape == (3, 2)
    assert torch.isfinite(elbo_terms(vae, COUNTS).elbo).all()
    assert math.isfinite(fit(vae, COUNTS, epochs=1, progress=False)[-1].elbo)


def test_counts_that_float32_does_not_have_are_refused_and_float64_has_them():
    x = torch.full((2, 4), 2**24 + 1)
    with pytest.raises(ValueError, match=r"x has integers that float32 rounds to others.* vae.double\(\)"):
        poisson().codes(x)
    assert torch.isfinite(poisson().double().codes(x)).all()


def test_pairs_of_functions_take_arrays_of_numpy_and_see_tensors_as_they_are():
    vae, seen = poisson(), []

    def model(x):
        seen.append(x.dtype)
        return vae.model(x)

    evaluation.importance_sampling((model, vae.guide), COUNTS.double().numpy(), num_particles=2)
    assert set(seen) == {torch.float32}
