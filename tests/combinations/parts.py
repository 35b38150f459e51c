"""Every prior and posterior with its options, which go together, and small VAEs of them in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy import special, stats

from pyro_vae import VAE, posteriors, priors
from pyro_vae.config import build
from tests.combinations import densities
from tests.likelihoods.cases import CASES, Case

X, D, C, N = 4, 4, 2, 3  # elements of x, latent dimensions, context features, examples
REAL, SIMPLEX, ONE_HOT, SPHERE = "real vectors", "points of a simplex", "one-hot vectors", "vectors of length 1"


@dataclass(frozen=True)
class Part:
    """A prior or posterior with its options and the kind of its codes.

    ``space`` is None for a prior over the codes of any posterior. ``classes`` are those of a group, None for one group.
    ``density`` is the log-density a second time: of a prior, its parameters and z; of a posterior, its net's output and
    z. ``closed_forms`` are the posteriors from which the KL to a prior has one. ``corners`` are what each parameter is
    filled with for the tests in float32, at the points ``at``, or those of its space; ``rows`` are what the net of a
    posterior gives there.
    """

    cls: type
    space: str | None
    options: dict[str, Any] = field(default_factory=dict)
    context: bool = False  # whether it cannot be without
    density: Callable[..., Any] | None = None
    closed_forms: tuple[str, ...] = ()
    corners: dict[str, tuple[Any, ...]] | None = None
    at: tuple[tuple[float, ...], ...] | None = None
    rows: tuple[list[float], ...] = ()

    @property
    def spec(self) -> dict[str, Any]:
        return {"class": self.cls.__name__, **self.options}

    @property
    def classes(self) -> int | None:
        return self.options.get("classes", getattr(self.options.get("prior"), "get", lambda _: None)("classes"))

    @property
    def small_dim(self) -> int:
        """A size in which the density can be integrated in two dimensions, or summed."""
        return {REAL: 2, SPHERE: 3}.get(self.space, 3 if self.classes is None else 4)


P, Q = priors, posteriors
NORMALS = ("DiagonalNormal", "FullNormal", "LowRankNormal", "Householder")
FLOOR = -30.0  # of raw scales: 1e-6 is what is left
SCALES = (FLOOR, -7.0, 0.5413, 1000.0)


def rows(*columns: Any) -> tuple[list[float], ...]:
    """Every combination of one element from each column, side by side."""
    return tuple([value for part in row for value in part] for row in product(*columns))


# What the nets of posteriors over three dimensions give in float32.
LOCS = ([0.0, 0.3, -2.0], [1e-5, 5.0, 300.0])
RAWS = [[raw] * 3 for raw in SCALES]
BELOW = ([0.0, 0.0, 0.0], [1.0, -0.5, 2.0])
FACTORS = ([1.0, 0.5, -0.2, 0.1, 2.0, 0.3], [1e-3] * 3 + [1e3, 0.0, 1.0])
TURNS = ([1.0, 0.0, 0.0, 0.3, 0.3, -0.3], [1e-3, 1e-3, 2e-3, 1e3, 0.0, 1.0])
PRIORS = {
    "StandardNormal": Part(
        P.StandardNormal,
        REAL,
        density=lambda prior, p, z: stats.multivariate_normal(np.zeros(len(z))).logpdf(z),
        closed_forms=(*NORMALS, "Laplace"),
        corners={},
    ),
    "Normal": Part(
        P.Normal,
        REAL,
        density=densities.scipys(stats.norm),
        closed_forms=(*NORMALS, "Laplace"),
        corners={"loc": (0.0, 0.3, -1e3), "raw_scale": SCALES},
    ),
    "Laplace": Part(
        P.Laplace,
        REAL,
        density=densities.scipys(stats.laplace),
        closed_forms=(*NORMALS, "Laplace"),
        corners={"loc": (0.0, 0.3, -1e3), "raw_scale": SCALES},
    ),
    "Gumbel": Part(
        P.Gumbel,
        REAL,
        density=densities.scipys(stats.gumbel_r),
        closed_forms=NORMALS,
        corners={"loc": (0.0, 0.3, -1e3), "raw_scale": (0.5413, 1000.0)},
        at=((0.0, 0.3, -2.0), (1e-5, 5.0, 300.0)),  # exp(-z) overflows far to the left
    ),
    "StudentT": Part(
        P.StudentT,
        REAL,
        density=densities.log_student,
        corners={"loc": (0.0, 0.3), "raw_scale": SCALES, "raw_df": (FLOOR, 1.0, 1e4, 1e6, 1e9)},
    ),
    "MixtureOfNormals": Part(P.MixtureOfNormals, REAL, {"components": 3}, density=densities.log_mixture),
    **{
        f"Flow-{name}": Part(P.Flow, REAL, {"flow": name, "transforms": 2, "hidden": (4,)})
        for name in ("MAF", "NSF", "NICE")
    },
    "Flow-MAF-of-context": Part(P.Flow, REAL, {"flow": "MAF", "transforms": 2, "hidden": (4,)}, context=True),
    "Exemplar": Part(P.Exemplar, REAL, {"components": 3}),
    "Conditional-Normal": Part(
        P.Conditional, REAL, {"prior": {"class": "Normal"}}, context=True, closed_forms=(*NORMALS, "Laplace")
    ),
    "Conditional-MixtureOfNormals": Part(
        P.Conditional, REAL, {"prior": {"class": "MixtureOfNormals", "components": 2}}, context=True
    ),
    "Dirichlet": Part(
        P.Dirichlet,
        SIMPLEX,
        density=lambda prior, p, z: densities.log_dirichlet(z, densities.softplus(p["raw_concentration"])),
    ),
    "LogisticNormal": Part(
        P.LogisticNormal,
        SIMPLEX,
        density=lambda prior, p, z: densities.log_ratio_normal(z, p["loc"], densities.softplus(p["raw_scale"])),
        closed_forms=("LogisticNormal", "RelaxedCategorical"),
        corners={"loc": (0.0, 0.3, -80.0), "raw_scale": SCALES},
    ),
    "RelaxedCategorical": Part(
        P.RelaxedCategorical,
        SIMPLEX,
        density=lambda prior, p, z: densities.log_concrete(z, p["logits"], prior.temperature.item()),
    ),
    "RelaxedCategorical-groups": Part(P.RelaxedCategorical, SIMPLEX, {"classes": 2}),
    "Conditional-Dirichlet": Part(P.Conditional, SIMPLEX, {"prior": {"class": "Dirichlet"}}, context=True),
    "Conditional-LogisticNormal": Part(
        P.Conditional,
        SIMPLEX,
        {"prior": {"class": "LogisticNormal"}},
        context=True,
        closed_forms=("LogisticNormal", "RelaxedCategorical"),
    ),
    "Categorical": Part(
        P.Categorical,
        ONE_HOT,
        density=lambda prior, p, z: densities.log_one_hot(z, p["logits"]),
        closed_forms=("Categorical",),
        corners={"logits": (0.0, torch.tensor([[0.0, 100.0, -100.0]]))},
    ),
    "Categorical-groups": Part(P.Categorical, ONE_HOT, {"classes": 2}, closed_forms=("Categorical-groups",)),
    "Conditional-Categorical": Part(
        P.Conditional, ONE_HOT, {"prior": {"class": "Categorical"}}, context=True, closed_forms=("Categorical",)
    ),
    "UniformOnSphere": Part(
        P.UniformOnSphere,
        SPHERE,
        density=lambda prior, p, z: special.gammaln(len(z) / 2) - np.log(2) - len(z) / 2 * np.log(np.pi),
        closed_forms=("PowerSpherical",),
    ),
    "VampPrior": Part(P.VampPrior, None, {"components": 3}, closed_forms=("Categorical", "Categorical-groups")),
}
POSTERIORS = {
    "DiagonalNormal": Part(Q.DiagonalNormal, REAL, density=densities.log_normal, rows=rows(LOCS, RAWS)),
    "Laplace": Part(Q.Laplace, REAL, density=densities.log_laplace, rows=rows(LOCS, RAWS)),
    "FullNormal": Part(
        Q.FullNormal,
        REAL,
        density=densities.log_full,
        # The narrowest scales with entries below them would give log-densities beyond the range of float32.
        rows=(*rows(LOCS, RAWS, BELOW[:1]), *rows(LOCS, RAWS[1:], BELOW[1:])),
    ),
    "LowRankNormal": Part(
        Q.LowRankNormal, REAL, {"rank": 2}, density=densities.log_low_rank, rows=rows(LOCS, RAWS, FACTORS)
    ),
    "Householder": Part(
        Q.Householder, REAL, {"reflections": 2}, density=densities.log_householder, rows=rows(LOCS, RAWS, TURNS)
    ),
    "Delta": Part(Q.Delta, REAL),
    **{
        f"Flow-{name}": Part(Q.Flow, REAL, {"flow": name, "features": 3, "transforms": 2, "hidden": (4,)})
        for name in ("NICE", "MAF")
    },
    "InverseAutoregressiveFlow": Part(Q.InverseAutoregressiveFlow, REAL, {"features": 3, "hidden": (5,)}),
    "LogisticNormal": Part(
        Q.LogisticNormal,
        SIMPLEX,
        density=densities.log_logistic_normal,
        rows=rows([[0.0, 0.3], [-80.0, 5.0]], [[raw] * 2 for raw in SCALES]),
    ),
    "RelaxedCategorical": Part(
        Q.RelaxedCategorical,
        SIMPLEX,
        density=lambda q, out, z: densities.log_concrete(z, densities.grouped(q, out), q.temperature.item()),
    ),
    "RelaxedCategorical-groups": Part(Q.RelaxedCategorical, SIMPLEX, {"classes": 2}),
    "Categorical": Part(
        Q.Categorical,
        ONE_HOT,
        density=lambda q, out, z: densities.log_one_hot(z, densities.grouped(q, out)),
        rows=([0.0, 0.0, 0.0], [0.0, 100.0, -100.0]),
    ),
    "Categorical-groups": Part(Q.Categorical, ONE_HOT, {"classes": 2}),
    "PowerSpherical": Part(Q.PowerSpherical, SPHERE, density=densities.log_power_spherical),
}
# Posteriors with a mean in closed form, which the prior Exemplar needs.
WITH_A_MEAN = ("DiagonalNormal", "Laplace", "FullNormal", "LowRankNormal", "Householder", "Delta")
MADE_OF_THE_POSTERIOR = ("Exemplar", "VampPrior")


def compatible(prior: str, posterior: str) -> bool:
    """True if the two make a VAE, by the tables above and not by the library."""
    p, q = PRIORS[prior], POSTERIORS[posterior]
    if prior == "VampPrior":
        return posterior != "Delta"
    if prior == "Exemplar":
        return posterior in WITH_A_MEAN
    return p.space == q.space and p.classes == q.classes


PAIRS = [(p, q) for p in PRIORS for q in POSTERIORS]
COMBINATIONS = [pair for pair in PAIRS if compatible(*pair)]
INCOMPATIBLE = [pair for pair in PAIRS if not compatible(*pair)]
LIKELIHOODS: dict[str, Case] = CASES


def name_of(pair: Any) -> str:
    return "+".join(pair) if isinstance(pair, tuple) else str(pair)


def partner(prior: str | None = None, posterior: str | None = None) -> tuple[str, str]:
    """A part with the first other part that goes with it."""
    return next(pair for pair in COMBINATIONS if prior in (None, pair[0]) and posterior in (None, pair[1]))


@dataclass(frozen=True)
class Density:
    """A prior or a posterior, as the distribution that it gives."""

    room: str
    prior: str
    posterior: str

    def __str__(self) -> str:
        of = f"-of-{self.posterior}" if self.prior in MADE_OF_THE_POSTERIOR else ""
        return f"prior-{self.prior}{of}" if self.room == "prior" else f"posterior-{self.posterior}"

    @property
    def part(self) -> Part:
        """The part that decides the kind of codes: the posterior, for priors that are made of it."""
        simple = self.room == "prior" and self.prior not in MADE_OF_THE_POSTERIOR
        return PRIORS[self.prior] if simple else POSTERIORS[self.posterior]

    def vae(self, latent_dim: int | None = None) -> VAE:
        return make_vae(self.prior, self.posterior, latent_dim or self.part.small_dim)

    def module(self, vae: VAE) -> Any:
        return getattr(vae, self.room)

    def of(self, vae: VAE) -> Any:
        """The distribution, with batch shape ``()`` or ``(N,)``."""
        c = make_context(self.prior)
        return vae.prior_of(*c) if self.room == "prior" else vae.encode(make_x(), *c)


DENSITIES = [
    *(Density("prior", *partner(prior=p)) for p in PRIORS if p not in MADE_OF_THE_POSTERIOR),
    *(Density("prior", p, q) for p, q in COMBINATIONS if p in MADE_OF_THE_POSTERIOR),
    # Delta has all its mass at one point and no density to integrate; it has its own tests.
    *(Density("posterior", *partner(posterior=q)) for q in POSTERIORS if q != "Delta"),
]


def make_x(n: int = N, seed: int = 1) -> torch.Tensor:
    """Zeros and ones, ``(n, X)``."""
    u = torch.rand(n, X, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (u > 0.5).double()


def make_context(prior: str, n: int = N, seed: int = 2) -> tuple[torch.Tensor, ...]:
    """The context, if the prior needs one."""
    if not PRIORS[prior].context:
        return ()
    return (torch.randn(n, C, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)),)


def raw_vae(prior: str, posterior: str, latent_dim: int = D, seed: int = 0, **options: Any) -> VAE:
    """A VAE of :func:`pyro_vae.build`, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        p, q = PRIORS[prior], POSTERIORS[posterior]
        common = {"hidden": (4,), "activation": "Tanh", "context_features": C if p.context else 0}
        return build(X, latent_dim, **{**common, "prior": p.spec, "posterior": q.spec, **options}).double()


