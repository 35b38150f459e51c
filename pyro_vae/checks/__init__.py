"""The cross-check: compares every ELBO, gradient and density of a model and guide with what must hold."""

from pyro_vae.checks.report import Finding, Line, Report
from pyro_vae.checks.runner import CHECKS, check

__all__ = ["CHECKS", "Finding", "Line", "Report", "check"]
