"""How good synthetic rows of a table are: how like real rows, how useful, and how private."""

from pyro_vae.evaluation.synthetic_rows.comparison import synthetic
from pyro_vae.evaluation.synthetic_rows.discriminator import Measured
from pyro_vae.evaluation.synthetic_rows.report import SyntheticReport

__all__ = ["Measured", "SyntheticReport", "synthetic"]
