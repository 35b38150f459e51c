"""Small Pyro programs as Pyro's tutorials and examples write them, none of them a VAE of this library.

A case is a function that gives a :class:`Program`: model, guide, optimiser, ELBO and the batches of its steps. It is
called with a fresh parameter store and a seed set; its data have generators of their own. ``CASES`` are those that a
graph can hold, ``REFUSED`` those that no graph can, with the line to be named marked by ``# <- here``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyro
import pyro.contrib.gp as gp
import pyro.distributions as dist
import pyro.distributions.transforms as T
import pyro.optim
import torch
from pyro import poutine
from pyro.contrib.autoname import scope
from pyro.contrib.easyguide import easy_guide
from pyro.distributions import constraints
from pyro.distributions.testing.fakes import NonreparameterizedBeta
from pyro.infer import (
    EnergyDistance,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
    config_enumerate,
)
from pyro.infer.autoguide import (
    AutoCallable,
    AutoDelta,
    AutoDiagonalNormal,
    AutoDiscreteParallel,
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
    init_to_value,
)
from pyro.infer.reparam import (
    AutoReparam,
    LatentStableReparam,
    LocScaleReparam,
    ProjectedNormalReparam,
    StudentTReparam,
    TransformReparam,
)
from pyro.nn import PyroModule, PyroParam, PyroSample, pyro_method
from torch import Tensor, nn

SIZES = (8,) * 5


@dataclass
class Program:
    """What the user of SVI writes: ``svi.step(*args, **kwargs)`` for each of ``batches`` and ``kwargs``, then ``after``."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    batches: list[tuple[Any, ...]]
    loss: Any = field(default_factory=Trace_ELBO)
    optim: pyro.optim.PyroOptim = field(default_factory=lambda: pyro.optim.Adam({"lr": 0.02}))
    kwargs: list[dict[str, Any]] | None = None
    after: Callable[[Any], None] | None = None  # called with the loss, as schedulers are
    modules: tuple[nn.Module, ...] = ()  # what has parameters or buffers beside the guide and the store

    def calls(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return list(zip(self.batches, self.kwargs or [{}] * len(self.batches), strict=True))


@dataclass(frozen=True)
class Case:
    """``captures`` is None where their number is not part of the contract; ``rtol`` is 0 for equal bits."""

    name: str
    make: Callable[[], Program]
    captures: int | None = 1
    rtol: float = 0.0
    loud: bool = False  # stock Pyro itself warns
    line: str = ""  # of a program that cannot be captured

    @property
    def slow(self) -> bool:
        return self.name in SLOW

    @property
    def number(self) -> int:
        """The number of ``line`` in this file."""
        lines, first = inspect.getsourcelines(self.make)
        return first + next(i for i, text in enumerate(lines) if MARK in text)


MARK = "# <- here"

# Their graphs take long to capture, or a shorter program does much the same.
SLOW = frozenset(
    [
        "annealed_by_a_number",
        "auto_discrete_parallel",
        "autoregressive_with_markov_guide",
        "batches_of_several_sizes",
        "blocked_site",
        "bradley_terry",
        "capture_recapture",
        "causal_effect_vae",
        "censored_survival",
        "deep_markov_model_gru",
        "deep_markov_model_rnn",
        "dirichlet_process_mixture",
        "discrete_enumerated_sequentially",
        "discrete_hmm_distribution",
        "eight_schools",
        "eight_schools_hierarchical_messenger",
        "eight_schools_learned_centering",
        "eight_schools_mean_field",
        "eight_schools_reparam_by_itself",
        "factor_analysis_with_low_rank_likelihood",
        "float64_data",
        "flow_affine_coupling",
        "flow_conditional",
        "flow_masked_autoregressive",
        "flow_spline_coupling",
        "gamma_guide",
        "gaussian_hmm_distribution",
        "gaussian_mixture_assignments_in_the_guide",
        "gaussian_mixture_batches_of_several_sizes",
        "gaussian_mixture_init_to_value",
        "gaussian_mixture_plate_nesting_guessed",
        "gaussian_process_latent_variable_model",
        "gaussian_process_sparse",
        "gaussian_process_variational_sparse",
        "graph_elbo_discrete",
        "hmm_autoregressive_with_history_two",
        "hmm_of_sequences_with_lengths",
        "horseshoe",
        "item_response",
        "lifted_parameters",
        "linear_auto_diagonal_normal_init_to_median",
        "linear_auto_gaussian",
        "linear_auto_guide_list_with_callable",
        "linear_callable",
        "lkj_covariance",
        "logistic_auto_laplace",
        "logistic_auto_normal_init_to_mean",
        "logistic_auto_structured_mvn",
        "lstm_language_model",
        "matrix_factorisation",
        "mixture_same_family",
        "module_with_frozen_parameters",
        "negative_binomial_with_offset",
        "nested_plates",
        "neural_network_turned_bayesian",
        "optim_adagrad",
        "optim_adagrad_rmsprop",
        "optim_adam_amsgrad",
        "optim_adam_clipped_value",
        "optim_adam_w",
        "optim_cosine_with_clipping",
        "optim_dct_adam",
        "optim_multi_step_lr",
        "optim_pyro_optim_of_torch",
        "optim_rmsprop",
        "optim_sgd_momentum",
        "ordered_and_interval_parameters",
        "ordinal_regression",
        "particles_vectorised_nesting_guessed",
        "poisson_auto_iaf_normal",
        "poisson_auto_low_rank_multivariate_normal",
        "poisson_auto_normal_init_to_sample",
        "prints_of_what_it_draws",
        "pyro_module_guide_with_method",
        "radon_varying_intercepts_and_slopes",
        "renyi",
        "renyi_vectorised",
        "robust_regression_student_t",
        "scaled_by_a_number",
        "score_function_with_particles",
        "simplex_parameter",
        "softmax_regression",
        "sparse_gamma_deep_exponential_family",
        "structure_that_python_decides",
        "tensor_monte_carlo",
        "transform_reparam",
        "transformer_encoder_guide",
        "vae_graph",
        "vae_mean_field",
        "vae_mean_field_particles",
        "vae_of_the_tutorial",
        "von_mises_and_weibull",
        "zero_inflated_poisson",
    ]
)
CASES: dict[str, Case] = {}
REFUSED: dict[str, Case] = {}


def case(make: Callable[[], Program] | None = None, **options: Any):
    if make is None:
        return lambda make: case(make, **options)
    CASES[make.__name__] = Case(make.__name__, make, **options)
    return make


def refused(make: Callable[[], Program]):
    line = next(text for text in inspect.getsource(make).splitlines() if MARK in text)
    REFUSED[make.__name__] = Case(make.__name__, make, captures=0, line=line.split(MARK)[0].strip())
    return make


# Data.


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(100 + seed)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def coins(*shape: int, seed: int = 0) -> Tensor:
    return (torch.rand(*shape, generator=generator(seed)) < 0.5).float()


def regression(kind: str = "linear", sizes: tuple[int, ...] = SIZES) -> list[tuple[Tensor, Tensor]]:
    batches = []
    for i, n in enumerate(sizes):
        x = normals(n, 3, seed=i)
        eta = x @ torch.tensor([1.0, -0.5, 0.2])
        y = {
            "linear": lambda eta=eta, n=n, i=i: eta + 0.3 * normals(n, seed=50 + i),
            "logistic": lambda eta=eta, i=i: torch.bernoulli(eta.sigmoid(), generator=generator(i)),
            "poisson": lambda eta=eta, i=i: torch.poisson(eta.exp(), generator=generator(i)),
        }[kind]()
        batches.append((x, y))
    return batches


def real(*shape: int, steps: int = 5) -> list[tuple[Tensor]]:
    return [(normals(*shape, seed=i),) for i in range(steps)]


def binary(*shape: int, steps: int = 5) -> list[tuple[Tensor]]:
    return [(coins(*shape, seed=i),) for i in range(steps)]


def counts(*shape: int, high: int, steps: int = 5) -> list[tuple[Tensor]]:
    return [(torch.randint(high, shape, generator=generator(i)),) for i in range(steps)]


# Regression, with each of the automatic guides.


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


AUTOGUIDES = {
    "linear_auto_delta": (linear, AutoDelta),
    "linear_auto_normal": (linear, AutoNormal),
    "logistic_auto_normal_init_to_mean": (logistic, lambda m: AutoNormal(m, init_loc_fn=init_to_mean)),
    "poisson_auto_normal_init_to_sample": (
        poisson,
        lambda m: AutoNormal(m, init_loc_fn=init_to_sample, init_scale=0.05),
    ),
    "logistic_auto_diagonal_normal": (logistic, AutoDiagonalNormal),
    "linear_auto_diagonal_normal_init_to_median": (
        linear,
        lambda m: AutoDiagonalNormal(m, init_loc_fn=init_to_median(num_samples=5)),
    ),
    "linear_auto_multivariate_normal": (linear, AutoMultivariateNormal),
    "poisson_auto_low_rank_multivariate_normal": (poisson, lambda m: AutoLowRankMultivariateNormal(m, rank=2)),
    "poisson_auto_iaf_normal": (poisson, lambda m: AutoIAFNormal(m, hidden_dim=[6])),
    "logistic_auto_normalizing_flow": (
        logistic,
        lambda m: AutoNormalizingFlow(m, lambda d: T.ComposeTransformModule([T.planar(d), T.radial(d)])),
    ),
    "logistic_auto_laplace": (logistic, AutoLaplaceApproximation),
    "linear_auto_guide_list": (linear, guide_list),
    "linear_auto_guide_list_with_callable": (linear, guide_list_with_callable),
    "linear_callable": (linear, lambda m: callable_guide),
    "linear_auto_structured": (linear, structured),
    "logistic_auto_structured_mvn": (
        logistic,
        lambda m: AutoStructured(m, conditionals={"w": "mvn", "b": "normal"}, dependencies={"b": {"w": "linear"}}),
    ),
    "linear_auto_gaussian": (linear, lambda m: AutoGaussian(m, backend="dense")),
    "linear_auto_normal_messenger": (linear, AutoNormalMessenger),
    "logistic_auto_hierarchical_normal_messenger": (logistic, AutoHierarchicalNormalMessenger),
    "poisson_auto_regressive_messenger": (poisson, AutoRegressiveMessenger),
}
_KINDS = {linear: "linear", logistic: "logistic", poisson: "poisson"}


def autoguided(name: str) -> Program:
    model, guide = AUTOGUIDES[name]
    return Program(model, guide(model), regression(_KINDS[model]))


CASES.update({name: Case(name, functools.partial(autoguided, name)) for name in AUTOGUIDES})


@case
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


@case(captures=4)
def batches_of_several_sizes():
    """``len(x)`` is a number in Python, so each size has a graph of its own."""
    return Program(linear, AutoDiagonalNormal(linear), regression(sizes=(8, 5, 11, 8, 3)))


@case
def batches_of_several_sizes_by_their_shape():
    """``x.shape[0]`` may stay open in a graph."""

    def model(x, y):
        w, b = coefficients()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal((x * w).sum(-1) + b, 0.5), obs=y)

    return Program(model, AutoDiagonalNormal(model), regression(sizes=(8, 5, 11, 8, 3)))


