"""Run folders: config.yaml, weights.safetensors (the best), last.safetensors (to go on from), history.jsonl."""

from pyro_vae.checkpoints.config_file import NotARunError, dump_config, read_config, write_config
from pyro_vae.checkpoints.loading import VAE_OPTIONS, load
from pyro_vae.checkpoints.weights import Last, names_there, read_best, read_last, write_last
from pyro_vae.files import BEST, CONFIG, HISTORY, LAST, CheckpointError

__all__ = [
    "BEST",
    "CONFIG",
    "HISTORY",
    "LAST",
    "VAE_OPTIONS",
    "CheckpointError",
    "Last",
    "NotARunError",
    "dump_config",
    "load",
    "names_there",
    "read_best",
    "read_config",
    "read_last",
    "write_config",
    "write_last",
]
