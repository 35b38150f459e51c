"""From arguments to a command and an exit code."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import os
import re
import sys
import textwrap
import warnings
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

import pyro_vae
from pyro_vae.cli import commands
from pyro_vae.files import CheckpointError, read_yaml

__all__ = ["main"]

_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "train": (
        commands.train,
        "examples:\n"
        "  pyro-vae train\n"
        "  pyro-vae train --data mnist --latent_dim 2\n"
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
    "sample": (commands.sample, "example: pyro-vae sample runs/digits-1 --n 100 --out samples.png"),
    "reconstruct": (commands.reconstruct, "example: pyro-vae reconstruct runs/digits-1 --n 32"),
    "interpolate": (commands.interpolate, "example: pyro-vae interpolate runs/digits-1 --path spherical"),
    "plot": (commands.plot, "example: pyro-vae plot runs/digits-1"),
    "bench": (commands.bench, "examples:\n  pyro-vae bench\n  pyro-vae bench --hidden 512 --latent_dim 20"),
    "list": (commands.list_parts, ""),
}

# How many words come before those that make a list.
_LISTS = {"compare": 1, "sweep": 2}

_METAVARS = {"runs": "RUN ...", "vary": "NAME=VALUE,VALUE,... ..."}

# Options of train that a sweep sets itself.
_OF_ONE_RUN: set[str | int] = {"out", "resume"}

# Options that name a class, with the class's own arguments as --option.argument.
_SWAPPED = ("--prior", "--likelihood", "--posterior", "--objective")

# Options whose words may name classes of the user's own.
_NAMING = (*_SWAPPED, "--activation")

# Commands that open a run or make one, and so may need modules of the user's own.
_OPENS_RUNS = ("train", "evaluate", "sweep", "check", "sample", "reconstruct", "interpolate", "plot")

_ALLOW = (
    "A module or package of your own that classes may be imported from. Repeat it for each module, and with each "
    "command: a run folder or a file of options cannot allow anything itself. A part that you name on the command line "
    "(--prior my_module.MyPrior) needs no --allow."
)

# What a file of options cannot say: where things are is of one machine, and what is imported is the user's to say.
_NOT_IN_FILES = ("allow", "config", "out", "resume", "root")


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the examples."""


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One paragraph in the place of the whole usage."""
        prog = self.prog.replace(" [options]", "")
        self.exit(2, f"{prog}: error: {' '.join(message.split())}\nSee: {prog} --help\n")
        raise AssertionError("exit does not return")


def main(argv: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: the arguments; by default those of the process.

    Returns:
        The exit code: 0, 1 where the run failed, 2 for bad usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        options = _parser().parse_args(_normalise([a for a in arguments if a != "--debug"]))
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except CheckpointError as error:
        if debug:
            raise
        return _fail(next((a for a in arguments if not a.startswith("-")), ""), error)
    command = options.command
    chosen = options[command].as_dict()
    allow = [*(chosen.pop("allow", None) or ()), *_named(arguments)]
    names = inspect.signature(_COMMANDS[command][0]).parameters
    values = {name: chosen[name] for name in names if name != "options"}
    if "options" in names:
        values["options"] = {name: value for name, value in chosen.items() if name not in (*values, "config")}
    from pyro_vae.registry import allowing

    try:
        with allowing(allow), _modules_from_here(bool(allow)), warnings.catch_warnings():
            if not debug:
                # Pyro warns of each NaN in a loss; fit() stops at the first and says more.
                warnings.filterwarnings("ignore", message="Encountered NaN", category=UserWarning)
                warnings.showwarning = functools.partial(_warn, command)
            _run_command(command, values)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        return _fail(command, error)
    return 0


@contextlib.contextmanager
def _modules_from_here(wanted: bool) -> Iterator[None]:
    """Lets a module of the user's be found in the working directory, after all packages, which it cannot hide."""
    if not wanted:
        yield
        return
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        if here in sys.path:  # a module of the user's may have changed the path itself
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(here)]


def _split(argument: str) -> tuple[str, str, str]:
    """An option's name, with underscores, what follows it (=), and its value; of another word, the word alone."""
    if not argument.startswith("--"):
        return argument, "", ""
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_"), equals, value


def _named(arguments: list[str]) -> list[str]:
    """The modules of the dotted paths that the command line itself names, such as --prior my_module.MyPrior.

    The value of --config does not count: it may be the content of a file.
    """
    named: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        option, equals, value = _split(argument)
        if option == "--debug":
            continue
        if option.startswith("--"):
            value = value if equals else next(pending, "")
        elif arguments[0] == "sweep":  # prior=my_module.MyPrior,StandardNormal
            name, _, values = argument.partition("=")
            option, value = f"--{name.strip().lstrip('-').replace('-', '_')}", f"[{values}]"
        if option.partition(".")[0] in _NAMING:
            paths = [word for word in _words(value) if _DOTTED.fullmatch(word)]
            named += [path.rpartition(".")[0] for path in paths if path.partition(".")[0] not in _LISTED]
    return named


_LISTED = ("pyro", "pyro_vae", "torch", "zuko")  # whose classes are on lists, and are not imported by name
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def _words(value: str) -> Iterator[str]:
    """All text in a value of the command line, which may be YAML."""
    try:
        pending = [yaml.safe_load(value)]
    except (yaml.YAMLError, ValueError):
        pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            pending += found.values()
        elif isinstance(found, list):
            pending += found