@case
def epoch_with_a_last_batch_in_a_vae():
    sizes = (8, 8, 5, 8, 5)
    return dataclasses.replace(vae(), batches=[(coins(n, 6, seed=i),) for i, n in enumerate(sizes)])


@case
def float64_data():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    return Program(model, AutoMultivariateNormal(model), [(x.double(), y.double()) for x, y in regression()])


@case
def negative_binomial_with_offset():
    def model(x, y, exposure):
        w, b = coefficients()
        r = pyro.sample("r", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.NegativeBinomial(r, logits=(x * w).sum(-1) + b + exposure), obs=y)

    return Program(model, AutoNormal(model), [(x, y, 0.1 * y) for x, y in regression("poisson")])


@case
def zero_inflated_poisson():
    def model(x, y):
        w, b = coefficients()
        gate = pyro.sample("gate", dist.Beta(1.0, 3.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.ZeroInflatedPoisson(((x * w).sum(-1) + b).exp(), gate=gate), obs=y)

    return Program(model, AutoNormal(model), regression("poisson"))


@case
def robust_regression_student_t():
    def model(x, y):
        w, b = coefficients()
        df = pyro.sample("df", dist.Gamma(4.0, 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.StudentT(df, (x * w).sum(-1) + b, 0.5), obs=y)

    return Program(model, AutoNormal(model), regression())


@case
def horseshoe():
    def model(x, y):
        tau = pyro.sample("tau", dist.HalfCauchy(1.0))
        lam = pyro.sample("lam", dist.HalfCauchy(torch.ones(3)).to_event(1))
        w = pyro.sample("w", dist.Normal(torch.zeros(3), tau * lam).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    return Program(model, AutoNormal(model), regression())


@case
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


@case
def softmax_regression():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3, 4), 1.0).to_event(2))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)

    batches = [(normals(8, 3, seed=i), torch.randint(4, (8,), generator=generator(i))) for i in range(5)]
    return Program(model, AutoLowRankMultivariateNormal(model), batches)


@case
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


# Guides by hand, with constraints.


@case
def coin_beta():
    def model(x):
        p = pyro.sample("p", dist.Beta(10.0, 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(p), obs=x)

    def guide(x):
        a = pyro.param("a", torch.tensor(15.0), constraint=constraints.positive)
        b = pyro.param("b", torch.tensor(15.0), constraint=constraints.positive)
        pyro.sample("p", dist.Beta(a, b))

    return Program(model, guide, binary(10), optim=pyro.optim.Adam({"lr": 0.0005, "betas": (0.90, 0.999)}))


@case
def coin_with_sequential_plate():
    def model(x):
        p = pyro.sample("p", dist.Beta(10.0, 10.0))
        for i in pyro.plate("data", len(x)):
            pyro.sample(f"x_{i}", dist.Bernoulli(p), obs=x[i])

    def guide(x):
        a = pyro.param("a", torch.tensor(15.0), constraint=constraints.positive)
        pyro.sample("p", dist.Beta(a, 12.0))

    return Program(model, guide, binary(6))


@case
def dirichlet_multinomial():
    def model(x):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(4)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Categorical(p), obs=x)

    def guide(x):
        q = pyro.param("q", torch.full((4,), 2.0), constraint=constraints.softplus_positive)
        pyro.sample("p", dist.Dirichlet(q))

    return Program(model, guide, counts(9, high=4))


@case
def simplex_parameter():
    def model(x):
        p = pyro.param("p", torch.full((4,), 0.25), constraint=constraints.simplex)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Categorical(p), obs=x)

    return Program(model, lambda x: None, counts(9, high=4))


@case
def maximum_likelihood_unit_interval():
    def model(x):
        p = pyro.param("p", torch.tensor(0.3), constraint=constraints.unit_interval)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(p), obs=x)

    def guide(x):
        pass

    return Program(model, guide, binary(10))


@case
def lower_cholesky_guide():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MultivariateNormal(mu, torch.eye(3) + 0.2), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(3))
        tril = pyro.param("tril", torch.eye(3), constraint=constraints.lower_cholesky)
        pyro.sample("mu", dist.MultivariateNormal(loc, scale_tril=tril))

    return Program(model, guide, real(8, 3))


@case
def positive_definite_and_corr_cholesky():
    def model(x):
        cov = pyro.param("cov", torch.eye(3), constraint=constraints.positive_definite)
        corr = pyro.param("corr", torch.eye(3), constraint=constraints.corr_cholesky)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), cov), obs=x)
            pyro.sample("y", dist.MultivariateNormal(torch.zeros(3), scale_tril=corr), obs=x)

    return Program(model, lambda x: None, real(8, 3))


