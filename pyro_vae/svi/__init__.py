"""A Pyro SVI step as one graph."""

from pyro_vae.svi.compiled_svi import CompiledSVI
from pyro_vae.svi.refusals import CannotCaptureError

__all__ = ["CannotCaptureError", "CompiledSVI"]
