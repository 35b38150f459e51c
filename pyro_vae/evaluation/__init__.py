"""Log p(x) of a trained VAE, or of any Pyro model and guide, with its error, in nats per example; and what it learned.

Four ways to log p(x):

- :func:`importance_sampling` draws from the guide, for any codes. It is too low if the guide misses a part of the
  posterior; Pareto k̂ warns if the draws show that.
- :func:`quadrature` is for one or two continuous dimensions. It reaches a stated error with any guide.
- :func:`annealed_importance_sampling` and :func:`sandwich` are for continuous codes of any dimension. They give a lower
  bound, and for simulated data an upper bound too.
- :func:`enumeration` is for discrete codes, and exact.

What a model learned:

- :func:`latent_use` measures what the codes carry, active units and the aggregate posterior. :func:`collapse` detects
  codes of no use, with evidence and remedies. :func:`linear_probe` predicts labels from codes.
- :func:`inference_gaps` splits log p(x) − ELBO into the approximation gap and the amortisation gap.
- :func:`outlier_scores` and :func:`separation` find data unlike the training data. :func:`nearest` and
  :func:`memorisation` find samples that are copies. :func:`synthetic` measures how good synthetic rows of a table are.

Models have one latent and one observed site, each with one distribution per example. Others are refused by name.
"""

from pyro_vae.evaluation.annealed import (
    AnnealedEstimate,
    Annealing,
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
from pyro_vae.evaluation.synthetic_rows import SyntheticReport, synthetic

__all__ = [
    "AnnealedEstimate",
    "Annealing",
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
    "SyntheticReport",
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
    "synthetic",
]
