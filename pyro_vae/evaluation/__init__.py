"""Log p(x) of a trained VAE, or of any Pyro model and guide, four ways, each with its error, in nats an example.

- :func:`importance_sampling`: from the guide; any codes. Too low where the guide misses some of the posterior.
- :func:`quadrature`: one or two continuous dimensions; to a stated error, whatever the guide.
- :func:`annealed_importance_sampling` and :func:`sandwich`: continuous codes of any dimension; a bound from below, and
  for simulated data from above too.
- :func:`enumeration`: discrete codes; exact.

And :func:`latent_use`: what the codes carry, active units, the aggregate posterior.
"""

from pyro_vae.evaluation.annealed import (
    AnnealedEstimate,
    Sandwich,
    annealed_importance_sampling,
    reverse_annealed_importance_sampling,
    sandwich,
)
from pyro_vae.evaluation.cells import PosteriorNodes
from pyro_vae.evaluation.enumeration import Enumeration, enumeration
from pyro_vae.evaluation.importance import ImportanceEstimate, importance_sampling
from pyro_vae.evaluation.latents import LatentUse, latent_use
from pyro_vae.evaluation.quadrature import Quadrature, quadrature
from pyro_vae.evaluation.rows import Estimate

__all__ = [
    "AnnealedEstimate",
    "Enumeration",
    "Estimate",
    "ImportanceEstimate",
    "LatentUse",
    "PosteriorNodes",
    "Quadrature",
    "Sandwich",
    "annealed_importance_sampling",
    "enumeration",
    "importance_sampling",
    "latent_use",
    "quadrature",
    "reverse_annealed_importance_sampling",
    "sandwich",
]
