"""Posterior collapse: detected if there is one and not otherwise, with the remedies that apply."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.distributions import Normal

from pyro_vae import build
from pyro_vae.evaluation import bits_per_dim, collapse
from pyro_vae.objectives import BetaELBO, FreeBits, InfoVAE, Linear
from tests.conftest import make_vae, make_x


def collapsed(latent_dim=2, **options):
    """A VAE whose posterior is the prior for every x."""
    vae = build((2, 3), latent_dim, hidden=(), **options).double()
    with torch.no_grad():
        for p in vae.posterior.parameters():
            p.zero_()
        raw = [*vae.posterior.parameters()][-1]
        raw[latent_dim:] = math.log(math.e - 1)  # softplus gives 1
    return vae


def test_codes_that_say_nothing():
    found = collapse(collapsed(), make_x(n=40))
    assert found
    assert found.kind == "posterior"
    assert found.use.active_units == 0
    assert re.search(
        r"I\(x; z\) is 0.00 nats \(at most 3.69 are possible with 40 examples\); the kl is 0.00 nats", found.evidence[0]
    )
    assert "active units 0 of 2" in found.evidence[2]


def test_codes_that_are_not_read():
    vae = make_vae()
    with torch.no_grad():
        for p in vae.posterior.parameters():
            p.mul_(4)
        for p in vae.likelihood.parameters():
            p.zero_()
    found = collapse(vae, make_x(n=40))
    assert found.use.mutual_information > 0.5
    assert found.kind == "decoder"
    assert found.swapped == 0


def test_a_healthy_model_by_hand(linear):
    """Exchanged codes cost the difference in the decoder's log-density."""
    x = linear.marginal().sample((200,))
    vae = linear.vae()
    found = collapse(vae, x, seed=5)
    assert not found
    assert found.remedies == ()
    p, q = vae.decode(vae.encode(x).mean), vae.decode(vae.encode(x).mean.roll(1, 0))
    # At the means, without the posterior's noise, which changes both by about the same.
    expected = (p.log_prob(x) - q.log_prob(x)).mean().item()
    assert found.swapped == pytest.approx(expected, rel=0.3)
    assert found.swapped > 0.5


def test_the_scale_is_named_where_it_is_the_cause():
    """The data have a standard deviation of 0.5 in their widest direction, by construction."""
    torch.manual_seed(0)
    x = torch.zeros(4000, 2, 3, dtype=torch.float64)
    x[:, 0, 0] = 0.5 * Normal(0.0, 1.0).sample((4000,)).double()
    found = collapse(collapsed(likelihood={"class": "Normal", "scale": 1.0}), x)
    cause = found.evidence[-1]
    assert "the likelihood Normal has the fixed scale 1; the standard deviation of the data is at most" in cause
    assert float(re.search(r"at most (0\.\d+) in any", cause).group(1)) == pytest.approx(0.5, abs=0.02)
    assert found.remedies[0].argument == "likelihood"
    assert found.remedies[0].value == {"class": "Normal", "scale": "optimal"}
    small = collapse(collapsed(likelihood={"class": "Laplace", "scale": 0.1}), x)
    assert "fixed scale" not in "".join(small.evidence)
    assert small.remedies[0].value == {"class": "Laplace", "scale": "learned"}


def test_a_fixed_scale_of_standardised_data_is_a_cause_too():
    torch.manual_seed(0)
    x = torch.zeros(4000, 2, 3, dtype=torch.float64)
    x[:, 0, 0] = 5 * Normal(0.0, 1.0).sample((4000,)).double()
    x = 100 + x  # standardised by 10, its standard deviation is 0.5 in the widest direction
    spec = {"class": "Standardized", "likelihood": {"class": "Normal", "scale": 1.0}, "loc": 100.0, "scale": 10.0}
    found = collapse(collapsed(likelihood=spec), x)
    assert "fixed scale 1; the standard deviation of the standardised data is at most" in found.evidence[-1]
    assert float(re.search(r"at most (0\.\d+) in any", found.evidence[-1]).group(1)) == pytest.approx(0.5, abs=0.02)
    better = found.remedies[0].value
    assert better == {**spec, "likelihood": {"class": "Normal", "scale": "learned"}, "log": False}
    again = collapsed(likelihood=better)
    assert "fixed scale" not in " ".join(map(str, (*collapse(again, x).evidence, *collapse(again, x).remedies)))


def test_columns_with_fixed_scales_are_named():
    columns = {"age": {"class": "Normal", "scale": 1.0}, "sex": "Bernoulli", "height": {"class": "Laplace", "scale": 2}}
    columns["pulse"] = {"class": "Standardized", "likelihood": {"class": "Normal", "scale": 1.0}, "loc": 70.0}
    vae = build((4,), 2, hidden=(4,), likelihood={"class": "Mixed", "columns": columns})
    with torch.no_grad():
        for p in vae.posterior.parameters():
            p.zero_()
        [*vae.posterior.parameters()][-1][2:] = math.log(math.e - 1)
    x = torch.rand(50, 4)
    x[:, 1] = x[:, 1].round()
    assert "a fixed scale of 'age', 'height', 'pulse', smaller" in collapse(vae, x).remedies[0].why


