"""Programs written to break the capture, by kind.

==================  =====================================================================================
kind                what it does
==================  =====================================================================================
no-arguments        takes no tensors
state               a run changes something in Python, and reads it
wrapped             what the user changes between steps is behind a wrapper
numbers             what the user changes between steps is no ``int`` or ``float``
gradients           there are gradients before a step, or arguments with a graph
edits               a loss, an optimiser, a hook changes what a step does
seeds               a run sets or restores the state of a generator
parts               the user puts one thing into the place of another
storage             ``.data`` of a parameter or buffer is of another shape or stride, at the same address
leaves              a run leaves something in the user's objects
overlooked          the user changes between steps what is easily overlooked
floats              what a float or a size is to a model, what a loss is, what SVI takes
==================  =====================================================================================
"""

import importlib
import pkgutil

from tests.svi.drop_in.breaking.table import BREAKING

__all__ = ["BREAKING"]

for _kind in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_kind.name}")
