"""How good synthetic rows of a table are: how like real rows, how useful, and how private."""

from pyro_vae.evaluation.synthetic_rows.comparison import synthetic
from pyro_vae.evaluation.synthetic_rows.discriminator import Measured
from pyro_vae.evaluation.synthetic_rows.report import SyntheticReport
from pyro_vae.evaluation.synthetic_rows.tables import FEWEST_ROWS

__all__ = ["FEWEST_ROWS", "Measured", "SyntheticReport", "synthetic"]
