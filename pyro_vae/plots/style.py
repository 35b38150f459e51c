"""What all figures share."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["BLUE", "DPI", "GREY", "Shown"]

DPI = 150
GREY, BLUE = "#9aa5b1", "#0b6e99"
_DPI_OF_A_PAGE = 96  # pixels per inch at which a notebook shows the picture


class Shown(Figure):
    """A figure that a notebook shows by itself, without ``%matplotlib inline``."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture, and the size at which a notebook shows it."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        width, height = (round(_DPI_OF_A_PAGE * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}