def test_missing_values_do_not_vary():
    x = make_x(n=40)
    x[:20, 0, 0] = torch.nan
    vae = build((2, 3), 2, hidden=(), likelihood={"class": "Normal", "scale": 9.0}, missing=True).double()
    with torch.no_grad():
        for p in vae.posterior.parameters():
            p.zero_()
        [*vae.posterior.parameters()][-1][2:] = math.log(math.e - 1)
    found = collapse(vae, x)
    variance = torch.cov(x[:, 1:].flatten(1).T).diagonal().max().item()  # without the pixel that is half missing
    assert float(re.search(r"at most (\d\.\d+) in any", found.evidence[-1]).group(1)) >= variance**0.5 - 0.05


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"prior": "categorical", "posterior": "categorical"}, ["a weaker decoder"]),
        (
            {"prior": {"class": "mixture", "components": 3}},
            ["a warm-up of the kl", "free bits", "another objective", "a weaker decoder"],
        ),
    ],
)
def test_what_cannot_be_trained_with_is_no_remedy(parts, names):
    torch.manual_seed(0)
    vae = build((2, 3), 4, hidden=(), **parts).double()
    with torch.no_grad():
        for p in vae.likelihood.parameters():
            p.zero_()
    found = collapse(vae, make_x(n=40))
    assert [remedy.what for remedy in found.remedies] == names
    if len(names) > 1:  # InfoVAE with alpha=1 cannot train a mixture
        vae.zero_grad()
        InfoVAE(alpha=0.9).differentiable_loss(vae.model, vae.guide, make_x(n=40)).backward()
        assert found.remedies[2].value == {"class": "info", "alpha": 0.9}


def test_the_weight_is_named_where_it_is_the_cause():
    found = collapse(collapsed(), make_x(n=40), objective=BetaELBO(6.0))
    assert "the objective weighs the kl by 6" in found.evidence[-1]
    assert (found.remedies[0].argument, found.remedies[0].value) == ("objective", {"class": "beta"})


@pytest.mark.parametrize(
    ("objective", "missing"),
    [(BetaELBO(Linear(steps=10)), "a warm-up of the kl"), (FreeBits(), "free bits"), (InfoVAE(), "another objective")],
)
def test_what_was_done_already_is_no_remedy(objective, missing):
    names = [remedy.what for remedy in collapse(collapsed(), make_x(n=40), objective=objective).remedies]
    assert missing not in names
    assert "a weaker decoder" in names
    assert len(names) == 3


def test_the_warm_up_follows_the_length_of_the_training():
    found = collapse(collapsed(), make_x(n=40), steps=1000)
    (warm_up,) = [r for r in found.remedies if r.what == "a warm-up of the kl"]
    assert warm_up.value == {"class": "beta", "beta": {"class": "linear", "steps": 300}}


def test_one_example_is_refused():
    with pytest.raises(ValueError, match="x must have at least 2 examples, whose codes are exchanged; got 1"):
        collapse(make_vae(), make_x(n=1))


def test_bits_of_densities_and_probabilities_agree():
    """A density that is constant in each level's cell gives each level the probability height / levels."""
    height = torch.tensor([0.5, 2.0, 1.0, 0.5], dtype=torch.float64)  # over four cells of width 1/4
    probability = height / 4
    assert probability.sum() == 1
    for h, p in zip(height, probability, strict=True):
        assert bits_per_dim(h.log().item(), 1, levels=4) == pytest.approx(bits_per_dim(p.log().item(), 1))
    with pytest.raises(ValueError, match="dimensions must be an integer of at least 1; got 0"):
        bits_per_dim(-1.0, 0)


def test_other_targets_give_the_same():
    vae, x = collapsed(), make_x(n=40)
    found, compiled = collapse(vae, x), collapse(torch.compile(vae), x)
    assert (compiled.kind, compiled.evidence, compiled.remedies) == (found.kind, found.evidence, found.remedies)
    arrays = collapse(vae, x.numpy())
    assert (arrays.kind, arrays.evidence, arrays.remedies) == (found.kind, found.evidence, found.remedies)
    pair = collapse((vae.model, vae.guide), x)
    assert (pair.kind, pair.evidence, pair.remedies) == (found.kind, found.evidence, found.remedies)
    functions = collapse((lambda x: vae.model(x), lambda x: vae.guide(x)), x)
    assert (functions.kind, functions.evidence) == (found.kind, found.evidence)
    assert functions.remedies  # those that do not depend on the likelihood
