"""Bugs that people make in VAEs, each beside the same program with the one thing right."""

from tests.checks.mutants import behaviour, conventions, densities, objectives, plates, programs, seeing, vectors
from tests.checks.mutants.common import MUTANTS, Mutant, Setup

__all__ = [
    "MUTANTS",
    "Mutant",
    "Setup",
    "behaviour",
    "conventions",
    "densities",
    "objectives",
    "plates",
    "programs",
    "seeing",
    "vectors",
]