@case
def ordered_and_interval_parameters():
    def model(x):
        levels = pyro.param("levels", torch.tensor([-1.0, 0.0, 1.0]), constraint=constraints.ordered_vector)
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.interval(0.1, 2.0))
        low = pyro.param("low", torch.tensor(1.5), constraint=constraints.greater_than(1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(levels, scale * low).to_event(1), obs=x)

    return Program(model, lambda x: None, real(8, 3))


@case
def gamma_guide():
    def model(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)):
            local = pyro.sample("local", dist.Gamma(3.0, rate))
            pyro.sample("x", dist.Poisson(local), obs=x)

    def guide(x):
        a = pyro.param("a", torch.tensor(2.0), constraint=constraints.positive)
        pyro.sample("rate", dist.Gamma(a, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("local", dist.Gamma(x + a, 1.5))

    return Program(model, guide, [(x.float(),) for (x,) in counts(8, high=6)])


@case
def lkj_covariance():
    def model(x):
        theta = pyro.sample("theta", dist.HalfCauchy(torch.ones(3)).to_event(1))
        tril = pyro.sample("tril", dist.LKJCholesky(3, torch.tensor(1.5)))
        with pyro.plate("data", len(x)):
            pyro.sample(
                "x", dist.MultivariateNormal(torch.zeros(3), scale_tril=theta.sqrt().unsqueeze(-1) * tril), obs=x
            )

    return Program(model, AutoNormal(model), real(8, 3))


@case
def von_mises_and_weibull():
    def model(x):
        loc = pyro.param("loc", torch.tensor(0.2))
        k = pyro.param("k", torch.tensor(1.5), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("angle", dist.VonMises(loc, k), obs=torch.atan(x))
            pyro.sample("time", dist.Weibull(k, 1.0), obs=x.exp())

    return Program(model, lambda x: None, real(8))


# Modules.


class Regression(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.scale = PyroParam(torch.tensor(0.7), constraint=constraints.positive)
        self.register_buffer("shift", torch.tensor(0.1))

    def forward(self, x, y):
        mean = self.linear(x).squeeze(-1) + self.shift
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, self.scale), obs=y)


@case
def pyro_module_with_pyro_param():
    model = Regression()
    return Program(model, lambda x, y: None, regression(), modules=(model,))


@case
def pyro_module_guide_with_method():
    class Guide(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.loc = PyroParam(torch.zeros(3))
            self.scale = PyroParam(lambda: torch.ones(3), constraints.positive, event_dim=1)

        @pyro_method
        def offset(self):
            return pyro.sample("b", dist.Normal(self.loc.sum(), 0.5))

        def forward(self, x, y):
            pyro.sample("w", dist.Normal(self.loc, self.scale).to_event(1))
            self.offset()

    return Program(logistic, Guide(), regression("logistic"))


@case
def bayesian_neural_network():
    class Net(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = PyroModule[nn.Linear](3, 4)
            self.fc1.weight = PyroSample(dist.Normal(0.0, 1.0).expand([4, 3]).to_event(2))
            self.fc1.bias = PyroSample(dist.Normal(0.0, 1.0).expand([4]).to_event(1))
            self.fc2 = PyroModule[nn.Linear](4, 1)
            self.sigma = PyroSample(lambda self: dist.LogNormal(self.fc2.bias.sum(), 1.0))

        def forward(self, x, y=None):
            mean = self.fc2(self.fc1(x).tanh()).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(mean, self.sigma), obs=y)
            return mean

    model = Net()
    return Program(model, AutoDiagonalNormal(model), regression(), modules=(model,))


@case
def neural_network_turned_bayesian():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    pyro.nn.module.to_pyro_module_(net)
    for m in net.modules():
        for name, value in list(m.named_parameters(recurse=False)):
            setattr(m, name, PyroSample(dist.Normal(0, 1).expand(value.shape).to_event(value.dim())))

    def model(x, y):
        mean = net(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.3), obs=y)

    return Program(model, AutoNormal(model, init_scale=0.01), regression())


@case
def random_module():
    net = nn.Linear(3, 1)

    def model(x, y):
        pyro.module("net", net)
        eps = pyro.sample("eps", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(net(x).squeeze(-1) + 0.1 * eps, 0.3), obs=y)

    def guide(x, y):
        pyro.sample("eps", dist.Normal(0.5 * y, 1.0).to_event(1))

    return Program(model, guide, regression(), modules=(net,))


def vae_nets(features: int = 6, latent: int = 2, hidden: int = 5, *middle: nn.Module) -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(nn.Linear(features, hidden), *middle, nn.Softplus(), nn.Linear(hidden, 2 * latent))
    return encoder, nn.Sequential(nn.Linear(latent, hidden), nn.Softplus(), nn.Linear(hidden, features))


def vae(*middle: nn.Module, **options: Any) -> Program:
    encoder, decoder = vae_nets(6, 2, 5, *middle)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(x.shape[0], 2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z), validate_args=False).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", x.shape[0]):
            loc, scale = encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, scale.exp()).to_event(1))

    options = {"optim": pyro.optim.Adam({"lr": 1e-3})} | options
    return Program(model, guide, binary(8, 6), modules=(encoder, decoder), **options)


@case
def vae_of_the_tutorial():
    return vae()


@case
def vae_with_batch_norm():
    return vae(nn.BatchNorm1d(5))


@case
def vae_with_dropout():
    return vae(nn.Dropout(0.3))


@case
def vae_mean_field():
    return vae(loss=TraceMeanField_ELBO())


@case
def vae_mean_field_particles():
    return vae(loss=TraceMeanField_ELBO(num_particles=3, vectorize_particles=True))


@case
def vae_graph():
    return vae(loss=TraceGraph_ELBO())


@case(loud=True)
def module_with_frozen_parameters():
    encoder, decoder = vae_nets()
    for p in encoder[0].parameters():
        p.requires_grad_(False)
    shared = decoder[2].weight  # tied to what the guide reads

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, scale = encoder(x + 0.1 * shared.sum()).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return Program(model, guide, real(8, 6), modules=(encoder, decoder))


@case
def convolutional_vae():
    encoder = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (4, 2, 2)), nn.ConvTranspose2d(4, 1, 5, stride=3))

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)[..., :8, :8]).to_event(3), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, scale = encoder(x[..., :7, :7]).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return Program(model, guide, binary(6, 1, 8, 8), modules=(encoder, decoder))


# Discrete latent variables, summed out.


def mixture(x):
    weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(3)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
    with pyro.plate("components", 3):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(locs[k], scale), obs=x)


GLOBALS = ["weights", "scale", "locs"]


@case
def gaussian_mixture_map():
    guide = AutoDelta(poutine.block(mixture, expose=GLOBALS))
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return Program(
        config_enumerate(mixture), guide, real(12), loss=elbo, optim=pyro.optim.Adam({"lr": 0.1, "betas": (0.8, 0.99)})
    )


@case
def gaussian_mixture_init_to_value():
    values = {"weights": torch.ones(3) / 3, "scale": torch.tensor(1.0), "locs": torch.tensor([-1.0, 0.0, 1.0])}
    guide = AutoDiagonalNormal(poutine.block(mixture, hide=["k"]), init_loc_fn=init_to_value(values=values))
    return Program(config_enumerate(mixture), guide, real(12), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def gaussian_mixture_plate_nesting_guessed():
    guide = AutoNormal(poutine.block(mixture, expose=GLOBALS))
    return Program(config_enumerate(mixture), guide, real(12), loss=TraceEnum_ELBO())


@case(captures=4)
def gaussian_mixture_batches_of_several_sizes():
    guide = AutoNormal(poutine.block(mixture, expose=GLOBALS))
    batches = [(normals(n, seed=n),) for n in (12, 7, 9, 12, 5)]
    return Program(config_enumerate(mixture), guide, batches, loss=TraceEnum_ELBO(max_plate_nesting=1))


def assignments_guide(default: str):
    @config_enumerate(default=default)
    def guide(x):
        with pyro.plate("components", 3):
            pyro.sample("locs", dist.Delta(pyro.param("locs_loc", torch.tensor([-1.0, 0.1, 1.0]))))
        pyro.sample("scale", dist.LogNormal(pyro.param("scale_loc", torch.tensor(0.0)), 0.1))
        weights = pyro.param("weights_loc", torch.ones(3) / 3, constraint=constraints.simplex)
        pyro.sample("weights", dist.Delta(weights, event_dim=1))
        with pyro.plate("data", len(x)):
            probs = pyro.param("probs", torch.ones(len(x), 3) / 3, constraint=constraints.simplex)
            pyro.sample("k", dist.Categorical(probs))

    return guide


@case
def gaussian_mixture_assignments_in_the_guide():
    return Program(mixture, assignments_guide("parallel"), real(6), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def discrete_enumerated_sequentially():
    def model(x):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
        locs = pyro.param("locs", torch.tensor([-1.0, 0.0, 1.0]))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    def guide(x):
        probs = pyro.param("probs", torch.ones(3) / 3, constraint=constraints.simplex)
        pyro.sample("k", dist.Categorical(probs), infer={"enumerate": "sequential"})

    return Program(model, guide, real(6), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def auto_discrete_parallel():
    def model(x):
        with pyro.plate("components", 3):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 8):
            k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=["k"])))
    guide.append(AutoDiscreteParallel(poutine.block(model, expose=["k"])))
    return Program(model, guide, real(8), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def mixture_same_family():
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        locs = pyro.sample("locs", dist.Normal(torch.zeros(3), 3.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, 1.0)), obs=x)

    return Program(model, AutoNormal(model), real(10))


@case
def dirichlet_process_mixture():
    def sticks(beta):
        return nn.functional.pad(beta, (0, 1), value=1.0) * nn.functional.pad((1 - beta).cumprod(-1), (1, 0), value=1.0)

    def model(x):
        alpha = pyro.param("alpha", torch.tensor(1.5), constraint=constraints.positive)
        with pyro.plate("sticks", 3):
            beta = pyro.sample("beta", dist.Beta(1.0, alpha))
        with pyro.plate("components", 4):
            mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(sticks(beta)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.MultivariateNormal(mu[z], torch.eye(2)), obs=x)

    def guide(x):
        kappa = pyro.param("kappa", torch.full((3,), 1.2), constraint=constraints.positive)
        tau = pyro.param("tau", lambda: dist.Normal(torch.zeros(4, 2), 1.0).sample())
        with pyro.plate("sticks", 3):
            pyro.sample("beta", dist.Beta(torch.ones(3), kappa))
        with pyro.plate("components", 4):
            pyro.sample("mu", dist.MultivariateNormal(tau, torch.eye(2)))

    return Program(model, guide, real(8, 2), loss=TraceEnum_ELBO(max_plate_nesting=1))


