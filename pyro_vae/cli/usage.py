"""Plain words for what jsonargparse says of a wrong command line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyro_vae.argument_checks import near_miss

__all__ = ["as_options", "missing_words", "plain"]

_TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true, false",
    "<class 'str'>": "a word",
    "<class 'NoneType'>": "null",
    "<class 'list'>": "a list",
    "list[int]": "a list of whole numbers such as [512,256]",
}
_TYPE = re.compile(r"<class '\w+'>|list\[int\]|typing\.Literal\[([^\]]*)\]")
_WRONG_VALUE = re.compile(r'Parser key "([\w.]+)": (.*?)(?:Given|Got) value: (.*)')
_UNKNOWN = re.compile(r"unrecognized arguments: (.*)|Subcommand '\w+' does not accept option '([\w.]+)'")
_NESTED = re.compile(r"NestedArg\(key='(.*?)', val=.*\)")
_NO_COMMAND = re.compile(r"argument command: invalid choice: '(.*?)' \(choose from (.*)\)")
_NO_FILE = re.compile(r"Parser key \"config\": File does not exist: '(.*)'")
_MISSING = re.compile(r"the following arguments are required: (\w+)\.(.*)")

# The words that a command needs.
_NEEDED = {
    "data": "a folder, a file or the name of a data set, such as photos/, wine.csv or digits",
    "run": "a run folder, such as runs/digits-1",
    "runs": "run folders, such as runs/*",
    "out": "a folder for its runs",
    "vary": "options with their values, such as objective.beta=0.5,1,2",
}


def plain(message: str, options: Iterable[str] = ()) -> str:
    """Return a message in plain words if it says that a value, an option or a command is wrong; any other as it is.

    Args:
        message: of jsonargparse.
        options: names of the options that there are, without dashes.
    """
    text = " ".join(message.split())
    if text.startswith('expected "command"'):
        return "a command is missing, such as train: pyro-vae train. pyro-vae --help lists them"
    if found := _UNKNOWN.fullmatch(text):
        return _unknown_option(found[1] or f"--{found[2]}", options)
    if found := _NO_FILE.fullmatch(text):
        return f"there is no file {found[1]}. --config takes a YAML file of options, such as runs/digits-1/config.yaml"
    if found := _NO_COMMAND.fullmatch(text):
        commands = re.findall(r"'([\w-]+)'", found[2])
        return f"there is no command {found[1]!r}; there are {', '.join(commands)}{near_miss(found[1], commands)}"
    found = _WRONG_VALUE.fullmatch(text)
    if found is None:
        return text
    name, expected, value = found.groups()
    value = value.rpartition("Given value: ")[2]  # of a list, not of its element
    if nested := _NESTED.fullmatch(value):
        return f"--{name} takes no arguments of its own; got --{name}.{nested[1]}"
    types = list(dict.fromkeys(match.group() for match in _TYPE.finditer(expected.partition("Errors:")[0])))
    if not types or not all(of in _TYPES or of.startswith("typing") for of in types):
        return text
    choices = ", ".join(_TYPES.get(of) or ", ".join(_choices(of)) for of in types)
    hint = near_miss(value, choices.split(", "))
    return f"--{name} must be {' or '.join(choices.rsplit(', ', 1))}; got {value}{hint}"


def _choices(literal: str) -> list[str]:
    """Return the values of ``typing.Literal[...]``, text or numbers, as words."""
    return [word.strip(" '") for word in literal.removeprefix("typing.Literal").strip("[]").split(",")]


def as_options(said: str, names: Iterable[str]) -> str:
    """Return a message in which the names of options have their dashes, as on the command line.

    So ``lr must be`` becomes ``--lr must be``, ``skip_bad leaves`` becomes ``--skip_bad leaves``, and ``seed=1``
    becomes ``--seed 1``.

    Args:
        said: what the library says of its arguments.
        names: of the options of the command, without dashes.
    """
    one = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    if not one:
        return said
    said = re.sub(rf"(?<![\w.\-(/])({one})=(?=[\w'\"(\[])", r"--\1 ", said)
    said = re.sub(rf"^({one})(?=:| must | is for | are for | goes on | needs | names )", r"--\1", said)
    return re.sub(rf"(?<![\w.\-/'\"(])({one})(?= [a-z])", _with_dashes, said)


def _with_dashes(found: re.Match[str]) -> str:
    return f"--{found[0]}" if "_" in found[0] else found[0]  # other names are also plain words, such as size


def _unknown_option(words: str, options: Iterable[str]) -> str:
    """Return what is wrong with words of a command line that no option takes."""
    first = words.split()[0]
    if not first.startswith("-"):
        return f"{words} is no option and belongs to none. Options begin with two dashes, such as --seed 1"
    name = first.lstrip("-").partition("=")[0]
    return f"there is no option --{name}{near_miss(name, options, '--')}"


def missing_words(message: str) -> tuple[str, str] | None:
    """Return the command that lacks words, and a message that says which; None for any other message."""
    found = _MISSING.fullmatch(" ".join(message.split()))
    if found is None:
        return None
    command, names = found[1], found[2].replace(f"{found[1]}.", "").split(", ")
    return command, f"{command} needs {' and '.join(_NEEDED.get(name, name) for name in names)}"
