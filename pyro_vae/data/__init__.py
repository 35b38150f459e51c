"""Data: image sets by name, and batches of anything."""

from pyro_vae.data.batches import Batches, batches
from pyro_vae.data.images import NAMES, DataSet, DownloadError, Images, folder, load

__all__ = ["NAMES", "Batches", "DataSet", "DownloadError", "Images", "batches", "folder", "load"]
