"""data.json of a run folder: what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

from pyro_vae.data.description import Description
from pyro_vae.files import CheckpointError, is_there, read_json, write_text

__all__ = ["DATA", "read_description", "write_description"]

DATA = "data.json"


def write_description(run: Path, described: Description) -> None:
    """Write what a run is trained on."""
    write_text(run / DATA, json.dumps(described.to_json()) + "\n")


def read_description(run: Path) -> Description | None:
    """Return what a run was trained on; None if its folder does not say.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = run / DATA
    if not is_there(path):
        return None
    try:
        return Description.from_json(read_json(path))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
