"""A command line as jsonargparse reads it, and the modules of your own that it names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from pyro_vae.files import CheckpointError, read_yaml

__all__ = ["FLAGS", "OF_RUN_AND_DATA", "modules_named", "normalised"]

# Commands that take a list of words, and how many words come before the list.
_LISTS = {"compare": 1, "sweep": 2}

# Commands whose second word may be data: RUN [DATA].
OF_RUN_AND_DATA = ("encode", "impute", "score")

# Options that are true if no value follows them.
FLAGS = ("--all", "--labels", "--mixed_precision", "--skip_bad", "--together")

# Options that take no value.
_WITHOUT_VALUE = ("--help", "--debug", "--version", "--print_config")

# Options that name a class; the arguments of the class follow as --option.argument.
_SWAPPED = ("--prior", "--likelihood", "--posterior", "--mask_likelihood", "--objective")

# Options whose values may name classes of your own.
_NAMING = (*_SWAPPED, "--activation")

# Options whose values may name a function of your own that returns data.
_OF_DATA = ("--data", "--against")

# Options that a file cannot set: each machine has its own folders, and only the user says what is imported.
_NOT_IN_FILES = ("allow", "config", "out", "resume", "root")

# What a run records that is no option: it is seen from the data again.
_RECORDED = ("fill", "from", "missing", "shapes")

_LISTED = ("pyro", "pyro_vae", "torch", "zuko")  # their classes are on lists, and are not imported by name
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def _split(argument: str) -> tuple[str, str, str]:
    """Return the name of an option with underscores, the "=" after it, and its value; any other word as it is."""
    if not argument.startswith("--"):
        return argument, "", ""
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_"), equals, value


def modules_named(arguments: list[str]) -> list[str]:
    """Return the modules that the command line itself names, such as those of --prior my_module.MyPrior.

    They are those of classes, and those and the files of functions that return data, such as --data my_data.py:make.
    The value of --config does not count: it may be the content of a file.
    """
    named: list[str] = []
    pending = iter(_with_values(arguments))
    for argument in pending:
        option, equals, value = _split(argument)
        if option == "--debug":
            continue
        if option.startswith("--"):
            value = value if equals else next(pending, "")
        elif arguments[0] == "sweep":  # prior=my_module.MyPrior,StandardNormal
            name, _, values = argument.partition("=")
            option, value = f"--{name.strip().lstrip('-').replace('-', '_')}", f"[{values}]"
        else:  # DATA without --data
            option, value = "--data", argument
        if option in _OF_DATA:
            named += [home for word in _words(value) if (home := _home_of_function(word)) is not None]
        if option.partition(".")[0] in _NAMING:
            paths = [word for word in _words(value) if _DOTTED.fullmatch(word)]
            named += [path.rpartition(".")[0] for path in paths if path.partition(".")[0] not in _LISTED]
    return named


def _home_of_function(data: str) -> str | None:
    """Return the module or file of a function that is named as data, and is no file itself."""
    if ":" not in data or os.path.exists(data):
        return None
    from pyro_vae.data.functions import home_of

    return home_of(data)


def _words(value: str) -> Iterator[str]:
    """Yield all text in a value, which may be YAML."""
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


def normalised(arguments: list[str]) -> list[str]:
    """Return the arguments with underscores in option names: configurations first, then class names, then the rest.

    In another order, naming a class would drop the arguments given to it before.
    """
    configurations: list[str] = []
    classes: list[str] = []
    rest: list[str] = []
    allow: list[str] = []
    pending = iter(_with_data(_gathered(_with_values(arguments))))
    for argument in pending:
        name, equals, value = _split(argument)
        if name not in (*_SWAPPED, "--config", "--resume", "--allow"):
            rest.append(name + equals + (_as_list(value) if name == "--hidden" else value))
            if name == "--hidden" and not equals and (widths := next(pending, None)) is not None:
                rest.append(_as_list(widths))
            continue
        if not equals:
            value = next(pending, "")
        if not value:
            rest.append(name)  # argparse says that the value is missing
        elif name == "--allow":
            allow += [module.strip(" \"'") for module in value.strip("[] ").split(",")]
        elif name in _SWAPPED:
            classes += [name, value if value.lstrip().startswith("{") else json.dumps({"class": value})]
        else:
            path = os.path.join(value, "config.yaml") if name == "--resume" else value
            if name == "--resume" and not os.path.lexists(path):
                raise FileNotFoundError(
                    f"{value} is no run folder: it has no config.yaml. pyro-vae train writes one, below runs/"
                )
            configurations += ["--config", _options_of(path)]
            rest += [name, value] if name == "--resume" else []
    rest += ["--allow", json.dumps(allow)] if allow else []
    command = rest[:1] if rest and not rest[0].startswith("-") else []
    return [*command, *configurations, *classes, *rest[len(command) :]]


def _as_list(value: str) -> str:
    """Return widths between commas, such as 512,256, as a list; any other value as it is."""
    return f"[{value}]" if re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)+", value) else value


def _with_values(arguments: list[str]) -> list[str]:
    """Return the arguments with true behind each flag that has no value."""
    given: list[str] = []
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        given.append(word)
        if "=" not in word and _split(word)[0] in FLAGS and following.lower() not in ("true", "false"):
            given.append("true")
    return given


def _with_data(arguments: list[str]) -> list[str]:
    """Return the arguments with the run and the data before all options, for the commands on a run and data.

    ``--data DATA`` is the same as DATA behind the run.
    """
    if not arguments or arguments[0] not in OF_RUN_AND_DATA:
        return arguments
    words, data, options = [arguments[0]], list[str](), list[str]()
    pending = iter(arguments[1:])
    for argument in pending:
        name, equals, value = _split(argument)
        if not argument.startswith("-"):
            words.append(argument)
        elif name == "--data" and (equals or (value := next(pending, ""))):
            data.append(value)
        else:
            options.append(argument)
            if argument.startswith("--") and not equals and name not in _WITHOUT_VALUE:
                options += [value] if (value := next(pending, "")) else []
    return [*words, *data, *options]


def _gathered(arguments: list[str]) -> list[str]:
    """Return the arguments with the words of a list as one word of JSON, even if options stand between them."""
    if not arguments or arguments[0] not in _LISTS:
        return arguments
    words: list[str] = []
    options: list[str] = []
    for word in arguments:
        of_option = options and options[-1].startswith("--") and "=" not in options[-1] and options[-1] != "--help"
        (options if word.startswith("-") or of_option else words).append(word)
    start = _LISTS[arguments[0]]
    return [*words[:start], json.dumps(words[start:]), *options] if len(words) > start else [*words, *options]


def _options_of(path: str) -> str:
    """Return the options in a configuration file as JSON, with classes as mappings, without what a run only records."""
    try:
        options = json.loads(path) if path.startswith("{") else read_yaml(Path(path))
    except (FileNotFoundError, json.JSONDecodeError):
        return path  # the parser says what is wrong with it
    for name in _NOT_IN_FILES:
        if name in options:
            raise CheckpointError(f"{path} must not hold {name!r}, which is for the command line alone. Take it out")
    options = {name: value for name, value in options.items() if name not in _RECORDED}
    for option in _SWAPPED:
        name = option.removeprefix("--")
        if isinstance(options.get(name), str):
            options[name] = {"class": options[name]}
    return json.dumps(options)