def disturb(vae: VAE, seed: int = 0) -> VAE:
    """Move every parameter away from special values such as 0, and start priors that need data."""
    generator = torch.Generator().manual_seed(seed + 7)
    with torch.no_grad():
        for p in vae.parameters():
            p.add_(0.3 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
    if hasattr(vae.prior, "start_from"):
        x = make_x(3, seed=seed + 3)
        vae.prior.start_from(x + 0.1 * torch.randn(x.shape, dtype=x.dtype, generator=generator))
    return vae


def make_vae(prior: str, posterior: str, latent_dim: int = D, seed: int = 0) -> VAE:
    """A VAE of a compatible pair with a Bernoulli likelihood; the same seed gives the same VAE."""
    return disturb(raw_vae(prior, posterior, latent_dim, seed), seed)


@cache
def shared_vae(prior: str, posterior: str) -> VAE:
    """The same, made once, for tests that do not change it."""
    return make_vae(prior, posterior)


def make_likelihood_vae(likelihood: str, seed: int = 0) -> tuple[VAE, torch.Tensor]:
    """A VAE with the default prior and posterior and this likelihood, and data for it."""
    case = LIKELIHOODS[likelihood]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spec = {"class": case.cls.__name__, **case.options}
        vae = build(case.shape, 2, hidden=(4,), activation="Tanh", likelihood=spec).double()
    return disturb(vae, seed), case.x(N)
