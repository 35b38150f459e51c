"""What SVI minimises: Pyro ELBO classes for ``pyro.infer.SVI``, :class:`pyro_vae.CompiledSVI` and :func:`pyro_vae.fit`.

The weight of the KL:

- :class:`BetaELBO`: constant or scheduled. :class:`CapacityELBO`: held at a capacity. :class:`FreeBits`: not pushed
  below a floor. :class:`GECO`: found for a chosen reconstruction.

Tighter bounds from several draws:

- :class:`IWAE`, :class:`MIWAE`, :class:`CIWAE`, :class:`PIWAE`, :class:`Renyi`.

Gradients with less variance:

- :class:`StickingTheLanding` of the ELBO, :class:`DReG` of the IWAE.

The posteriors of a batch together:

- :class:`BetaTCVAE`, :class:`InfoVAE`.

Any model and guide will do whose latent variables can be reparametrised. Weights are those of each example: of each
block in the plates that all sites share. :class:`Linear`, :class:`Cyclical` and :class:`Sigmoid` are schedules.
"""

from pyro_vae.objectives.aggregate import BetaTCVAE, InfoVAE
from pyro_vae.objectives.importance import CIWAE, IWAE, MIWAE, PIWAE, Renyi
from pyro_vae.objectives.objective import Objective
from pyro_vae.objectives.path import DReG, StickingTheLanding
from pyro_vae.objectives.schedules import Cyclical, Linear, Sigmoid
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
