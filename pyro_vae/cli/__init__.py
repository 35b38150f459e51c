"""The command line: ``pyro-vae`` and ``python -m pyro_vae``."""

from pyro_vae.cli.parser import main

__all__ = ["main"]
