"""Small Pyro programs as Pyro's tutorials and examples write them, none of them a VAE of this library.

A case is a function that gives a :class:`Program`: model, guide, optimiser, ELBO and the batches of its steps. It is
called with a fresh parameter store and a seed set; its data have generators of their own. ``CASES`` are those that a
graph can hold, ``REFUSED`` those that no graph can, with the line to be named marked by ``# <- here``.
"""

import importlib
import pkgutil

from tests.svi.programs.cases import CASES, REFUSED, Case, Program

__all__ = ["CASES", "REFUSED", "Case", "Program"]

for _section in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_section.name}")
