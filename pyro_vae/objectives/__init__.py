"""Pyro ELBO classes for ``pyro.infer.SVI``, :class:`pyro_vae.CompiledSVI` and :func:`pyro_vae.fit`.

Weights of the KL:

- :class:`BetaELBO`: a constant or scheduled weight. :class:`CapacityELBO`: a KL held at a capacity. :class:`FreeBits`:
  a KL that keeps a minimum. :class:`GECO`: a weight found for a chosen reconstruction.

Tighter bounds from several draws:

- :class:`IWAE`, :class:`MIWAE`, :class:`CIWAE`, :class:`PIWAE`, :class:`Renyi`, :class:`TVO`.

Gradients with less variance:

- :class:`StickingTheLanding` for the ELBO, :class:`DReG` for IWAE.

Comparisons of the posteriors of a batch:

- :class:`BetaTCVAE`, :class:`InfoVAE`.

They take any model and guide with reparametrised latent variables. Importance weights are those of each example, that
is of each element of the plates that all sites share. :class:`Linear`, :class:`Cyclical` and :class:`Sigmoid` are
schedules.
"""

from pyro_vae.objectives.aggregate import BetaTCVAE, InfoVAE
from pyro_vae.objectives.importance import CIWAE, IWAE, MIWAE, PIWAE, Renyi
from pyro_vae.objectives.objective import Objective
from pyro_vae.objectives.path import DReG, StickingTheLanding
from pyro_vae.objectives.schedules import Cyclical, Linear, Sigmoid
from pyro_vae.objectives.thermodynamic import TVO
from pyro_vae.objectives.weighted import GECO, BetaELBO, CapacityELBO, FreeBits

# In the order in which they are listed.
OBJECTIVES = [
    "BetaELBO",
    "CapacityELBO",
    "FreeBits",
    "GECO",
    "IWAE",
    "MIWAE",
    "CIWAE",
    "PIWAE",
    "Renyi",
    "TVO",
    "StickingTheLanding",
    "DReG",
    "BetaTCVAE",
    "InfoVAE",
]
SCHEDULES = ["Linear", "Cyclical", "Sigmoid"]

__all__ = [
    "CIWAE",
    "GECO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "TVO",
    "BetaELBO",
    "BetaTCVAE",
    "CapacityELBO",
    "Cyclical",
    "DReG",
    "FreeBits",
    "InfoVAE",
    "Linear",
    "Objective",
    "Renyi",
    "Sigmoid",
    "StickingTheLanding",
]
