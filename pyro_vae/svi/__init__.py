"""A Pyro SVI step as one graph."""

from pyro_vae.svi.capture import CannotCaptureError
from pyro_vae.svi.compiled import CompiledSVI

__all__ = ["CannotCaptureError", "CompiledSVI"]
