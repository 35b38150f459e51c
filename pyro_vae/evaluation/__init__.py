"""Log p(x) of a trained VAE, or of any Pyro model and guide, four ways, each with its error, in nats an example.

- :func:`importance_sampling`: from the guide; any codes. Too low where the guide misses some of the posterior; Pareto k̂
  tells where its draws show that.
- :func:`quadrature`: one or two continuous dimensions; to a stated error, whatever the guide.
- :func:`annealed_importance_sampling` and :func:`sandwich`: continuous codes of any dimension; a bound from below, and
  for simulated data from above too.
- :func:`enumeration`: discrete codes; exact.

And what a model has learned:

- :func:`latent_use`: what the codes carry, active units, the aggregate posterior. :func:`collapse`: whether they are of
  no use, from what that is seen, and what to do. :func:`linear_probe`: which labels can be read from them.
- :func:`inference_gaps`: why the ELBO lies below log p(x), the family of q or the encoder.
- :func:`outlier_scores` and :func:`separation`: data unlike those of the training. :func:`nearest` and
  :func:`memorisation`: samples that are copies.

All take programs with one latent and one observed site, each one distribution per example, and refuse others by name.
"""

from pyro_vae.evaluation.annealed import (
    AnnealedEstimate,
    Sandwich,
    annealed_importance_sampling,
    reverse_annealed_importance_sampling,
    sandwich,
)
from pyro_vae.evaluation.bits import bits_per_dim
from pyro_vae.evaluation.collapse import Collapse, Remedy, collapse
from pyro_vae.evaluation.enumeration import Enumeration, enumeration
from pyro_vae.evaluation.estimates import Estimate
from pyro_vae.evaluation.gaps import InferenceGaps, inference_gaps
from pyro_vae.evaluation.importance import ImportanceEstimate, importance_sampling
from pyro_vae.evaluation.latents import LatentUse, latent_use
from pyro_vae.evaluation.neighbours import Memorisation, Neighbours, memorisation, nearest
from pyro_vae.evaluation.outliers import outlier_scores, separation
from pyro_vae.evaluation.posterior_nodes import PosteriorNodes
from pyro_vae.evaluation.probe import Probe, linear_probe
from pyro_vae.evaluation.quadrature import Quadrature, quadrature

__all__ = [
    "AnnealedEstimate",
    "Collapse",
    "Enumeration",
    "Estimate",
    "ImportanceEstimate",
    "InferenceGaps",
    "LatentUse",
    "Memorisation",
    "Neighbours",
    "PosteriorNodes",
    "Probe",
    "Quadrature",
    "Remedy",
    "Sandwich",
    "annealed_importance_sampling",
    "bits_per_dim",
    "collapse",
    "enumeration",
    "importance_sampling",
    "inference_gaps",
    "latent_use",
    "linear_probe",
    "memorisation",
    "nearest",
    "outlier_scores",
    "quadrature",
    "reverse_annealed_importance_sampling",
    "sandwich",
    "separation",
]
