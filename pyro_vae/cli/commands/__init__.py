"""The commands, one function each: its arguments are the options, and its docstring is their help.

Each command imports what needs torch when it runs, so ``--help`` answers at once. Not for type checkers alone either:
jsonargparse runs such imports.
"""

from pyro_vae.cli.commands.comparison import compare, sweep
from pyro_vae.cli.commands.data import describe_data, reading, suggest_likelihood
from pyro_vae.cli.commands.evaluation import check_run, evaluate
from pyro_vae.cli.commands.images import interpolate, plot, reconstruct, sample
from pyro_vae.cli.commands.machine import KINDS, bench, list_parts
from pyro_vae.cli.commands.rows import encode, impute, score
from pyro_vae.cli.commands.training import train

__all__ = [
    "KINDS",
    "bench",
    "check_run",
    "compare",
    "describe_data",
    "encode",
    "evaluate",
    "impute",
    "interpolate",
    "list_parts",
    "plot",
    "reading",
    "reconstruct",
    "sample",
    "score",
    "suggest_likelihood",
    "sweep",
    "train",
]
