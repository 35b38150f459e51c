"""Right programs of kinds that are easily taken for wrong, as people write them in Pyro."""

from tests.checks.right import plates, programs
from tests.checks.right.table import RIGHT

__all__ = ["RIGHT", "plates", "programs"]