def hmm_globals(states: int = 3, features: int = 2) -> tuple[Tensor, Tensor]:
    with poutine.mask(mask=True):
        probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(states) + 0.1).to_event(1))
        probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([states, features]).to_event(2))
    return probs_x, probs_y


HMM_GLOBALS = ["probs_x", "probs_y"]


@case
def hmm_of_one_sequence():
    @config_enumerate
    def model(y):
        probs_x, probs_y = hmm_globals()
        x = 0
        tones = pyro.plate("tones", 2, dim=-1)
        for t in pyro.markov(range(len(y))):
            x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]))
            with tones as d:
                pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x, d]), obs=y[t])

    guide = AutoDelta(poutine.block(model, expose=HMM_GLOBALS))
    return Program(model, guide, binary(4, 2), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def hmm_of_sequences_with_lengths():
    def model(sequences, lengths):
        probs_x, probs_y = hmm_globals()
        tones = pyro.plate("tones", 2, dim=-1)
        with pyro.plate("sequences", len(sequences), dim=-2):
            x = 0
            for t in pyro.markov(range(sequences.shape[1])):
                with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                    x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
                    with tones:
                        pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=sequences[:, t])

    guide = AutoDelta(poutine.block(model, expose=HMM_GLOBALS))
    batches = [(coins(5, 4, 2, seed=i), torch.randint(1, 5, (5,), generator=generator(i))) for i in range(5)]
    return Program(model, guide, batches, loss=TraceEnum_ELBO(max_plate_nesting=2))


@case
def hmm_autoregressive_with_history_two():
    @config_enumerate
    def model(y):
        probs = pyro.sample("probs", dist.Dirichlet(torch.ones(2, 2, 2)).to_event(2))
        emit = pyro.param("emit", torch.tensor([0.2, 0.7]), constraint=constraints.unit_interval)
        with pyro.plate("sequences", len(y), dim=-1):
            old, now = 0, 0
            for t in pyro.markov(range(4), history=2):
                old, now = now, pyro.sample(f"x_{t}", dist.Categorical(probs[old, now]))
                pyro.sample(f"y_{t}", dist.Bernoulli(emit[now]), obs=y[:, t])

    guide = AutoNormal(poutine.block(model, expose=["probs"]))
    return Program(model, guide, binary(5, 4), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def tensor_monte_carlo():
    @config_enumerate(default="parallel", expand=False, num_samples=3, tmc="diagonal")
    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x[0])

    @config_enumerate(default="parallel", expand=False, num_samples=3, tmc="diagonal")
    def guide(x):
        pyro.sample("loc", dist.Normal(pyro.param("q", torch.tensor(0.3)), 1.0))

    return Program(model, guide, real(1), loss=TraceTMC_ELBO(max_plate_nesting=0))


@case
def discrete_hmm_distribution():
    def model(y):
        logits = pyro.param("logits", torch.zeros(3, 3))
        locs = pyro.param("locs", torch.tensor([-1.0, 0.0, 1.0]))
        with pyro.plate("sequences", len(y)):
            pyro.sample("y", dist.DiscreteHMM(torch.zeros(3), logits, dist.Normal(locs, 1.0)), obs=y)

    return Program(model, lambda y: None, real(4, 5))


@case
def gaussian_hmm_distribution():
    def model(y):
        matrix = pyro.param("matrix", 0.9 * torch.eye(2))
        sigma = pyro.sample("sigma", dist.LogNormal(0.0, 0.3))
        noise = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        hmm = dist.GaussianHMM(
            noise, matrix, dist.Normal(torch.zeros(2), sigma).to_event(1), torch.eye(2), noise, duration=5
        )
        pyro.sample("y", hmm, obs=y)

    return Program(model, AutoDelta(model), real(5, 2))


@case
def latent_dirichlet_allocation():
    layer = nn.Sequential(nn.Linear(10, 6), nn.Sigmoid(), nn.Linear(6, 4), nn.Softmax(-1))

    def model(words):
        with pyro.plate("topics", 4):
            pyro.sample("topic_weights", dist.Gamma(0.25, 1.0))
            topics = pyro.sample("topic_words", dist.Dirichlet(torch.ones(10) / 10))
        with pyro.plate("documents", words.shape[1]):
            mix = pyro.sample("doc_topics", dist.Dirichlet(torch.ones(4)))
            with pyro.plate("words", 5):
                z = pyro.sample("word_topics", dist.Categorical(mix), infer={"enumerate": "parallel"})
                pyro.sample("doc_words", dist.Categorical(topics[z]), obs=words)

    def guide(words):
        pyro.module("predictor", layer)
        w = pyro.param("topic_pseudocounts", lambda: torch.ones(4), constraint=constraints.positive)
        t = pyro.param("pseudocounts", lambda: torch.ones(4, 10), constraint=constraints.greater_than(0.5))
        with pyro.plate("topics", 4):
            pyro.sample("topic_weights", dist.Gamma(w, 1.0))
            pyro.sample("topic_words", dist.Dirichlet(t))
        counted = torch.zeros(10, words.shape[1]).scatter_add(0, words, torch.ones(words.shape))
        with pyro.plate("documents", words.shape[1]):
            pyro.sample("doc_topics", dist.Delta(layer(counted.T), event_dim=1))

    loss = TraceEnum_ELBO(max_plate_nesting=2)
    return Program(
        model, guide, counts(5, 6, high=10), loss=loss, optim=pyro.optim.ClippedAdam({"lr": 0.01}), modules=(layer,)
    )


@case(captures=2, loud=True)
def semi_supervised_vae():
    """Labelled and unlabelled batches by turns: two structures."""
    classify, encode = nn.Linear(6, 3), nn.Linear(9, 4)
    decode = nn.Linear(5, 6)

    def model(x, y=None):
        pyro.module("decode", decode)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3), obs=y)
            inputs = torch.cat([z.expand((*y.shape[:-1], 2)), y], -1)
            pyro.sample("x", dist.Bernoulli(logits=decode(inputs)).to_event(1), obs=x)

    def guide(x, y=None):
        pyro.module("classify", classify)
        pyro.module("encode", encode)
        with pyro.plate("data", len(x)):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=classify(x)))
            loc, scale = encode(torch.cat([x.expand((*y.shape[:-1], 6)), y], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    labels = [torch.eye(3)[torch.randint(3, (8,), generator=generator(i))] for i in range(6)]
    return Program(
        model,
        config_enumerate(guide, default="parallel", expand=True),
        binary(8, 6, steps=6),
        kwargs=[{"y": label} if i % 2 else {} for i, label in enumerate(labels)],
        loss=TraceEnum_ELBO(max_plate_nesting=1),
        modules=(classify, encode, decode),
    )


# Gaussian processes.


@case
def gaussian_process_regression():
    x = torch.linspace(0, 1, 10)
    model = gp.models.GPRegression(x, x.sin() + 0.1 * normals(10), gp.kernels.RBF(1), noise=torch.tensor(0.1))
    model.kernel.lengthscale = PyroSample(dist.LogNormal(0.0, 1.0))
    model.kernel.variance = PyroSample(dist.LogNormal(0.0, 1.0))
    model.kernel.autoguide("lengthscale", dist.Normal)
    return Program(model.model, model.guide, [()] * 5, modules=(model,))


@case
def gaussian_process_sparse():
    x = torch.linspace(0, 1, 12)
    model = gp.models.SparseGPRegression(
        x, x.sin() + 0.1 * normals(12), gp.kernels.Matern32(1), Xu=torch.linspace(0, 1, 4), approx="VFE", jitter=1e-4
    )
    return Program(model.model, model.guide, [()] * 5, modules=(model,))


@case
def gaussian_process_variational_sparse():
    x = normals(12, 2)
    model = gp.models.VariationalSparseGP(
        x, coins(12), gp.kernels.RBF(2), normals(4, 2, seed=3), gp.likelihoods.Binary(), whiten=True, jitter=1e-4
    )
    return Program(model.model, model.guide, [()] * 5, loss=TraceMeanField_ELBO(), modules=(model,))


@case
def gaussian_process_latent_variable_model():
    y = normals(3, 8)
    kernel = gp.kernels.Sum(gp.kernels.RBF(2, lengthscale=torch.ones(2)), gp.kernels.WhiteNoise(2))
    module = gp.models.SparseGPRegression(normals(8, 2, seed=1), y, kernel, normals(4, 2, seed=2), jitter=1e-4)
    module.X = PyroSample(dist.Normal(torch.zeros(8, 2), 0.1).to_event())
    module.autoguide("X", dist.Normal)
    return Program(module.model, module.guide, [()] * 5, modules=(module,))


# Hierarchies and handlers.


def schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def schools_data() -> list[tuple[Tensor, Tensor]]:
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    return [(y + i, torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])) for i in range(5)]


