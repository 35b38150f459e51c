"""Densities that torch and Pyro lack, and nothing they have."""

from pyro_vae.distributions.adapter import TorchToPyro, as_pyro
from pyro_vae.distributions.columns import Columns
from pyro_vae.distributions.counts import Multinomial, ZeroInflatedNegativeBinomial
from pyro_vae.distributions.grid import DiscretizedLogistic, GridCategorical
from pyro_vae.distributions.groups import Grouped, RelaxedOneHot
from pyro_vae.distributions.inside import factors, innermost, without_independent
from pyro_vae.distributions.inverse import check_inverse
from pyro_vae.distributions.logistic_normal import LogisticNormal
from pyro_vae.distributions.mixture import NormalMixture
from pyro_vae.distributions.optimal_normal import OptimalNormal
from pyro_vae.distributions.parameters import at_least, categories, inverse_positive, part_name, positive
from pyro_vae.distributions.sphere import PowerSpherical, UniformOnSphere
from pyro_vae.distributions.unit import Beta, ContinuousBernoulli, LogitNormal
from pyro_vae.distributions.zuko_flows import import_zuko, make_flow

__all__ = [
    "Beta",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "GridCategorical",
    "Grouped",
    "LogisticNormal",
    "LogitNormal",
    "Multinomial",
    "NormalMixture",
    "OptimalNormal",
    "PowerSpherical",
    "RelaxedOneHot",
    "TorchToPyro",
    "UniformOnSphere",
    "ZeroInflatedNegativeBinomial",
    "as_pyro",
    "at_least",
    "categories",
    "check_inverse",
    "factors",
    "import_zuko",
    "innermost",
    "inverse_positive",
    "make_flow",
    "part_name",
    "positive",
    "without_independent",
]
