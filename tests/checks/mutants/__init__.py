"""Bugs that people make in VAEs, each beside the same program with the one thing right."""

from tests.checks.mutants import densities, objectives, programs, vectors
from tests.checks.mutants.common import MUTANTS, Mutant, Setup

__all__ = ["MUTANTS", "Mutant", "Setup", "densities", "objectives", "programs", "vectors"]