@case
def eight_schools():
    return Program(schools, AutoMultivariateNormal(schools), schools_data())


@case
def eight_schools_mean_field():
    return Program(schools, AutoNormal(schools), schools_data(), loss=TraceMeanField_ELBO())


@case
def eight_schools_loc_scale_reparam():
    model = poutine.reparam(schools, config={"theta": LocScaleReparam(centered=0.0)})
    return Program(model, AutoDiagonalNormal(model), schools_data())


@case
def eight_schools_learned_centering():
    model = poutine.reparam(schools, config={"theta": LocScaleReparam(centered=None)})
    return Program(model, AutoNormal(model), schools_data())


@case
def eight_schools_reparam_by_itself():
    model = AutoReparam()(schools)
    return Program(model, AutoNormal(model), schools_data())


@case
def eight_schools_hierarchical_messenger():
    return Program(
        schools,
        AutoHierarchicalNormalMessenger(schools, init_loc_fn=init_to_median, hierarchical_sites=["theta"]),
        schools_data(),
    )


@case
def transform_reparam():
    def model(x):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        affine = T.AffineTransform(scale, 2.0)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(0.0, 1.0), [affine]))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    model = poutine.reparam(model, config={"z": TransformReparam()})
    return Program(model, AutoNormal(model), real(8))


@case
def student_t_stable_projected_reparam():
    @poutine.reparam(
        config={
            "t": StudentTReparam(),
            "s": LatentStableReparam(),
            "direction": ProjectedNormalReparam(),
        }
    )
    def model(x):
        t = pyro.sample("t", dist.StudentT(4.0, 0.0, 1.0))
        s = pyro.sample("s", dist.Stable(1.6, 0.0, 1.0, 0.0))
        direction = pyro.sample("direction", dist.ProjectedNormal(torch.ones(2)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(t + s + direction.sum(-1), 1.0), obs=x)

    return Program(model, AutoDiagonalNormal(model), real(8))


@case
def nested_plates():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        outer, inner = pyro.plate("outer", 3, dim=-2), pyro.plate("inner", 4, dim=-1)
        with outer:
            a = pyro.sample("a", dist.Normal(mu, 1.0))
        with inner:
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with outer, inner:
            c = pyro.sample("c", dist.Normal(a + b, 1.0))
            pyro.sample("x", dist.Normal(c, 0.5), obs=x)

    return Program(model, AutoNormal(model), real(3, 4))


@case
def nested_subsampled_plates():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with (
            pyro.plate("rows", 8, subsample_size=3, dim=-2) as i,
            pyro.plate("columns", 6, subsample_size=2, dim=-1) as j,
        ):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x[i][:, j])

    def guide(x):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(model, guide, real(8, 6))


@case
def radon_varying_intercepts_and_slopes():
    def model(county, floor, y):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        scale = pyro.sample("scale", dist.HalfNormal(torch.ones(2)).to_event(1))
        with pyro.plate("counties", 4):
            ab = pyro.sample("ab", dist.Normal(mu, scale).to_event(1))
        with pyro.plate("data", len(y)):
            mean = ab[county, 0] + ab[county, 1] * floor
            pyro.sample("y", dist.Normal(mean, 0.7), obs=y)

    batches = [(torch.randint(4, (9,), generator=generator(i)), coins(9, seed=i), normals(9, seed=i)) for i in range(5)]
    return Program(model, AutoLowRankMultivariateNormal(model), batches)


@case
def scaled_by_a_number():
    model = poutine.scale(linear, scale=0.1)
    return Program(model, poutine.scale(AutoNormal(model), scale=0.1), regression())


@case
def annealed_by_a_tensor():
    def model(x, beta):
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=beta):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, beta):
        gain = pyro.param("gain", torch.tensor(0.2))
        with pyro.plate("data", len(x)), poutine.scale(scale=beta):
            pyro.sample("z", dist.Normal(gain * x, 0.8))

    return Program(model, guide, [(*x, torch.tensor((i + 1) / 5)) for i, x in enumerate(real(8))])


@case(captures=None)
def annealed_by_a_number():
    """A Python number is part of the structure, or made dynamic: either is right."""

    def model(x, beta=1.0):
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=beta):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, beta=1.0):
        gain = pyro.param("gain", torch.tensor(0.2))
        with pyro.plate("data", len(x)), poutine.scale(scale=beta):
            pyro.sample("z", dist.Normal(gain * x, 0.8))

    return Program(model, guide, real(8), kwargs=[{"beta": b} for b in (0.2, 0.4, 0.4, 1.0, 1.0)])


@case
def masked_observations():
    def model(x, mask):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with poutine.mask(mask=mask):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, mask):
        gain = pyro.param("gain", torch.tensor(0.2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(gain * x * mask, 0.8))

    return Program(model, guide, [(*x, coins(8, seed=i).bool()) for i, x in enumerate(real(8))])


@case
def imputation_with_obs_mask():
    def model(x, mask):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x, obs_mask=mask)

    def guide(x, mask):
        pyro.sample("loc", dist.Normal(pyro.param("q", torch.tensor(0.0)), 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("x_unobserved", dist.Normal(pyro.param("fill", torch.tensor(0.1)), 1.0))

    return Program(model, guide, [(*x, coins(8, seed=i).bool()) for i, x in enumerate(real(8))])


@case
def factors_and_deterministic():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        twice = pyro.deterministic("twice", 2 * a)
        pyro.factor("near_one", -((twice - 1) ** 2))
        with pyro.plate("data", len(x)):
            pyro.factor("data_term", -((x - twice) ** 2))

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.sample("a", dist.Normal(loc, 0.3))
        pyro.factor("prefer", 0.01 * loc, has_rsample=True)

    return Program(model, guide, real(8))


@case
def blocked_site():
    def model(x):
        with poutine.block(hide=["nuisance"]):
            n = pyro.sample("nuisance", dist.Normal(0.0, 0.1))
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu + n, 1.0), obs=x)

    def guide(x):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(model, guide, real(8))


