"""The pages of docs/ as programs: their Python and their commands, run one after the other in a folder of their own."""

from __future__ import annotations

import io
import re
import shlex
import time
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyro

from pyro_vae.cli import main

SOURCE = Path(__file__).parents[2]
_BLOCK = re.compile(r"```(python|bash|text)\n(.*?)```", re.DOTALL)


@dataclass
class Walk:
    """What a page leaves behind.

    Attributes:
        names: of its Python.
        commands: that it runs.
        quoted: pairs of a line that the page quotes, and all that the block before it printed.
        printed: what its Python printed.
        seconds: that it took.
    """

    names: dict[str, Any] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    quoted: list[tuple[str, str]] = field(default_factory=list)
    printed: str = ""
    seconds: float = 0.0


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of a page."""
    return _BLOCK.findall(text)


@cache
def walk(page: str) -> Walk:
    """Run the blocks of a page, by its path from the root of the repository."""
    found, printed, start = Walk(), "", time.perf_counter()
    with TemporaryDirectory() as folder, chdir(folder):
        try:
            for language, text in blocks((SOURCE / page).read_text(encoding="utf-8")):
                if language == "text":
                    found.quoted += [(line, printed) for line in text.splitlines()]
                    continue
                with redirect_stdout(io.StringIO()) as said:
                    _run(page, language, text, found)
                printed = said.getvalue()
                found.printed += printed if language == "python" else ""
        finally:
            pyro.clear_param_store()
    found.seconds = time.perf_counter() - start
    return found


def _run(page: str, language: str, text: str, found: Walk) -> None:
    if language == "python":
        exec(compile(text, page, "exec"), found.names)
        return
    for line in text.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line)
        assert program == "pyro-vae", f"{page}: {line}"
        assert main(words) == 0, f"{page}: {line}"
        found.commands.append(line)
