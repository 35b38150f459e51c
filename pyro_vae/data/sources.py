"""load(): a data set from a name, a file, a folder or a function."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyro_vae.data import array_files, cell_files, count_files, tables
from pyro_vae.data.elsewhere import PREFIXES, load_elsewhere, names_elsewhere
from pyro_vae.data.folders import load_folder
from pyro_vae.data.functions import home_of, load_function
from pyro_vae.data.images import Binarize, Images
from pyro_vae.data.named import NAMES, load_named
from pyro_vae.data.reading import Reading
from pyro_vae.data.schema import Schema
from pyro_vae.data.splits import DataSet

__all__ = ["FILES", "TAKEN", "load", "whole_path"]

Reader = Callable[[Path, Reading], DataSet[Any]]

FILES: Mapping[str, Reader] = {
    ".npy": array_files.load_arrays,
    ".npz": count_files.load_npz,
    ".safetensors": array_files.load_arrays,
    ".h5": array_files.load_arrays,
    ".hdf5": array_files.load_arrays,
    ".h5ad": cell_files.load_h5ad,
    **dict.fromkeys(tables.TABLES, tables.load_table),
}
"""The files that :func:`load` takes: how each is read, by the ending of its name."""

TAKEN: Mapping[str, str] = {
    "photos/": "A folder of images. Sub-folders are classes; train/, valid/ and test/ are splits if they are there.",
    "x.npy, x.npz, x.safetensors, x.h5, x.hdf5": "Arrays (n, ...): x, and y for labels; or x_train, x_valid and x_test "
    "(.h5 and .hdf5: extra hdf5).",
    "x.csv, x.tsv, x.csv.gz, x.tsv.gz, x.parquet": "A table of numbers, categories and dates, which become x; "
    "label=COLUMN gives the labels (extra: tables).",
    "counts.npz, x.h5ad": "Counts, most of them 0: a sparse matrix of scipy.sparse.save_npz, or cells of AnnData "
    "(.h5ad: extra anndata).",
    "my_data.py:make, my_package.data:make": "What your function make returns, which takes no arguments: a tensor, an "
    "array, a DataFrame, a sparse matrix, a Dataset, a DataLoader, x with labels, or a dictionary of splits.",
    "sklearn:wine": "A data set of scikit-learn: wine, iris, breast_cancer, digits, diabetes, linnerud; others, such "
    "as covtype, are downloaded.",
    "torchvision:CIFAR10": "A data set of pictures of torchvision, by the name of its class. size=32 makes pictures of "
    "several sizes one.",
    "hf:user/name": "Pictures or numbers of a data set on Hugging Face, or in such a folder (extra: datasets).",
}
"""What :func:`load` takes besides the data sets by name: an example of each, and what it is."""


def load(
    source: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    binarize: Binarize | None = None,
    dequantize: bool = False,
    labels: bool = False,
    integers: bool = False,
    size: str | int | Sequence[int] | None = None,
    channels: int | None = None,
    split: str | Sequence[float] | None = None,
    group: str | None = None,
    label: str | None = None,
    columns: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    schema: Schema | str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
) -> DataSet[Any]:
    """Return a data set, in three splits, from its name or from your own files.

    Data sets by name have fixed splits:

    - ``digits``: 1,797 handwritten digits of 8 × 8 pixels (scikit-learn; Alpaydin and Kaynak 1998), shuffled once
      with a fixed seed into 1,297 for training, 200 for validation, 300 for test. Needs no network.
    - ``mnist``, ``fashion_mnist``, ``kmnist``: 28 × 28, torchvision's training images but the last 5,000 (55,000), the
      last 5,000, and its 10,000 test images.
    - ``qmnist``: as MNIST, with QMNIST's own 60,000 test images.
    - ``emnist``: the balanced split, 47 classes: 107,800, 5,000 and 18,800.

    Your own data:

    - a folder of images (PNG, JPEG, TIFF, BMP, GIF, WebP): sub-folders are classes, as in ``ImageFolder`` of
      torchvision, and ``train``, ``valid`` and ``test`` are splits. Many images are decoded once, and kept in the
      folder ``decoded`` of ``root``.
    - ``.npy``, ``.npz``, ``.safetensors``, ``.h5`` and ``.hdf5`` files of arrays ``(n, ...)``: ``x``, and ``y`` for
      labels; or ``x_train``, ``x_valid`` and ``x_test``. HDF5 needs ``pip install 'pyro-vae[hdf5]'``.
    - ``.csv``, ``.tsv`` (also as ``.csv.gz``, ``.tsv.gz``) and ``.parquet`` files: tables, whose columns become x:
      numbers as they are, categories as codes, dates as days. What is empty, NA, NaN, None or null is missing: NaN.
      Columns that tell nothing are left out, and the data set's ``notes`` say so. Needs
      ``pip install 'pyro-vae[tables]'``.
    - ``.npz`` files of ``scipy.sparse.save_npz`` and ``.h5ad`` files of AnnData: :class:`Counts`. Of AnnData they are X
      or, if X holds no counts, the layer ``counts``. ``.h5ad`` needs ``pip install 'pyro-vae[anndata]'``.
    - ``my_data.py:make`` or ``my_package.data:make``: what a function of yours returns, which takes no arguments: all
      that :func:`pyro_vae.fit` takes, x with labels ``(x, y)``, or a dictionary of these with ``train``, and perhaps
      ``valid`` and ``test``. Datasets and DataLoaders are read once, into memory.
    - ``sklearn:wine``, ``torchvision:CIFAR10`` and ``hf:user/name``: data sets of scikit-learn, of torchvision and on
      Hugging Face (or in a folder of that form; extra ``datasets``), downloaded if need be.

    Without splits of their own, a hash of each example says where it goes. So an example stays in its split if others
    are added.

    Args:
        source: the name, one of ``pyro_vae.data.NAMES``, or the path.
        root: folder of the data sets by name, in torchvision's layout; by default ``$PYRO_VAE_DATA``, else
            ``~/.cache/pyro_vae``. Files that it lacks are downloaded into it. Decoded images are kept there too.
        binarize: of images; see :class:`Images`.
        dequantize: of images; see :class:`Images`.
        labels: give the VAE the one-hot labels as context.
        integers: of images; see :class:`Images`.
        size: of images: height and width, such as ``32`` or ``"32x48"``. Each image is resized until it covers them,
            antialiased, and cut around its centre.
        channels: of images: 1 or 3; by default 3 if any has colour, else 1.
        split: shares of training, validation and test data, by default ``(0.8, 0.1, 0.1)``.
        group: column of a table, or of ``obs``; rows with the same value stay in one split. It is no part of x.
        label: column of a table, or of ``obs``, that holds the labels, numbers or text; it is no part of x.
        columns: of a table: those that become x, such as ``"age,height"``; by default all but row numbers, constants
            and the like.
        delimiter: character between the columns of a text file; by default a comma, and a tab for .tsv.
        schema: of a table, or a YAML file with one: what each column holds. By default it is made from
            the table.
        skip_bad: leave out files that cannot be read and rows without counts, and say so in the data set's ``notes``.

    Raises:
        ValueError: for an unknown name or option, and for data that cannot be used.
        FileNotFoundError: if there is no such file.
        DamagedDataError: if its files cannot be read.
        DownloadError: if the files are not in the folder and cannot be downloaded.

    Example:
        >>> digits = load("digits", binarize="dynamic")
        >>> digits.event_shape, len(digits.train)
        ((1, 8, 8), 1297)
    """
    schema = Schema.read(schema) if isinstance(schema, (str, os.PathLike)) else schema
    how = Reading(size, channels, split, group, label, delimiter, skip_bad, columns, schema)
    found = _read(os.fspath(source), root, how)
    origin = {"data": whole_path(os.fspath(source)), **how.recorded()}
    if labels and found.train.labels is None:
        raise ValueError(f"labels: {source} has no labels to give to the VAE. label=COLUMN names those of a table")
    options: dict[str, Any] = {"binarize": binarize, "dequantize": dequantize, "integers": integers}
    if not isinstance(found.train, Images):
        for name, value in options.items():
            if value:
                raise ValueError(f"{name} is for images; {source} holds {found.train.noun}s")
        options = {}
    return found.map(lambda split: replace(split, with_labels=labels, origin=origin, **options))


def whole_path(source: str) -> str:
    """Return the name of data that is found from any folder."""
    path, home = Path(source).expanduser(), home_of(source)
    if source in NAMES:
        return source
    if path.exists():
        return str(path.resolve())
    folder = Path(source.removeprefix("hf:")).expanduser()
    if source.startswith("hf:") and folder.exists():
        return f"hf:{folder.resolve()}"
    if home is not None and home.lower().endswith(".py"):
        return str(Path(home).expanduser().resolve()) + source.removeprefix(home)
    return source


def _read(source: str, root: str | os.PathLike[str] | None, how: Reading) -> DataSet[Any]:
    if source in NAMES:
        how.check_used(f"{source} has its own form and splits")
        return _beside_own(load_named(source, root), source)
    path = Path(source).expanduser()
    if not path.exists():
        if source.partition(":")[0] in PREFIXES and ":" in source:
            return load_elsewhere(source, root, how)
        if home_of(source) is not None:
            return load_function(source, how)
        raise _no_such_data(source, path)
    if path.is_dir():
        return load_folder(path, how, root)
    reader = next((FILES[ending] for ending in FILES if path.name.lower().endswith(ending)), None)
    if reader is None:
        what = f"a file of another kind ({path.suffix or 'without ending'})"
        raise ValueError(f"{source} is {what}. Give a folder of images, or one of these files: {', '.join(FILES)}")
    return reader(path, how)


def _beside_own(named: DataSet[Images], source: str) -> DataSet[Images]:
    """Return a data set with a name, and a note if a file or folder here has that name too."""
    if not Path(source).exists():
        return named
    return replace(named, notes=(*named.notes, f"{source} is the data set of that name; yours here is ./{source}"))


def _no_such_data(source: str, path: Path) -> Exception:
    there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    names = difflib.get_close_matches(source.lower(), NAMES, n=1)
    files = difflib.get_close_matches(path.name, there, n=1)
    there_too = names_elsewhere()
    elsewhere = [there_too[name] for name in difflib.get_close_matches(source.lower(), there_too, n=1)]
    close = names[0] if names else str(path.parent / files[0]) if files else "".join(elsewhere)
    hint = f" Did you mean {close!r}?" if close else ""
    if path.suffix or len(path.parts) > 1:
        return FileNotFoundError(f"there is no file or folder {source}.{hint}")
    return ValueError(f"unknown data set {source!r}; there are {', '.join(NAMES)}, and files and folders.{hint}")
