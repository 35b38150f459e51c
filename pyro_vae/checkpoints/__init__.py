"""Run folders: config.yaml, data.json, weights.safetensors (the best), last.safetensors, history.jsonl."""

from pyro_vae.checkpoints.config_file import NotARunError, dump_config, read_config, write_config
from pyro_vae.checkpoints.data_file import DATA, read_description, write_description
from pyro_vae.checkpoints.loading import VAE_OPTIONS, StandardizedDataWarning, load
from pyro_vae.checkpoints.weights import Last, names_there, read_best, read_last, write_last
from pyro_vae.files import BEST, CONFIG, HISTORY, LAST, CheckpointError

__all__ = [
    "BEST",
    "CONFIG",
    "DATA",
    "HISTORY",
    "LAST",
    "VAE_OPTIONS",
    "CheckpointError",
    "Last",
    "NotARunError",
    "StandardizedDataWarning",
    "dump_config",
    "load",
    "names_there",
    "read_best",
    "read_config",
    "read_description",
    "read_last",
    "write_config",
    "write_description",
    "write_last",
]
