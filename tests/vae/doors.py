"""Each door through which data come into a VAE."""

from __future__ import annotations

import pyro
from pyro.infer import SVI, Trace_ELBO

from pyro_vae import elbo_terms


def everywhere(vae, *batch):
    """Functions that each give a VAE these data: SVI, an ELBO and :func:`elbo_terms`."""
    return [
        lambda: SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO()).step(*batch),
        lambda: Trace_ELBO().loss(vae.model, vae.guide, *batch),
        lambda: elbo_terms(vae, *batch),
    ]
