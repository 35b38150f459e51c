"""Plain words for what jsonargparse says of a wrong command line."""

from __future__ import annotations

import re

__all__ = ["missing_words", "plain"]

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
_MISSING = re.compile(r"the following arguments are required: (\w+)\.(.*)")

# The words that a command needs.
_NEEDED = {
    "run": "a run folder, such as runs/digits-1",
    "runs": "run folders, such as runs/*",
    "out": "a folder for its runs",
    "vary": "options with their values, such as objective.beta=0.5,1,2",
}


def plain(message: str) -> str:
    """Return a message in plain words if it says that a value is wrong; any other as it is."""
    text = " ".join(message.split())
    found = _WRONG_VALUE.fullmatch(text)
    if found is None:
        return text
    name, expected, value = found.groups()
    value = value.rpartition("Given value: ")[2]  # of a list, not of its element
    types = list(dict.fromkeys(match.group() for match in _TYPE.finditer(expected.partition("Errors:")[0])))
    if not types or not all(of in _TYPES or of.startswith("typing") for of in types):
        return text
    choices = ", ".join(_TYPES.get(of) or ", ".join(re.findall(r"'([^']*)'", of)) for of in types)
    return f"--{name} must be {' or '.join(choices.rsplit(', ', 1))}; got {value}"


def missing_words(message: str) -> tuple[str, str] | None:
    """Return the command that lacks words, and a message that says which; None for any other message."""
    found = _MISSING.fullmatch(" ".join(message.split()))
    if found is None:
        return None
    command, names = found[1], found[2].replace(f"{found[1]}.", "").split(", ")
    return command, f"{command} needs {' and '.join(_NEEDED.get(name, name) for name in names)}"