def check_arguments(arguments: list[str]) -> None:
    """Raises a ValueError where a command line cannot be read."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            _parser().parse_args(_normalise(arguments))
        except SystemExit as exit_:
            message = said.getvalue().partition("error: ")[2].partition("\nSee: ")[0]
            raise ValueError(message) from exit_


def _run_command(name: str, values: dict[str, Any]) -> None:
    _COMMANDS[name][0](**values)


def _warn(command: str, message: Warning | str, *_: Any) -> None:
    """One line in the place of Python's two, whose first is where in the library it was said."""
    print(f"pyro-vae {command}: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(command: str, error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        print(f"\npyro-vae {command}: {_words_of(error) or 'stopped; nothing was kept'}", file=sys.stderr)
        return 1
    # Pyro appends the shapes of the sites to an error inside a model; the first sentences are what a user can act on.
    message = " ".join(_words_of(error).split("Trace Shapes:")[0].split()) or type(error).__name__
    asked_wrongly = isinstance(error, (ValueError, TypeError, FileExistsError, FileNotFoundError))
    if not asked_wrongly and not isinstance(error, (OSError, RuntimeError)):
        message = f"unexpected {type(error).__name__}: {message}. Run again with --debug for the traceback"
    print(f"pyro-vae {command}: error: {message}", file=sys.stderr)
    return 2 if asked_wrongly and not isinstance(error, CheckpointError) else 1


def _words_of(error: BaseException) -> str:
    from pyro_vae.cli.words import of_error

    return of_error(error)


def _parser() -> _Parser:
    parser = _Parser(
        prog="pyro-vae",
        description="Variational autoencoders as Pyro models and guides: train, evaluate, look.",
        epilog="Start with: pyro-vae train. --debug with any command shows the traceback of an error.",
        version=pyro_vae.__version__,
        formatter_class=_Formatter,  # the subcommands take over
    )
    subcommands = parser.add_subcommands(required=True, dest="command")
    for name, (function, examples) in _COMMANDS.items():
        lines = (function.__doc__ or "").split("Args:")[0].strip().splitlines()
        description = " ".join(line.strip() for line in lines if line.strip())
        sub = _Parser(description=textwrap.fill(description, 80, break_on_hyphens=False), epilog=examples)
        if name in ("train", "sweep"):
            sub.add_argument("--config", action="config", help="YAML file of options, such as a run's config.yaml.")
        if name in _OPENS_RUNS:
            sub.add_argument("--allow", type=list[str], default=[], metavar="MODULE", help=_ALLOW)
        sub.add_function_arguments(function, as_group=False, as_positional=True, skip={"options"})
        for action in sub._actions:
            action.metavar = _METAVARS.get(action.dest, action.metavar)
        if name == "sweep":
            sub.add_function_arguments(commands.train, skip=_OF_ONE_RUN)
        subcommands.add_subcommand(name, sub, help=lines[0].rstrip("."))
    return parser


def _gathered(arguments: list[str]) -> list[str]:
    """The words that make a list as one, as jsonargparse wants it, wherever they stand between the options."""
    if not arguments or arguments[0] not in _LISTS:
        return arguments
    words: list[str] = []
    options: list[str] = []
    for word in arguments:
        of_option = options and options[-1].startswith("--") and "=" not in options[-1] and options[-1] != "--help"
        (options if word.startswith("-") or of_option else words).append(word)
    start = _LISTS[arguments[0]]
    return [*words[:start], json.dumps(words[start:]), *options] if len(words) > start else [*words, *options]


def _normalise(arguments: list[str]) -> list[str]:
    """Dashes as underscores in option names; configurations first, then classes by bare name, then the rest.

    Without this order, naming a class would drop those of its arguments that come before it.
    """
    arguments = _gathered(arguments)
    configurations: list[str] = []
    classes: list[str] = []
    rest: list[str] = []
    allow: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        name, equals, value = _split(argument)
        if name not in (*_SWAPPED, "--config", "--resume", "--allow"):
            rest.append(name + equals + value)
            continue
        if not equals:
            value = next(pending, "")
        if not value:
            rest.append(name)  # argparse says what is missing
        elif name == "--allow":
            allow += [module.strip(" \"'") for module in value.strip("[] ").split(",")]
        elif name in _SWAPPED:
            classes += [name, value if value.lstrip().startswith("{") else json.dumps({"class": value})]
        else:
            path = os.path.join(value, "config.yaml") if name == "--resume" else value
            configurations += ["--config", _options_of(path)]
            rest += [name, value] if name == "--resume" else []
    rest += ["--allow", json.dumps(allow)] if allow else []
    command = rest[:1] if rest and not rest[0].startswith("-") else []
    return [*command, *configurations, *classes, *rest[len(command) :]]


def _options_of(path: str) -> str:
    """A configuration file as options: without what a run only writes down, and with classes as mappings."""
    try:
        options = json.loads(path) if path.startswith("{") else read_yaml(Path(path))
    except (FileNotFoundError, json.JSONDecodeError):
        return path  # the parser says what is wrong with it
    for name in _NOT_IN_FILES:
        if name in options:
            raise CheckpointError(f"{path} must not hold {name!r}, which is for the command line alone. Take it out")
    options = {name: value for name, value in options.items() if name not in ("shapes", "from")}
    for option in _SWAPPED:
        name = option.removeprefix("--")
        if isinstance(options.get(name), str):
            options[name] = {"class": options[name]}
    return json.dumps(options)
