"""What is raised where no graph can be made; it needs nothing of torch or Pyro."""

from __future__ import annotations

__all__ = ["CannotCaptureError"]


class CannotCaptureError(RuntimeError):
    """A model or guide cannot be captured as one graph; says why, and where."""
