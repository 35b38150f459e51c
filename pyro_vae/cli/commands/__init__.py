"""The commands, one function each: its arguments are the options, and its docstring is their help.

Each command imports what needs torch when it runs, so ``--help`` answers at once.
"""

from pyro_vae.cli.commands.comparison import compare, sweep
from pyro_vae.cli.commands.evaluation import check_run, evaluate
from pyro_vae.cli.commands.images import interpolate, plot, reconstruct, sample
from pyro_vae.cli.commands.machine import KINDS, bench, list_parts
from pyro_vae.cli.commands.training import train

__all__ = [
    "KINDS",
    "bench",
    "check_run",
    "compare",
    "evaluate",
    "interpolate",
    "list_parts",
    "plot",
    "reconstruct",
    "sample",
    "sweep",
    "train",
]