@case(loud=True)
def conditioned_and_intervened():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(a, 1.0))
        c = pyro.sample("c", dist.Normal(a + b, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(c, 1.0), obs=x)

    model = pyro.do(pyro.condition(model, data={"a": torch.tensor(0.3)}), data={"b": torch.tensor(0.1)})

    def guide(x):
        pyro.sample("c", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(model, guide, real(8))


@case
def lifted_parameters():
    def net(x, y):
        w = pyro.param("w", torch.zeros(3))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    model = poutine.lift(net, prior={"w": dist.Normal(torch.zeros(3), 1.0).to_event(1)})

    def guide(x, y):
        scale = pyro.param("w_scale", torch.full((3,), 0.2), constraint=constraints.positive)
        pyro.sample("w", dist.Normal(pyro.param("w_loc", torch.zeros(3)), scale).to_event(1))

    return Program(model, guide, regression())


@case
def scoped_twice():
    def coin(x):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        pyro.sample("x", dist.Bernoulli(p).expand([len(x)]).to_event(1), obs=x)

    def model(x):
        for name in ("left", "right"):
            scope(coin, prefix=name)(x)

    return Program(model, AutoNormal(model), binary(6))


@case
def easy_guide_by_hand():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 8, dim=-1):
            z = pyro.sample("z", dist.Normal(mu, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    @easy_guide(model)
    def guide(self, x):
        self.map_estimate("mu")
        group = self.group(match="z")
        with self.plate("data", 8, dim=-1):
            loc = pyro.param("loc", torch.zeros(8, 1))
            group.sample("z_group", dist.Normal(loc, 0.3).to_event(1))

    return Program(model, guide, real(8))


@case
def conditional_keywords():
    """The same structure each time: a keyword that chooses a branch, and one that is a tensor."""

    def model(x, y=None, *, kind="normal", weight=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        cls = dist.Normal if kind == "normal" else dist.Laplace
        with pyro.plate("data", len(x)), poutine.scale(scale=weight if weight is not None else 1.0):
            pyro.sample("x", cls(mu, 1.0), obs=x)

    def guide(x, y=None, **kwargs):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    kwargs = [{"kind": "laplace", "weight": normals(8, seed=i).exp()} for i in range(5)]
    return Program(model, guide, real(8), kwargs=kwargs)


@case(captures=2)
def keyword_that_changes_the_structure():
    def model(x, kind="normal"):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        cls = dist.Normal if kind == "normal" else dist.Laplace
        with pyro.plate("data", len(x)):
            pyro.sample("x", cls(mu, 1.0), obs=x)

    def guide(x, **kwargs):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(
        model,
        guide,
        real(8, steps=6),
        kwargs=[{"kind": k} for k in ("normal", "laplace", "normal", "laplace", "normal", "laplace")],
    )


@case
def arguments_in_dicts_and_lists():
    def model(batch, weights):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(batch["x"])):
            pyro.sample("x", dist.Normal(mu + weights[0], weights[1]), obs=batch["x"])

    def guide(batch, weights):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(
        model, guide, [({"x": normals(8, seed=i)}, [torch.tensor(0.1 * i), torch.tensor(1.0)]) for i in range(5)]
    )


@case
def no_arguments_at_all():
    data = normals(9)

    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(data)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=data)

    return Program(model, AutoDiagonalNormal(model), [()] * 5)


@case
def prints_of_what_it_draws():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        print("mu has shape", mu.shape, "and the data", len(x))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return Program(model, AutoNormal(model), real(8))


@case
def structure_that_python_decides():
    """Branches on shapes, dtypes and what a model's own settings say are those of one structure."""
    settings = {"heavy": True}

    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        d = (
            dist.StudentT(4.0, mu, 1.0)
            if settings["heavy"] and x.dim() == 1 and x.is_floating_point()
            else dist.Normal(mu, 1.0)
        )
        with pyro.plate("data", x.size(0)):
            pyro.sample("x", d, obs=x)

    return Program(model, AutoNormal(model), real(8))


# Losses.


def nets_guide(loss: Any, **options: Any) -> Program:
    """A regression whose particles may stand in front of the batch."""
    return Program(linear, AutoNormal(linear), regression(), loss=loss, **options)


@case
def particles_one_by_one():
    return nets_guide(Trace_ELBO(num_particles=3))


@case
def particles_vectorised():
    return nets_guide(Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1))


@case
def particles_vectorised_nesting_guessed():
    return nets_guide(Trace_ELBO(num_particles=4, vectorize_particles=True))


@case
def renyi():
    return nets_guide(RenyiELBO(alpha=0.5, num_particles=3, vectorize_particles=False))


@case
def renyi_vectorised():
    return nets_guide(RenyiELBO(alpha=0.0, num_particles=3, vectorize_particles=True, max_plate_nesting=1))


@case
def mean_field_with_kl_of_each_family():
    def model(x):
        g = pyro.sample("g", dist.Gamma(2.0, 2.0))
        d = pyro.sample("d", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(d.sum(-1), g), obs=x)

    def guide(x):
        pyro.sample("g", dist.Gamma(pyro.param("a", torch.tensor(3.0), constraint=constraints.positive), 2.0))
        pyro.sample("d", dist.Dirichlet(pyro.param("c", torch.ones(3), constraint=constraints.positive)))

    return Program(model, guide, real(8), loss=TraceMeanField_ELBO())


def switch(infer: dict[str, Any] | None = None, loss: Any = None, net: nn.Module | None = None) -> Program:
    """A discrete draw whose gradient is the score function's."""

    def model(x):
        locs = pyro.param("locs", torch.tensor([-1.0, 1.0]))
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.4))
            pyro.sample("x", dist.Normal(locs[k.long()], 1.0), obs=x)

    def guide(x):
        if net is not None:
            pyro.module("baseline", net)
        logit = pyro.param("logit", torch.tensor(0.3))
        with pyro.plate("data", len(x)):
            options = {
                name: {**b, "nn_baseline_input": x.unsqueeze(-1)} if net else b for name, b in (infer or {}).items()
            }
            pyro.sample("k", dist.Bernoulli(logits=logit * x), infer=options)

    return Program(model, guide, real(8), loss=loss or Trace_ELBO(), modules=(net,) if net else ())


@case
def score_function():
    return switch()


@case
def score_function_with_particles():
    return switch(loss=Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1))


@case
def graph_elbo_discrete():
    return switch(loss=TraceGraph_ELBO())


@case
def graph_elbo_decaying_average_baseline():
    return switch({"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}}, TraceGraph_ELBO())


@case
def graph_elbo_neural_baseline():
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    return switch({"baseline": {"nn_baseline": net}}, TraceGraph_ELBO(), net)


@case
def graph_elbo_neural_and_decaying_baseline():
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    return switch({"baseline": {"nn_baseline": net, "use_decaying_avg_baseline": True}}, TraceGraph_ELBO(), net)


@case(loud=True)
def enum_elbo_with_score_function():
    return switch(loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def non_reparametrised_coin():
    def model(x):
        p = pyro.sample("p", dist.Beta(5.0, 5.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(p), obs=x)

    def guide(x):
        a = pyro.param("a", torch.tensor(5.0), constraint=constraints.positive)
        p = NonreparameterizedBeta(a, 5.0)
        pyro.sample("p", p, infer={"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}})

    return Program(model, guide, binary(8), loss=TraceGraph_ELBO())


@case
def straight_through_and_relaxed():
    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.OneHotCategorical(torch.ones(3) / 3))
            r = pyro.sample("r", dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), probs=torch.tensor(0.5)))
            pyro.sample("x", dist.Normal((k * torch.arange(3.0)).sum(-1) + r, 1.0), obs=x)

    def guide(x):
        logits = pyro.param("logits", torch.zeros(3))
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.OneHotCategoricalStraightThrough(logits=logits + x.unsqueeze(-1)))
            pyro.sample(
                "r", dist.RelaxedBernoulliStraightThrough(torch.tensor(0.7), logits=pyro.param("l", torch.tensor(0.1)))
            )

    return Program(model, guide, real(8))


@case
def tail_adaptive():
    return nets_guide(TraceTailAdaptive_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1))


@case
def energy_distance():
    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    def guide(x):
        pyro.sample("loc", dist.Normal(pyro.param("q", torch.tensor(0.2)), 0.1))

    return Program(model, guide, real(8), loss=EnergyDistance(num_particles=4))


@case
def loss_is_a_function():
    def elbo(model, guide, *args, **kwargs):
        """Of the tutorial on custom objectives."""
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        return -(model_trace.log_prob_sum() - guide_trace.log_prob_sum())

    return nets_guide(elbo)


class Regularised(Trace_ELBO):
    """An ELBO of the user with a penalty on the parameters of the guide."""

    def differentiable_loss(self, model, guide, *args, **kwargs):
        loss = super().differentiable_loss(model, guide, *args, **kwargs)
        return loss + 0.1 * sum(p.pow(2).sum() for p in guide.parameters())

    def loss_and_grads(self, model, guide, *args, **kwargs):
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss


@case(rtol=1e-6)
def loss_is_a_class_of_the_user():
    """The loss is a float32 tensor plus and minus a float, which a graph holds in float64."""
    return nets_guide(Regularised())


# Normalising flows.


def flow_density(transform: Callable[[], nn.Module]) -> Program:
    flow = transform()

    def model(x):
        pyro.module("flow", flow)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [flow]), obs=x)

    return Program(model, lambda x: None, real(8, 2), modules=(flow,))


@case
def flow_spline_coupling():
    return flow_density(lambda: T.spline_coupling(2, count_bins=4, hidden_dims=[6]))


@case
def flow_affine_coupling():
    return flow_density(lambda: T.affine_coupling(2, hidden_dims=[6]))


@case
def flow_spline():
    return flow_density(lambda: T.Spline(2, count_bins=4, bound=3.0))


@case
def flow_masked_autoregressive():
    flow = T.affine_autoregressive(2, hidden_dims=[6])

    def model(x):
        pyro.module("flow", flow)
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.TransformedDistribution(base, [flow.inv]), obs=x)

    return Program(model, lambda x: None, real(8, 2), modules=(flow,))


@case
def flow_conditional():
    flow = T.conditional_spline(2, 1, hidden_dims=[6], count_bins=4)

    def model(context, x):
        pyro.module("flow", flow)
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.ConditionalTransformedDistribution(base, [flow]).condition(context), obs=x)

    return Program(
        model,
        lambda c, x: None,
        [(normals(8, 1, seed=i), normals(8, 2, seed=9 + i)) for i in range(5)],
        modules=(flow,),
    )


@case
def flow_in_the_guide():
    flows = nn.ModuleList([T.planar(2), T.sylvester(2, 2), T.radial(2)])

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(x):
        pyro.module("flows", flows)
        with pyro.plate("data", len(x)):
            base = dist.Normal(pyro.param("gain", torch.tensor(0.3)) * x, 1.0).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, list(flows)))

    return Program(model, guide, real(8, 2), modules=(flows,))


# Sequences.


@case
def local_level_by_a_loop():
    def model(y):
        sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
        z = torch.tensor(0.0)
        for t in range(len(y)):
            z = pyro.sample(f"z_{t}", dist.Normal(z, sigma))
            pyro.sample(f"y_{t}", dist.Normal(z, 0.5), obs=y[t])

    return Program(model, AutoDiagonalNormal(model), real(5))


