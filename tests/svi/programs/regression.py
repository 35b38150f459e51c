"""Regression, with each of the automatic guides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.autoguide import (
    AutoCallable,
    AutoDelta,
    AutoDiagonalNormal,
    AutoGaussian,
    AutoGuideList,
    AutoHierarchicalNormalMessenger,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalizingFlow,
    AutoNormalMessenger,
    AutoRegressiveMessenger,
    AutoStructured,
    init_to_feasible,
    init_to_mean,
    init_to_median,
    init_to_sample,
)
from torch import Tensor

from tests.svi.programs.cases import Program, case, register
from tests.svi.programs.data import coins, generator, normals, real, regression


def coefficients() -> tuple[Tensor, Tensor]:
    return (
        pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1)),
        pyro.sample("b", dist.Normal(0.0, 5.0)),
    )


def linear(x, y):
    w, b = coefficients()
    sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x * w).sum(-1) + b, sigma), obs=y)


def logistic(x, y):
    w, b = coefficients()
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=(x * w).sum(-1) + b), obs=y)


def poisson(x, y):
    w, b = coefficients()
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Poisson(((x * w).sum(-1) + b).exp()), obs=y)


def callable_guide(x, y):
    w = pyro.param("w_loc", torch.zeros(3))
    pyro.sample("w", dist.Delta(w).to_event(1))
    b = pyro.param("b_loc", torch.tensor(0.1))
    pyro.sample("b", dist.Delta(b))
    sigma = pyro.param("sigma_loc", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("sigma", dist.Delta(sigma))


def guide_list(model):
    guide = AutoGuideList(model)
    guide.append(AutoDiagonalNormal(poutine.block(model, expose=["w", "b"])))
    guide.append(AutoDelta(poutine.block(model, hide=["w", "b"])))
    return guide


def guide_list_with_callable(model):
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=["b"])))

    def rest(x, y):
        return {"b": pyro.sample("b", dist.Normal(pyro.param("b_loc", torch.tensor(0.0)), 0.1))}

    guide.append(AutoCallable(poutine.block(model, expose=["b"]), rest))
    return guide


def structured(model):
    return AutoStructured(
        model,
        conditionals={"w": "normal", "b": "delta", "sigma": "normal"},
        dependencies={"sigma": {"w": "linear"}},
    )


_KINDS = {linear: "linear", logistic: "logistic", poisson: "poisson"}


def autoguided(name: str, model: Callable[..., Any], guide: Callable[..., Any], **options: Any) -> None:
    register(name, lambda: Program(model, guide(model), regression(_KINDS[model])), **options)


autoguided("linear_auto_delta", linear, AutoDelta, slow=True)
autoguided("linear_auto_normal", linear, AutoNormal)
autoguided("logistic_auto_normal_init_to_mean", logistic, lambda m: AutoNormal(m, init_loc_fn=init_to_mean), slow=True)
autoguided(
    "poisson_auto_normal_init_to_sample",
    poisson,
    lambda m: AutoNormal(m, init_loc_fn=init_to_sample, init_scale=0.05),
    slow=True,
)
autoguided("logistic_auto_diagonal_normal", logistic, AutoDiagonalNormal)
autoguided(
    "linear_auto_diagonal_normal_init_to_median",
    linear,
    lambda m: AutoDiagonalNormal(m, init_loc_fn=init_to_median(num_samples=5)),
    slow=True,
)
autoguided("linear_auto_multivariate_normal", linear, AutoMultivariateNormal, slow=True)
autoguided(
    "poisson_auto_low_rank_multivariate_normal", poisson, lambda m: AutoLowRankMultivariateNormal(m, rank=2), slow=True
)
autoguided("poisson_auto_iaf_normal", poisson, lambda m: AutoIAFNormal(m, hidden_dim=[6]), slow=True)
autoguided(
    "logistic_auto_normalizing_flow",
    logistic,
    lambda m: AutoNormalizingFlow(m, lambda d: T.ComposeTransformModule([T.planar(d), T.radial(d)])),
)
autoguided("logistic_auto_laplace", logistic, AutoLaplaceApproximation, slow=True)
autoguided("linear_auto_guide_list", linear, guide_list)
autoguided("linear_auto_guide_list_with_callable", linear, guide_list_with_callable, slow=True)
autoguided("linear_callable", linear, lambda m: callable_guide, slow=True)
autoguided("linear_auto_structured", linear, structured)
autoguided(
    "logistic_auto_structured_mvn",
    logistic,
    lambda m: AutoStructured(m, conditionals={"w": "mvn", "b": "normal"}, dependencies={"b": {"w": "linear"}}),
    slow=True,
)
autoguided("linear_auto_gaussian", linear, lambda m: AutoGaussian(m, backend="dense"), slow=True)
autoguided("linear_auto_normal_messenger", linear, AutoNormalMessenger, slow=True)
autoguided("logistic_auto_hierarchical_normal_messenger", logistic, AutoHierarchicalNormalMessenger)
autoguided("poisson_auto_regressive_messenger", poisson, AutoRegressiveMessenger)


@case(slow=True)
def linear_with_subsampled_plate():
    x, y = regression(sizes=(30,))[0]

    def model(x, y):
        w, b = coefficients()
        with pyro.plate("data", len(x), subsample_size=6) as index:
            pyro.sample("y", dist.Normal((x[index] * w).sum(-1) + b, 0.5), obs=y[index])

    return Program(model, AutoNormal(model), [(x + i, y + i) for i in range(5)])


@case
def linear_with_subsample_in_the_guide():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 20, subsample_size=5, dim=-1) as i:
            z = pyro.sample("z", dist.Normal(mu, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x[i])

    def guide(x):
        loc, scale = pyro.param("loc", torch.zeros(20)), pyro.param("scale", torch.ones(20), constraints.positive)
        pyro.sample("mu", dist.Normal(pyro.param("mu_loc", torch.tensor(0.0)), 0.3))
        with pyro.plate("data", 20, subsample_size=5, dim=-1) as i:
            pyro.sample("z", dist.Normal(loc[i], scale[i]))

    return Program(model, guide, real(20))


@case
def amortised_by_pyro_subsample():
    def model(x, y):
        w, b = coefficients()
        with pyro.plate("data", 8, subsample_size=4):
            batch = pyro.subsample(x, event_dim=1)
            pyro.sample("y", dist.Normal((batch * w).sum(-1) + b, 0.5), obs=pyro.subsample(y, event_dim=0))

    return Program(model, AutoDiagonalNormal(model), regression())


@case
def local_latents_of_an_autoguide_with_subsampling():
    def model(x):
        with pyro.plate("rows", 12, subsample_size=4, dim=-1) as i:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[i])

    def create_plates(x):
        return pyro.plate("rows", 12, subsample_size=4, dim=-1)

    return Program(model, AutoNormal(model, create_plates=create_plates), real(12))


@case(captures=4, slow=True)
def batches_of_several_sizes():
    """``len(x)`` is a number in Python, so each size has its own graph."""
    return Program(linear, AutoDiagonalNormal(linear), regression(sizes=(8, 5, 11, 8, 3)))


@case
def batches_of_several_sizes_by_their_shape():
    """``x.shape[0]`` may stay open in a graph."""

    def model(x, y):
        w, b = coefficients()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal((x * w).sum(-1) + b, 0.5), obs=y)

    return Program(model, AutoDiagonalNormal(model), regression(sizes=(8, 5, 11, 8, 3)))


@case(slow=True)
def float64_data():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    return Program(model, AutoMultivariateNormal(model), [(x.double(), y.double()) for x, y in regression()])


@case(slow=True)
def negative_binomial_with_offset():
    def model(x, y, exposure):
        w, b = coefficients()
        r = pyro.sample("r", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.NegativeBinomial(r, logits=(x * w).sum(-1) + b + exposure), obs=y)

    return Program(model, AutoNormal(model), [(x, y, 0.1 * y) for x, y in regression("poisson")])


@case(slow=True)
def zero_inflated_poisson():
    def model(x, y):
        w, b = coefficients()
        gate = pyro.sample("gate", dist.Beta(1.0, 3.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.ZeroInflatedPoisson(((x * w).sum(-1) + b).exp(), gate=gate), obs=y)

    return Program(model, AutoNormal(model), regression("poisson"))


@case(slow=True)
def robust_regression_student_t():
    def model(x, y):
        w, b = coefficients()
        df = pyro.sample("df", dist.Gamma(4.0, 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.StudentT(df, (x * w).sum(-1) + b, 0.5), obs=y)

    return Program(model, AutoNormal(model), regression())


@case(slow=True)
def horseshoe():
    def model(x, y):
        tau = pyro.sample("tau", dist.HalfCauchy(1.0))
        lam = pyro.sample("lam", dist.HalfCauchy(torch.ones(3)).to_event(1))
        w = pyro.sample("w", dist.Normal(torch.zeros(3), tau * lam).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    return Program(model, AutoNormal(model), regression())


@case(slow=True)
def ordinal_regression():
    def model(x, y):
        w, b = coefficients()
        cuts = pyro.sample(
            "cuts", dist.TransformedDistribution(dist.Normal(torch.zeros(3), 1.0).to_event(1), [T.OrderedTransform()])
        )
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.OrderedLogistic((x * w).sum(-1) + b, cuts), obs=y)

    return Program(
        model,
        AutoNormal(model, init_loc_fn=init_to_feasible),
        [(normals(8, 3, seed=i), torch.randint(4, (8,), generator=generator(i))) for i in range(5)],
    )


@case(slow=True)
def softmax_regression():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3, 4), 1.0).to_event(2))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)

    batches = [(normals(8, 3, seed=i), torch.randint(4, (8,), generator=generator(i))) for i in range(5)]
    return Program(model, AutoLowRankMultivariateNormal(model), batches)


@case(slow=True)
def censored_survival():
    def model(x, t, event):
        w, b = coefficients()
        with pyro.plate("data", len(x)):
            rate = ((x * w).sum(-1) + b).exp()
            with poutine.mask(mask=event):
                pyro.sample("t", dist.Exponential(rate), obs=t)
            with poutine.mask(mask=~event):
                pyro.sample("later", dist.Bernoulli((-rate * t).exp()), obs=torch.ones(len(x)))

    batches = [(normals(8, 3, seed=i), normals(8, seed=i).exp(), coins(8, seed=i).bool()) for i in range(5)]
    return Program(model, AutoNormal(model), batches)
