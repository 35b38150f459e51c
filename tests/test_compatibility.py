"""What goes together is put together; what does not is refused with what would."""

from __future__ import annotations

import re

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from pyro_vae import VAE, build, fit, likelihoods, nets, posteriors, priors
from pyro_vae.compatibility import check_objective, usual_objective

X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).round()
CODES = {"class": "categorical", "classes": 2}


@pytest.mark.parametrize(
    ("prior", "posterior", "message"),
    [
        (
            "sphere",
            "normal",
            "prior UniformOnSphere is over vectors of length 1 and posterior DiagonalNormal over real vectors, so there is "
            "no KL between them. This posterior goes with the priors .*StandardNormal.*VampPrior; this prior goes with "
            "the posteriors PowerSpherical$",
        ),
        ("standard_normal", "PowerSpherical", "This posterior goes with the priors UniformOnSphere, VampPrior"),
        ("categorical", "normal", "prior Categorical is over one-hot vectors and posterior DiagonalNormal over real"),
        ("categorical", "relaxed_categorical", "this prior goes with the posteriors Categorical$"),
        ("dirichlet", "normal", "this prior goes with the posteriors LogisticNormal, RelaxedCategorical$"),
        (
            "exemplar",
            "PowerSpherical",
            "prior Exemplar puts normals around codes that are real vectors; those of .* vectors of length 1",
        ),
        (
            {"class": "categorical", "classes": 2},
            "categorical",
            "prior Categorical has groups of 2 classes and posterior Categorical of 4. Give both the same classes",
        ),
        (
            "dirichlet",
            {"class": "RelaxedCategorical", "classes": 2},
            "prior Dirichlet has groups of 4 classes and posterior RelaxedCategorical of 2. Give the posterior classes=4",
        ),
        ("vamp", "delta", "prior VampPrior averages posteriors, and posterior Delta is a point"),
    ],
)
def test_pairs_over_different_spaces_are_refused_when_put_together(prior, posterior, message):
    with pytest.raises(ValueError, match=message):
        build((3,), 4, hidden=(5,), prior=prior, posterior=posterior)


def test_a_conditional_prior_is_over_what_its_prior_is_over():
    with pytest.raises(ValueError, match="prior Conditional is over one-hot vectors and posterior DiagonalNormal"):
        VAE(
            priors.Conditional(priors.Categorical(4), nets.MLP(2, (), 4)),
            likelihoods.Bernoulli(nets.MLP(4, (), 3)),
            posteriors.DiagonalNormal(nets.MLP(3, (), 8, context_features=2)),
        )


def test_parts_that_do_not_say_what_they_are_over_pass():
    VAE(lambda: None, likelihoods.Bernoulli(nets.MLP(4, (), 3)), posteriors.PowerSpherical(nets.MLP(3, (), 5)))


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceMeanField_ELBO(), RenyiELBO()])
def test_discrete_codes_need_enumeration(objective):
    vae = build((3,), 4, hidden=(5,), prior=CODES, posterior=CODES)
    before = [p.clone() for p in vae.parameters()]
    with pytest.raises(
        ValueError,
        match=rf"posterior Categorical is discrete: no gradient .*{type(objective).__name__} would .*Use TraceEnum_ELBO",
    ):
        fit(vae, X, epochs=1, objective=objective, progress=False)
    assert all(torch.equal(p, b) for p, b in zip(vae.parameters(), before, strict=True))


@pytest.mark.parametrize(("prior", "posterior"), [("vamp", "normal"), ("mixture", "full"), ("standard_normal", "iaf")])
def test_a_closed_form_that_there_is_not_is_refused_before_training(prior, posterior, tmp_path):
    vae = build((3,), 4, hidden=(5,), prior=prior, posterior=posterior)
    with pytest.raises(
        ValueError, match="TraceMeanField_ELBO needs KL.* in closed form, and for .* none is known. Use Trace_ELBO"
    ):
        fit(vae, X, epochs=1, objective=TraceMeanField_ELBO(), progress=False, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        ("standard_normal", "normal"),
        ("normal", "full"),
        ("normal", "low_rank"),
        ("laplace", "laplace"),
        ("sphere", "power_spherical"),
        ("logistic_normal", "logistic_normal"),
    ],
)
def test_closed_forms_that_there_are_pass(prior, posterior):
    vae = build((3,), 4, hidden=(5,), prior=prior, posterior=posterior)
    fit(vae, X, epochs=1, objective=TraceMeanField_ELBO(), progress=False)


def test_the_usual_objective():
    assert usual_objective(build((3,), 4, hidden=(5,))) == "Trace_ELBO"
    vae = build((3,), 4, hidden=(5,), prior=CODES, posterior=CODES)
    assert usual_objective(vae) == "TraceEnum_ELBO"
    check_objective(vae, TraceEnum_ELBO(max_plate_nesting=1), X)
    assert len(fit(vae, X, epochs=1, progress=False)) == 1


def test_what_is_named_in_the_place_of_what_does_not_go_can_be_built():
    with pytest.raises(ValueError, match="This posterior goes with the priors (.*); this prior") as error:
        build((3,), 4, hidden=(5,), prior="sphere", posterior="iaf")
    names = re.search("This posterior goes with the priors (.*); this", str(error.value)).group(1).split(", ")
    assert "VampPrior" in names
    assert "Exemplar" not in names
    for name in names:
        vae = build((3,), 4, hidden=(5,), prior=name, posterior="iaf")
        fit(vae, X, epochs=1, progress=False)


def test_too_many_values_to_sum_over_are_refused_before_training(tmp_path):
    codes = {"class": "categorical", "classes": 10}
    vae = build((3,), 50, hidden=(5,), prior=codes, posterior=codes)
    with pytest.raises(ValueError, match=r"10\*\*5"):
        fit(vae, X, epochs=1, progress=False, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("options", "objective"), [({}, RenyiELBO()), ({"prior": CODES, "posterior": CODES}, None)])
def test_an_optimal_scale_goes_with_draws_that_count_alike(options, objective):
    vae = build((3,), 4, hidden=(5,), likelihood={"class": "normal", "scale": "optimal"}, **options)
    with pytest.raises(
        ValueError, match='likelihood Normal with scale="optimal" computes its scale from all draws of z'
    ):
        fit(vae, X, epochs=1, objective=objective, progress=False)


def test_a_column_with_an_optimal_scale_counts_too():
    columns = {"a": "Normal", "b": {"class": "Normal", "scale": "optimal"}, "c": "Normal"}
    vae = build((3,), 4, hidden=(5,), likelihood={"class": "Mixed", "columns": columns})
    with pytest.raises(ValueError, match="likelihood Mixed .* computes its scale from all draws of z"):
        fit(vae, X, epochs=1, objective=RenyiELBO(), progress=False)


def test_score_functions_with_baselines_are_for_discrete_codes_too():
    vae = build((3,), 4, hidden=(5,), prior=CODES, posterior=CODES)
    check_objective(vae, TraceGraph_ELBO(), X)