@case
def autoregressive_with_markov_guide():
    def model(y):
        phi = pyro.sample("phi", dist.Uniform(-1.0, 1.0))
        with pyro.plate("series", y.shape[0]):
            z = torch.zeros(y.shape[0])
            for t in pyro.markov(range(4)):
                z = pyro.sample(f"z_{t}", dist.Normal(phi * z, 1.0))
                pyro.sample(f"y_{t}", dist.Normal(z, 0.5), obs=y[:, t])

    def guide(y):
        q = pyro.param("q", torch.tensor(0.1), constraint=constraints.interval(-1.0, 1.0))
        pyro.sample("phi", dist.Delta(q))
        a, b = pyro.param("a", torch.tensor(0.5)), pyro.param("b", torch.tensor(0.2))
        with pyro.plate("series", y.shape[0]):
            z = torch.zeros(y.shape[0])
            for t in pyro.markov(range(4)):
                z = pyro.sample(f"z_{t}", dist.Normal(a * y[:, t] + b * z, 0.7))

    return Program(model, guide, real(6, 4))


class Emission(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transition, self.gate = nn.Linear(2, 4), nn.Linear(2, 2)
        self.emit = nn.Linear(2, 3)
        self.z_0 = nn.Parameter(torch.zeros(2))

    def step(self, z):
        loc, scale = self.transition(z).chunk(2, -1)
        gate = self.gate(z).sigmoid()
        return gate * loc + (1 - gate) * z, nn.functional.softplus(scale)


def deep_markov(kind: type[nn.Module]) -> Program:
    p, rnn = Emission(), kind(3, 5, batch_first=True)
    combine, h_0, z_q = nn.Linear(7, 4), nn.Parameter(torch.zeros(1, 1, 5)), nn.Parameter(torch.zeros(2))
    if kind is nn.RNN:
        rnn.nonlinearity = "tanh"

    def model(x, mask, annealing=1.0):
        pyro.module("p", p)
        z = p.z_0.expand(len(x), 2)
        with pyro.plate("sequences", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                loc, scale = p.step(z)
                with poutine.scale(scale=annealing):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, scale).mask(mask[:, t : t + 1]).to_event(1))
                pyro.sample(
                    f"x_{t}", dist.Bernoulli(logits=p.emit(z)).mask(mask[:, t : t + 1]).to_event(1), obs=x[:, t]
                )

    def guide(x, mask, annealing=1.0):
        pyro.module("rnn", rnn)
        pyro.module("combine", combine)
        start = pyro.param("h_0", h_0).expand(1, len(x), 5).contiguous()
        output = rnn(x.flip(1), start)[0].flip(1)
        z = pyro.param("z_q_0", z_q).expand(len(x), 2)
        with pyro.plate("sequences", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                loc, scale = combine(torch.cat([z, output[:, t]], -1)).chunk(2, -1)
                with poutine.scale(scale=annealing):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, scale.exp()).mask(mask[:, t : t + 1]).to_event(1))

    masks = [(torch.arange(3) < torch.randint(1, 4, (6, 1), generator=generator(i))).float() for i in range(5)]
    batches = [(*x, mask) for x, mask in zip(binary(6, 3, 3), masks, strict=True)]
    optim = pyro.optim.ClippedAdam({"lr": 0.003, "betas": (0.96, 0.999), "clip_norm": 10.0, "lrd": 0.999})
    return Program(model, guide, batches, optim=optim, kwargs=[{"annealing": 0.5}] * 5, modules=(p, rnn, combine))


@case
def deep_markov_model_rnn():
    return deep_markov(nn.RNN)


@case
def deep_markov_model_gru():
    return deep_markov(nn.GRU)


# Where autograd sees it, PyTorch runs nn.LSTM by oneDNN as one kernel; a graph holds its operations one by one.
@case(rtol=1e-5)
def lstm_language_model():
    embed, lstm, out = nn.Embedding(7, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 7)

    def model(words):
        for name, module in (("embed", embed), ("lstm", lstm), ("out", out)):
            pyro.module(name, module)
        logits = out(lstm(embed(words[:, :-1]))[0])
        with pyro.plate("sentences", len(words)):
            pyro.sample("words", dist.Categorical(logits=logits).to_event(1), obs=words[:, 1:])

    return Program(model, lambda words: None, counts(6, 5, high=7), modules=(embed, lstm, out))


@case
def transformer_encoder_guide():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.unsqueeze(-2), 1.0).expand([len(x), 3, 4]).to_event(2), obs=x)

    def guide(x):
        pyro.module("layer", layer)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(layer(x).mean(1), 0.5).to_event(1))

    return Program(model, guide, real(6, 3, 4), modules=(layer,))


# Other models of the literature.


@case
def item_response():
    def model(student, item, y):
        with pyro.plate("students", 5):
            ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
        with pyro.plate("items", 4):
            difficulty = pyro.sample("difficulty", dist.Normal(0.0, 1.0))
            slope = pyro.sample("slope", dist.LogNormal(0.0, 0.5))
        with pyro.plate("answers", len(y)):
            pyro.sample("y", dist.Bernoulli(logits=slope[item] * (ability[student] - difficulty[item])), obs=y)

    batches = [
        (
            torch.randint(5, (9,), generator=generator(i)),
            torch.randint(4, (9,), generator=generator(30 + i)),
            coins(9, seed=i),
        )
        for i in range(5)
    ]
    return Program(model, AutoNormal(model), batches)


@case
def matrix_factorisation():
    def model(user, item, rating):
        u = pyro.sample("u", dist.Normal(torch.zeros(5, 2), 1.0).to_event(2))
        v = pyro.sample("v", dist.Normal(torch.zeros(6, 2), 1.0).to_event(2))
        with pyro.plate("ratings", len(rating)):
            pyro.sample("r", dist.Normal((u[user] * v[item]).sum(-1), 0.5), obs=rating)

    batches = [
        (
            torch.randint(5, (9,), generator=generator(i)),
            torch.randint(6, (9,), generator=generator(30 + i)),
            normals(9, seed=i),
        )
        for i in range(5)
    ]
    return Program(model, AutoLowRankMultivariateNormal(model, rank=3), batches)


