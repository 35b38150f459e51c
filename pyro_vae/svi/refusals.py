"""The error for programs that cannot be captured, and the line of the user's program that it names."""

from __future__ import annotations

import traceback
from pathlib import Path

import pyro
import torch

__all__ = ["CannotCaptureError", "at_line", "at_user_line"]

_LIBRARIES = tuple(str(Path(module.__file__ or "").parent) for module in (torch, pyro))


class CannotCaptureError(RuntimeError):
    """A model, guide or loss cannot be captured as one graph; the message says why, and where."""


def at_user_line(what: str) -> str:
    """Add the line of the user's program that runs now.

    Args:
        what: the reason.
    """
    return at_line(traceback.extract_stack(), what)


def at_line(frames: traceback.StackSummary, what: str) -> str:
    """Add the innermost line that is neither in a library nor in this package.

    Args:
        frames: of a traceback or of the stack.
        what: the reason.
    """
    ours = str(Path(__file__).parent)
    users = [f for f in frames if not f.filename.startswith((*_LIBRARIES, ours)) and not f.filename.startswith("<")]
    if not users:
        return what
    last = users[-1]
    return f'{what}, at {last.filename}:{last.lineno} in {last.name}: "{last.line}"'
