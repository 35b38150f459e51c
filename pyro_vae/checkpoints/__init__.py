"""Run folders: config.yaml, data.json, schema.yaml, weights.safetensors (the best), last.safetensors, history.jsonl."""

from pyro_vae.checkpoints.config_file import NotARunError, dump_config, read_config, write_config
from pyro_vae.checkpoints.data_file import (
    DATA,
    SCHEMA,
    read_description,
    read_schema,
    write_description,
    write_schema,
)
from pyro_vae.checkpoints.loading import VAE_OPTIONS, StandardizedDataWarning, load
from pyro_vae.checkpoints.weights import Last, check_can_go_on, names_there, read_best, read_last, write_last
from pyro_vae.files import BEST, CONFIG, HISTORY, LAST, CheckpointError

__all__ = [
    "BEST",
    "CONFIG",
    "DATA",
    "HISTORY",
    "LAST",
    "SCHEMA",
    "VAE_OPTIONS",
    "CheckpointError",
    "Last",
    "NotARunError",
    "StandardizedDataWarning",
    "check_can_go_on",
    "dump_config",
    "load",
    "names_there",
    "read_best",
    "read_config",
    "read_description",
    "read_last",
    "read_schema",
    "write_config",
    "write_description",
    "write_last",
    "write_schema",
]
