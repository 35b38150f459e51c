"""Data: image sets by name, and batches of anything."""

from pyro_vae.data.batches import Batches, batches
from pyro_vae.data.images import DESCRIPTIONS, NAMES, DamagedDataError, DataSet, DownloadError, Images, folder, load

__all__ = [
    "DESCRIPTIONS",
    "NAMES",
    "Batches",
    "DamagedDataError",
    "DataSet",
    "DownloadError",
    "Images",
    "batches",
    "folder",
    "load",
]
