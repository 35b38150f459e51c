"""Densities that torch and Pyro lack, or get wrong in float32 (each says which)."""

from pyro_vae.distributions.adapter import TorchToPyro, as_pyro
from pyro_vae.distributions.columns import Columns
from pyro_vae.distributions.components import HasFactors, factors, innermost, without_independent
from pyro_vae.distributions.concrete import RelaxedOneHot, check_temperature
from pyro_vae.distributions.counts import Multinomial, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from pyro_vae.distributions.dirichlet import Dirichlet, LogDirichlet
from pyro_vae.distributions.gamma import Gamma
from pyro_vae.distributions.grid import DiscretizedLogistic, GridCategorical
from pyro_vae.distributions.groups import Grouped
from pyro_vae.distributions.inverse import check_inverse
from pyro_vae.distributions.log_simplex import as_logs, is_over_logs
from pyro_vae.distributions.logistic_normal import LogisticNormal
from pyro_vae.distributions.mixture import NormalMixture
from pyro_vae.distributions.optimal_normal import OptimalNormal
from pyro_vae.distributions.parameters import categories, given_arguments, inverse_positive, part_name, positive
from pyro_vae.distributions.sphere import PowerSpherical, UniformOnSphere
from pyro_vae.distributions.standardized import Standardized
from pyro_vae.distributions.student import StudentT
from pyro_vae.distributions.supports import base_constraint, stated_support, support_of
from pyro_vae.distributions.unit import Beta, ContinuousBernoulli, LogitNormal
from pyro_vae.distributions.zuko_flows import import_zuko, make_flow

__all__ = [
    "Beta",
    "Columns",
    "ContinuousBernoulli",
    "Dirichlet",
    "DiscretizedLogistic",
    "Gamma",
    "GridCategorical",
    "Grouped",
    "HasFactors",
    "LogDirichlet",
    "LogisticNormal",
    "LogitNormal",
    "Multinomial",
    "NegativeBinomial",
    "NormalMixture",
    "OptimalNormal",
    "Poisson",
    "PowerSpherical",
    "RelaxedOneHot",
    "Standardized",
    "StudentT",
    "TorchToPyro",
    "UniformOnSphere",
    "ZeroInflatedNegativeBinomial",
    "as_logs",
    "as_pyro",
    "base_constraint",
    "categories",
    "check_inverse",
    "check_temperature",
    "factors",
    "given_arguments",
    "import_zuko",
    "innermost",
    "inverse_positive",
    "is_over_logs",
    "make_flow",
    "part_name",
    "positive",
    "stated_support",
    "support_of",
    "without_independent",
]
