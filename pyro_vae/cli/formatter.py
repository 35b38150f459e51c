"""The look of ``--help``."""

from __future__ import annotations

import json
import textwrap
from argparse import Action, RawDescriptionHelpFormatter

from jsonargparse import DefaultHelpFormatter

__all__ = ["Formatter"]


class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the examples, and shows defaults as the command line takes them, without Python's types."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _get_help_string(self, action: Action) -> str:
        text = str(super()._get_help_string(action))
        for typed in (" (required, type: %(type)s)", " (type: %(type)s)"):
            text = text.replace(typed, "")
        text = text.replace("(type: %(type)s, ", "(")
        default = action.default
        if default is None or default == []:
            return text.replace(" (default: %(default)s)", "")
        if isinstance(default, dict) and [*default] == ["class"]:
            default = default["class"]
        shown = default if isinstance(default, str) else json.dumps(default, default=str)
        return text.replace("%(default)s", shown.replace("%", "%%"))
