"""Data: image sets by name, and batches of anything."""

from pyro_vae.data.arrays import as_tensor, check_array
from pyro_vae.data.batches import Batches, DataSource, batches, without_single_examples
from pyro_vae.data.images import DESCRIPTIONS, NAMES, DamagedDataError, DataSet, DownloadError, Images, folder, load

__all__ = [
    "DESCRIPTIONS",
    "NAMES",
    "Batches",
    "DamagedDataError",
    "DataSet",
    "DataSource",
    "DownloadError",
    "Images",
    "as_tensor",
    "batches",
    "check_array",
    "folder",
    "load",
    "without_single_examples",
]