@case
def probabilistic_pca():
    def model(x):
        w = pyro.param("w", lambda: torch.randn(2, 4))
        sigma = pyro.param("sigma", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ w, sigma).to_event(1), obs=x)

    def guide(x):
        a = pyro.param("a", lambda: 0.1 * torch.randn(4, 2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LowRankMultivariateNormal(x @ a, 0.1 * torch.ones(2, 1), 0.5 * torch.ones(2)))

    return Program(model, guide, real(8, 4))


@case
def factor_analysis_with_low_rank_likelihood():
    def model(x):
        w = pyro.param("w", lambda: torch.randn(4, 2))
        d = pyro.param("d", torch.ones(4), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.LowRankMultivariateNormal(torch.zeros(4), w, d), obs=x)

    return Program(model, lambda x: None, real(8, 4))


@case
def bradley_terry():
    def model(i, j, won):
        with pyro.plate("players", 5):
            skill = pyro.sample("skill", dist.Normal(0.0, 1.0))
        with pyro.plate("games", len(won)):
            pyro.sample("won", dist.Bernoulli(logits=skill[i] - skill[j]), obs=won)

    batches = [
        (
            torch.randint(5, (9,), generator=generator(i)),
            torch.randint(5, (9,), generator=generator(30 + i)),
            coins(9, seed=i),
        )
        for i in range(5)
    ]
    return Program(model, AutoMultivariateNormal(model), batches)


@case
def capture_recapture():
    """The Cormack-Jolly-Seber model of Pyro's examples: a discrete state a year, summed out."""

    def model(history):
        phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
        rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
        with pyro.plate("animals", len(history)):
            z, first = torch.ones(len(history)), torch.zeros(len(history)).bool()
            for t in pyro.markov(range(4)):
                with poutine.mask(mask=first):
                    z = pyro.sample(
                        f"z_{t}",
                        dist.Bernoulli(torch.where(first, phi * z, torch.tensor(1.0))),
                        infer={"enumerate": "parallel"},
                    )
                    pyro.sample(f"y_{t}", dist.Bernoulli(rho * z), obs=history[:, t])
                first = first | history[:, t].bool()

    guide = AutoDiagonalNormal(poutine.block(model, expose=["phi", "rho"]))
    return Program(model, guide, binary(6, 4), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case
def sparse_gamma_deep_exponential_family():
    def softplus(name, *shape):
        a = pyro.param(f"{name}_a", lambda: torch.full(shape, 0.5), constraint=constraints.softplus_positive)
        m = pyro.param(f"{name}_m", lambda: torch.full(shape, 0.7), constraint=constraints.softplus_positive)
        return dist.Gamma(a, a / m)

    def model(x):
        with pyro.plate("w_plate", 12):
            w = pyro.sample("w", dist.Gamma(0.1, 0.3)).reshape(3, 4)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(0.1, 0.1).expand([3]).to_event(1))
            pyro.sample("x", dist.Poisson(z @ w + 1e-3).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("w_plate", 12):
            pyro.sample("w", softplus("w", 12))
        with pyro.plate("data", 6):
            pyro.sample("z", softplus("z", 6, 3).to_event(1))

    data = [(x.float(),) for (x,) in counts(6, 4, high=4)]
    return Program(
        model, guide, data, loss=TraceMeanField_ELBO(), optim=pyro.optim.AdagradRMSProp({"eta": 0.5, "t": 0.1})
    )


@case
def pharmacokinetics_with_fixed_noise():
    """A model that draws random numbers outside any site."""

    def model(x):
        noise = 0.01 * torch.randn(len(x))
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x + noise)

    return Program(model, AutoNormal(model), real(8))


@case
def change_point_with_softened_switch():
    def model(y):
        times = torch.arange(float(len(y)))
        tau = pyro.sample("tau", dist.Uniform(0.0, 8.0))
        rates = pyro.sample("rates", dist.Exponential(torch.ones(2)).to_event(1))
        late = torch.sigmoid((times - tau) / 0.3)
        with pyro.plate("days", len(y)):
            pyro.sample("y", dist.Poisson(rates[..., 0] * (1 - late) + rates[..., 1] * late), obs=y)

    return Program(model, AutoNormal(model), [(x.float(),) for (x,) in counts(8, high=5)])


@case
def causal_effect_vae():
    encode, treat, outcome = nn.Linear(5, 4), nn.Linear(2, 1), nn.Linear(3, 1)

    def model(x, t, y):
        pyro.module("treat", treat)
        pyro.module("outcome", outcome)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([z, z[:, :1]], -1), 1.0).to_event(1), obs=x)
            t = pyro.sample("t", dist.Bernoulli(logits=treat(z).squeeze(-1)), obs=t)
            pyro.sample("y", dist.Normal(outcome(torch.cat([z, t.unsqueeze(-1)], -1)).squeeze(-1), 1.0), obs=y)

    def guide(x, t, y):
        pyro.module("encode", encode)
        with pyro.plate("data", len(x)):
            loc, scale = encode(torch.cat([x, t.unsqueeze(-1), y.unsqueeze(-1)], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    batches = [(normals(8, 3, seed=i), coins(8, seed=i), normals(8, seed=40 + i)) for i in range(5)]
    return Program(model, guide, batches, loss=TraceMeanField_ELBO(), modules=(encode, treat, outcome))


# Optimisers.


def optimised(optim: pyro.optim.PyroOptim, after: Callable[[Any], None] | None = None) -> Program:
    return Program(linear, AutoDiagonalNormal(linear), regression(), optim=optim, after=after)


def stepped(scheduler) -> Program:
    return optimised(scheduler, lambda loss: scheduler.step())


OPTIMISERS: dict[str, Callable[[], Program]] = {
    "adam_amsgrad": lambda: optimised(pyro.optim.Adam({"lr": 0.05, "amsgrad": True})),
    "adam_w": lambda: optimised(pyro.optim.AdamW({"lr": 0.05, "weight_decay": 0.1})),
    "adam_clipped_norm": lambda: optimised(pyro.optim.Adam({"lr": 0.05}, clip_args={"clip_norm": 0.1})),
    "adam_clipped_value": lambda: optimised(pyro.optim.Adam({"lr": 0.05}, {"clip_value": 0.1})),
    "clipped_adam": lambda: optimised(pyro.optim.ClippedAdam({"lr": 0.05, "clip_norm": 1.0, "lrd": 0.9})),
    "adagrad_rmsprop": lambda: optimised(pyro.optim.AdagradRMSProp({"eta": 0.1})),
    "dct_adam": lambda: optimised(pyro.optim.DCTAdam({"lr": 0.05})),
    "sgd_momentum": lambda: optimised(pyro.optim.SGD({"lr": 1e-3, "momentum": 0.9, "nesterov": True})),
    "rmsprop": lambda: optimised(pyro.optim.RMSprop({"lr": 0.01, "centered": True})),
    "adagrad": lambda: optimised(pyro.optim.Adagrad({"lr": 0.1})),
    "pyro_optim_of_torch": lambda: optimised(pyro.optim.PyroOptim(torch.optim.NAdam, {"lr": 0.02})),
    "options_by_parameter": lambda: optimised(
        pyro.optim.Adam(lambda name: {"lr": 0.1 if name.endswith("loc") else 0.001, "betas": (0.95, 0.999)})
    ),
    "exponential_lr": lambda: stepped(
        pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5})
    ),
    "multi_step_lr": lambda: stepped(
        pyro.optim.MultiStepLR(
            {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1e-3}, "milestones": [2, 3], "gamma": 0.2}
        )
    ),
    "cosine_with_clipping": lambda: stepped(
        pyro.optim.CosineAnnealingLR(
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "T_max": 4}, {"clip_norm": 1.0}
        )
    ),
}
for _name, _make in OPTIMISERS.items():
    CASES[f"optim_{_name}"] = Case(f"optim_{_name}", _make)


@case
def optim_reduce_on_plateau():
    scheduler = pyro.optim.ReduceLROnPlateau(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "patience": 0, "factor": 0.5}
    )
    return optimised(scheduler, lambda loss: scheduler.step(float(loss)))


# Programs that no graph holds.


def located(model: Callable[..., Any], batches: list[tuple[Any, ...]] | None = None) -> Program:
    """With a guide over ``mu``, the one latent variable."""

    def guide(*args):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 0.5))

    return Program(model, guide, batches or real(8))


@refused
def branch_on_a_draw():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        if mu > 0:  # <- here
            mu = mu / 2
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return located(model)


@refused
def branch_on_the_data():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            scale = 1.0 if (x.abs() < 2).all() else 2.0  # <- here
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def while_on_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        rest = x.abs().sum()
        while rest > 1:  # <- here
            rest = rest / 2
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu * rest, 1.0), obs=x)

    return located(model)


@refused
def item_of_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        scale = 1 + abs(x.mean().item())  # <- here
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def float_of_a_tensor():
    def model(x):
        scale = math.exp(float(x.std()))  # <- here
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def numpy_of_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        scale = 1.0 + float(x.numpy().std())  # <- here
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def numpy_in_the_guide():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.1))
        start = torch.from_numpy(x.numpy().mean(keepdims=True))  # <- here
        pyro.sample("mu", dist.Normal(loc + start.squeeze(), 0.5))

    return Program(model, guide, real(8))


@refused
def list_of_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        for i, value in enumerate(x.tolist()):  # <- here
            pyro.sample(f"x_{i}", dist.Normal(mu, 1.0), obs=torch.tensor(value))

    return located(model)


@refused
def geometric_structure():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        n = pyro.sample("n", dist.Geometric(0.5), infer={"is_auxiliary": True})
        for i in range(int(n)):  # <- here
            mu = mu + 0.1 * i
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    def guide(x):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 0.5))
        pyro.sample("n", dist.Geometric(0.4))

    return Program(model, guide, real(8))


@refused
def recursion_on_a_coin():
    def depth(t=0):
        return t if t == 9 or pyro.sample(f"stop_{t}", dist.Bernoulli(0.5)).bool() else depth(t + 1)  # <- here

    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with poutine.block():
            n = depth()
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu + 0.1 * n, 1.0), obs=x)

    return located(model)


@refused
def check_of_the_user():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        if torch.isnan(x).any():  # <- here
            raise ValueError("x must not hold NaN")
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return located(model)


@refused
def plate_of_what_is_positive():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        kept = x[x > 0]  # <- here
        with pyro.plate("data", len(kept)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=kept)

    return located(model)


@refused
def lookup_by_a_drawn_label():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        likelihoods = {0: dist.Normal, 1: dist.Laplace}
        cls = likelihoods[int(x[0] > 0)]  # <- here
        with pyro.plate("data", len(x)):
            pyro.sample("x", cls(mu, 1.0), obs=x)

    return located(model)


@refused
def loss_that_gives_an_item():
    class Item(Trace_ELBO):
        def loss_and_grads(self, model, guide, *args, **kwargs):
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
            loss.backward()
            return loss.item()  # <- here

    return nets_guide(Item())


def two_losses() -> Program:
    """Wake-sleep has a loss for the model and one for the guide."""
    return nets_guide(ReweightedWakeSleep(num_particles=3, insomnia=0.7, vectorize_particles=True, max_plate_nesting=1))
