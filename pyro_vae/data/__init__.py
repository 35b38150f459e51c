"""Data: data sets from names, files and folders, and batches of anything."""

from pyro_vae.data.arrays import as_tensor, check_array
from pyro_vae.data.batches import Batches, DataSource, batches, without_single_examples
from pyro_vae.data.counts import Counts
from pyro_vae.data.elsewhere import PREFIXES
from pyro_vae.data.holding_out import split
from pyro_vae.data.images import Images
from pyro_vae.data.named import DESCRIPTIONS, NAMES, DamagedDataError, DownloadError, folder
from pyro_vae.data.reading import BadDataError
from pyro_vae.data.rows import Rows
from pyro_vae.data.schema import Column, Schema, SchemaError
from pyro_vae.data.sources import TAKEN, load
from pyro_vae.data.splits import DataSet, Split
from pyro_vae.data.tables import TABLES, NoColumnError, table

__all__ = [
    "DESCRIPTIONS",
    "NAMES",
    "PREFIXES",
    "TABLES",
    "TAKEN",
    "BadDataError",
    "Batches",
    "Column",
    "Counts",
    "DamagedDataError",
    "DataSet",
    "DataSource",
    "DownloadError",
    "Images",
    "NoColumnError",
    "Rows",
    "Schema",
    "SchemaError",
    "Split",
    "as_tensor",
    "batches",
    "check_array",
    "folder",
    "load",
    "split",
    "table",
    "without_single_examples",
]
