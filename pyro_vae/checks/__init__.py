"""The cross-check: every ELBO, gradient and density of a model and guide against what must hold."""

from pyro_vae.checks.report import Finding, Line, Report
from pyro_vae.checks.runner import CHECKS, check

__all__ = ["CHECKS", "Finding", "Line", "Report", "check"]
