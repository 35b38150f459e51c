"""``main``: parses a command line, runs the command and returns an exit code."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

from jsonargparse import ArgumentParser, Namespace

import pyro_vae
from pyro_vae.cli import commands
from pyro_vae.cli.arguments import OF_RUN_AND_DATA, modules_named, normalised
from pyro_vae.cli.formatter import Formatter
from pyro_vae.cli.options import of_build, of_fit
from pyro_vae.cli.usage import as_options, missing_words, plain
from pyro_vae.files import CheckpointError

__all__ = ["main"]

_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "train": (
        commands.train,
        "examples:\n"
        "  pyro-vae train\n"
        "  pyro-vae train --data mnist --latent_dim 2\n"
        "  pyro-vae train --data photos --size 64 --nets conv\n"
        "  pyro-vae train --data wine.csv --label kind\n"
        "  pyro-vae train --likelihood Normal --likelihood.scale 0.1\n"
        "  pyro-vae train --prior my_module.MyPrior --prior.width 3\n"
        "  pyro-vae train --config runs/digits-1/config.yaml --seed 1\n"
        "  pyro-vae train --resume runs/digits-1",
    ),
    "evaluate": (
        commands.evaluate,
        "examples:\n  pyro-vae evaluate runs/digits-1 --num_particles 100\n"
        "  pyro-vae evaluate runs/digits-1 --importance_particles 5000",
    ),
    "compare": (
        commands.compare,
        "examples:\n  pyro-vae compare runs/*\n  pyro-vae compare runs/* --sort log_prob --out table.csv",
    ),
    "sweep": (
        commands.sweep,
        "examples:\n"
        "  pyro-vae sweep sweeps/beta objective.beta=0.1,0.3,1,3,10 --objective beta --data mnist\n"
        "  pyro-vae sweep sweeps/sizes latent_dim=2,10,50 hidden=[128],[512,512] --workers 2\n"
        "  pyro-vae sweep sweeps/priors prior=StandardNormal,VampPrior seed=0,1,2 --importance_particles 1000",
    ),
    "check": (commands.check_run, "example: pyro-vae check runs/digits-1"),
    "data": (
        commands.describe_data,
        "examples:\n  pyro-vae data photos --size 64\n  pyro-vae data wine.csv --label kind",
    ),
    "suggest": (commands.suggest_likelihood, "example: pyro-vae suggest wine.csv"),
    "encode": (
        commands.encode,
        "examples:\n  pyro-vae encode runs/wine-1 --out codes.csv\n"
        "  pyro-vae encode runs/wine-1 new.csv --out codes.npy",
    ),
    "impute": (commands.impute, "example: pyro-vae impute runs/wine-1 new.csv --out filled.csv"),
    "score": (commands.score, "example: pyro-vae score runs/wine-1 new.csv --flag 0.01 --out scores.csv"),
    "sample": (
        commands.sample,
        "examples:\n  pyro-vae sample runs/digits-1 --n 100 --out samples.png\n"
        "  pyro-vae sample runs/wine-1 --n 1000 --out rows.csv",
    ),
    "reconstruct": (commands.reconstruct, "example: pyro-vae reconstruct runs/digits-1 --n 32"),
    "interpolate": (commands.interpolate, "example: pyro-vae interpolate runs/digits-1 --path spherical"),
    "plot": (commands.plot, "example: pyro-vae plot runs/digits-1"),
    "bench": (commands.bench, "examples:\n  pyro-vae bench\n  pyro-vae bench --hidden 512 --latent_dim 20"),
    "list": (commands.list_parts, "examples:\n  pyro-vae list\n  pyro-vae list priors\n  pyro-vae list data"),
}

_METAVARS = {
    "dequantize": "{auto,true,false}",
    "standardize": "{auto,true,false}",
    "mean": "{auto,true,false}",
    "runs": "RUN ...",
    "vary": "NAME=VALUE,VALUE,... ...",
}

# Parameters of commands that are no options, and options of train that a sweep sets itself.
_NO_OPTIONS: set[str | int] = {"options", "how", "check", "kind"}
_OF_ONE_RUN: set[str | int] = {"out", "resume"}

# Commands that open or make a run, and may need your own modules for it.
_OPENS_RUNS = (
    *("train", "evaluate", "sweep", "check", "sample", "reconstruct", "interpolate", "plot"),
    *("encode", "impute", "score", "data", "suggest"),
)
_READS_DATA = ("train", "sweep", "data", "suggest")

_ALLOW = (
    "module or package of your own from which classes may be imported. Repeat it for each module, and with each "
    "command: neither a run folder nor a file of options can allow anything. A class that you name on the command line "
    "(--prior my_module.MyPrior) needs no --allow."
)


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one paragraph instead of the whole usage, and exit with 2."""
        prog = self.prog.replace(" [options]", "")
        if (missing := missing_words(message)) is not None:
            prog, message = f"{prog} {missing[0]}", missing[1]
        self.exit(2, f"{prog}: error: {plain(message, self._names())}\nSee: {prog} --help\n")
        raise AssertionError("exit does not return")

    def _names(self) -> list[str]:
        """Return the names of all options, those of the commands too."""
        commands = (
            sub for action in self._actions if isinstance(action.choices, Mapping) for sub in action.choices.values()
        )
        parsers = [self, *commands]
        strings = (string for parser in parsers for action in parser._actions for string in action.option_strings)
        return [string.removeprefix("--") for string in strings if string.startswith("--")]


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments; by default those of the process.

    Returns:
        The exit code: 0, 1 if the run failed or nobody reads its output, 2 for bad usage.
    """
    try:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        # Python writes what is left when it ends (docs.python.org, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _main(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        options = _parse([a for a in arguments if a != "--debug"])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except (CheckpointError, FileNotFoundError) as error:
        if debug:
            raise
        return _fail(next((a for a in arguments if not a.startswith("-")), ""), error)
    command = options.command
    chosen = options[command].as_dict()
    allow = [*(chosen.pop("allow", None) or ()), *modules_named(arguments)]
    values = {name: value for name, value in chosen.items() if name != "config"}
    if "check" in inspect.signature(_COMMANDS[command][0]).parameters:
        values["check"] = _check_arguments
    from pyro_vae.checkpoints import StandardizedDataWarning
    from pyro_vae.registry import allowing, searching

    try:
        with allowing(allow), searching(Path.cwd() if allow else None), warnings.catch_warnings():
            if not debug:
                # Pyro warns of each NaN in a loss; fit() stops at the first and says more.
                warnings.filterwarnings("ignore", message="Encountered NaN", category=UserWarning)
                # Commands standardise data as the run's were, and give results in the units of the data.
                warnings.simplefilter("ignore", StandardizedDataWarning)
                warnings.showwarning = functools.partial(_warn, command)
            _run_command(command, values)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError):
            print(flush=True)  # raises the error again if the standard output is the broken pipe
        if debug:
            raise
        return _fail(command, error)
    return 0


def _check_arguments(arguments: list[str]) -> None:
    """Raise a ValueError if a command line cannot be parsed."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            _parse(arguments)
        except SystemExit as exit_:
            message = said.getvalue().partition("error: ")[2].partition("\nSee: ")[0]
            raise ValueError(message) from exit_


