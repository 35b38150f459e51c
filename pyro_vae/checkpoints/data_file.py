"""data.json and schema.yaml of a run folder: what it was trained on, and what the columns of a table hold."""

from __future__ import annotations

import json
from pathlib import Path

from pyro_vae.data.description import Description
from pyro_vae.data.schema import Schema, SchemaError
from pyro_vae.files import CheckpointError, is_there, read_json, write_text

__all__ = ["DATA", "SCHEMA", "read_description", "read_schema", "write_description", "write_schema"]

DATA, SCHEMA = "data.json", "schema.yaml"


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


def write_schema(run: Path, schema: Schema) -> None:
    """Write what the columns of a table hold."""
    write_text(run / SCHEMA, schema.to_yaml())


def read_schema(run: Path) -> Schema | None:
    """Return what the columns of a run's table hold; None if its data were no table with a schema.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = run / SCHEMA
    if not is_there(path):
        return None
    try:
        return Schema.read(path)
    except SchemaError as error:
        raise CheckpointError(f"{error}") from error
