"""Turns what the docstrings write in another way into what mkdocstrings renders.

These are Sphinx's roles, ``Example:`` sections, and the ``Args:`` of a NamedTuple, which are its fields.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod|obj):`(~?)([\w.]+)`")
_EXAMPLE = re.compile(r"^( *)Example:\n(?=\s+>>>)", re.MULTILINE)
_ARGS = re.compile(r"^( *)Args:\n", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring once its package is loaded, when names can be resolved."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Walks through the package."""
        self._rewrite(pkg)

    def _rewrite(self, found: griffe.Object) -> None:
        if found.docstring is not None:
            text = _EXAMPLE.sub(r"\1Examples:\n", found.docstring.value)
            if found.is_class and "NamedTuple" in map(str, found.bases):
                text = _ARGS.sub(r"\1Attributes:\n", text)
            found.docstring.value = _ROLE.sub(lambda role: _link(found, *role.groups()), text)
        for member in found.members.values():
            if not member.is_alias:
                self._rewrite(member)


def _link(found: griffe.Object, short: str, name: str) -> str:
    """A link where the reference has a page for the name; the name alone elsewhere, as for torch's."""
    shown = name.rpartition(".")[2] if short else name
    try:
        target = found.modules_collection[name].canonical_path if "." in name else found.resolve(name)
    except (KeyError, griffe.GriffeError):
        return f"`{shown}`"
    return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'