def _run_command(name: str, values: dict[str, Any]) -> None:
    _COMMANDS[name][0](**values)


def _warn(command: str, message: Warning | str, *_: type[Warning] | str | int | TextIO | None) -> None:
    """Print a warning in one line, without Python's first line, which names a place in the library."""
    from pyro_vae.cli.words import with_options

    print(f"pyro-vae {command}: warning: {with_options(' '.join(str(message).split()))}", file=sys.stderr)


def _fail(command: str, error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        print(f"\npyro-vae {command}: {_words_of(error, command) or 'stopped; nothing was kept'}", file=sys.stderr)
        return 1
    # Pyro appends the shapes of the sites to an error inside a model; a user can act on the first sentences.
    message = " ".join(_words_of(error, command).split("Trace Shapes:")[0].split()) or type(error).__name__
    asked_wrongly = isinstance(error, (ValueError, TypeError, FileExistsError, FileNotFoundError))
    if not asked_wrongly and not isinstance(error, (OSError, RuntimeError)):
        message = f"unexpected {type(error).__name__}: {message}. Run again with --debug for the traceback"
    print(f"pyro-vae {command}: error: {message}", file=sys.stderr)
    return 2 if asked_wrongly and not isinstance(error, CheckpointError) else 1


def _words_of(error: BaseException, command: str) -> str:
    """Return the message of an error in words of the command line."""
    from pyro_vae.cli.words import of_error

    said = of_error(error)
    if command not in _COMMANDS or command == "sweep":  # a sweep has NAME=VALUE in its command line and its folders
        return said
    return as_options(said, [name for name in _parser(command)._names() if name != "help"])


def _parse(arguments: list[str]) -> Namespace:
    given = normalised(arguments)
    return _parser(next((word for word in given if word in _COMMANDS), None)).parse_args(given)


def _parser(command: str | None) -> _Parser:
    """Return the parser with the options of one command; the others have their description alone, which is faster."""
    parser = _Parser(
        prog="pyro-vae",
        description="Variational autoencoders as Pyro models and guides: train, evaluate, look.",
        epilog="Start with: pyro-vae train. --debug with any command shows the traceback of an error.",
        version=pyro_vae.__version__,
        formatter_class=Formatter,  # the subcommands take over
    )
    subcommands = parser.add_subcommands(required=True, dest="command")
    for name, (function, examples) in _COMMANDS.items():
        lines = (function.__doc__ or "").split("Args:")[0].strip().splitlines()
        description = " ".join(line.strip() for line in lines if line.strip())
        sub = _Parser(description=textwrap.fill(description, 80, break_on_hyphens=False), epilog=examples)
        if name == command:
            _add_options(sub, name)
        subcommands.add_subcommand(name, sub, help=lines[0].rstrip("."))
    return parser


def _add_options(parser: _Parser, name: str) -> None:
    """Add the options of a command."""
    if name in ("train", "sweep"):
        parser.add_argument("--config", action="config", help="YAML file of options, such as config.yaml of a run.")
    if name in _OPENS_RUNS:
        parser.add_argument("--allow", type=list[str], default=[], metavar="MODULE", help=_ALLOW)
    if name == "list":
        parser.add_argument("kind", nargs="?", help=f"one kind alone: {', '.join(commands.KINDS)}.")
    skipped = _NO_OPTIONS | ({"data"} if name in OF_RUN_AND_DATA else set())
    parser.add_function_arguments(_COMMANDS[name][0], as_group=False, as_positional=True, skip=skipped)
    if name in OF_RUN_AND_DATA:
        own = "the test rows of the run" if name == "score" else "those of the run"
        parser.add_argument("data", nargs="?", help=f"your own data, such as new.csv; by default {own}.")
    if name == "sweep":
        parser.add_function_arguments(commands.train, skip=_NO_OPTIONS | _OF_ONE_RUN)
    if name in _READS_DATA:
        parser.add_function_arguments(commands.reading)
    if name in ("train", "sweep"):
        _add_derived_options(parser)
    for action in parser._actions:
        action.metavar = _METAVARS.get(action.dest, action.metavar)


def _add_derived_options(parser: _Parser) -> None:
    """Add the options that are arguments of build and fit."""
    for title, options in (
        ("the VAE (arguments of pyro_vae.build)", of_build()),
        ("the training (arguments of pyro_vae.fit)", of_fit()),
    ):
        group = parser.add_argument_group(title)
        for option in options:
            group.add_argument(f"--{option.name}", type=option.type, default=option.default, help=option.help)
