"""Data sets of other libraries: ``sklearn:wine``, ``torchvision:CIFAR10`` and ``hf:user/name``."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pyro_vae.argument_checks import near_miss
from pyro_vae.data.conversion import in_splits
from pyro_vae.data.counts import Counts
from pyro_vae.data.frames import is_sparse
from pyro_vae.data.items import Found, as_array, read_dataset, stack
from pyro_vae.data.named import DamagedDataError, DownloadError, folder, read_or_download
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.splits import DataSet
from pyro_vae.data.tables import notes_on_labels

if TYPE_CHECKING:
    import datasets

__all__ = ["PREFIXES", "load_elsewhere", "names_elsewhere"]

Root = str | os.PathLike[str] | None
_NO_DATA = ("DatasetFolder", "ImageFolder", "VisionDataset", "wrap_dataset_for_transforms_v2")
_TOY = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")  # part of scikit-learn; no network
_FETCHED = (
    "20newsgroups_vectorized",
    "california_housing",
    "covtype",
    "lfw_pairs",
    "lfw_people",
    "olivetti_faces",
)


def load_elsewhere(source: str, root: Root, how: Reading) -> DataSet[Any]:
    """Return a data set of another library.

    Args:
        source: a prefix of :data:`PREFIXES`, a colon, and a name there.
        root: folder for what is downloaded; by default :func:`pyro_vae.data.folder`, and for Hugging Face its own.
        how: options.

    Raises:
        ValueError: if there is no such data set.
        DownloadError: if it is not on the disk and cannot be downloaded.
        BadDataError: if it holds what no VAE can take.
        ImportError: if a library is missing.
    """
    prefix, _, name = source.partition(":")
    return _READERS[prefix](source, name, root, how)


def names_elsewhere() -> dict[str, str]:
    """Return the names with their prefix by the names without it, in lower case."""
    from torchvision import datasets

    torchvision = (name for name in datasets.__all__ if name not in _NO_DATA)
    found = {"torchvision": torchvision, "sklearn": (*_TOY, *_FETCHED)}
    return {name.lower(): f"{prefix}:{name}" for prefix, names in found.items() for name in names}


def _sklearn(source: str, name: str, root: Root, how: Reading) -> DataSet[Any]:
    from sklearn import datasets

    how.check_used(f"{source} holds arrays", "split")
    if name not in (*_TOY, *_FETCHED):
        raise _unknown(source, "scikit-learn", name, (*_TOY, *_FETCHED))
    if name in _TOY:
        bunch = getattr(datasets, f"load_{name}")()
    else:
        try:
            options = {"normalize": False} if name == "20newsgroups_vectorized" else {}  # counts of words
            bunch = getattr(datasets, f"fetch_{name}")(data_home=str(folder(root)), **options)
        except OSError as error:
            raise DownloadError(
                f"{source} is not in {folder(root)} and could not be downloaded ({error}). {', '.join(_TOY)} need no "
                "network"
            ) from error
    x = Counts(bunch.data, name=source) if is_sparse(bunch.data) else as_array(source, bunch.data)
    if name in ("olivetti_faces", "lfw_people"):
        x = bunch.images[:, None]  # (n, 1, height, width)
    labels, notes = _targets(source, bunch)
    names = tuple(map(str, bunch.get("feature_names", ())))
    columns = names if isinstance(x, np.ndarray) and x.ndim == 2 and len(names) == x.shape[1] else ()
    return in_splits(source, {"train": Found(x, labels, _class_names(bunch), columns, notes=notes)}, how)


def _targets(source: str, bunch: Mapping[str, Any]) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    """Return the targets of scikit-learn as labels; with a note, nothing if they are numbers to predict."""
    target = bunch["target"]
    if isinstance(target, np.ndarray) and target.ndim == 1 and target.dtype.kind in "iubOUS":
        return target, ()
    names = [str(name) for name in bunch.get("target_names", ())]
    what = f" ({', '.join(names)})" if names and len(names) < 5 else ""
    return None, (f"{source}: its targets{what} are not classes, so they are no labels, and are left out",)


def _class_names(bunch: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(map(str, bunch.get("target_names", ())))
    return () if names == tuple(map(str, range(len(names)))) else names


def _torchvision(source: str, name: str, root: Root, how: Reading) -> DataSet[Any]:
    from torchvision import datasets

    how.check_used(f"{source} is a data set of torchvision's", "size", "channels", "split")
    names = [n for n in datasets.__all__ if n not in _NO_DATA and isinstance(getattr(datasets, n), type)]
    if name not in names:
        raise _unknown(source, "torchvision", name, names)
    make = getattr(datasets, name)
    parts: dict[str, Dataset[Any]] = {}
    for split, several in _choices(source, make).items():
        made = (_make(source, make, root, options) for options in several)
        if (first := next((d for d in made if d is not None), None)) is not None:
            parts[split] = first
    found = {split: read_dataset(f"{source}: {split}", part, how) for split, part in parts.items()}
    return in_splits(source, _labels_of_all(source, found), how)


def _choices(source: str, make: Callable[..., Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the arguments that may choose each split of a data set of torchvision's, the first that works counts."""
    parameters = inspect.signature(make).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [n for n, p in parameters.items() if p.default is p.empty and p.kind not in variadic and n != "root"]
    if needed:
        raise ValueError(
            f"{source} needs {', '.join(needed)} too. Write a function that returns it, and name that: file.py:function"
        )
    if "train" in parameters:
        return {"train": [{"train": True}], "test": [{"train": False}]}
    if "split" in parameters:
        usual = parameters["split"].default
        words = {"train": ("train", usual), "valid": ("val", "valid"), "test": ("test",)}
        return {split: [{"split": word} for word in some] for split, some in words.items()}
    return {"train": [{}]}


def _make(source: str, make: Callable[..., Any], root: Root, options: dict[str, Any]) -> Dataset[Any] | None:
    """Return a data set of torchvision's, downloaded if it must be; None if it has no such split."""
    parameters = inspect.signature(make).parameters
    if "root" not in parameters:
        return make(**options)
    try:
        if "download" in parameters:
            return read_or_download(make, folder(root), options)
        return make(str(folder(root)), **options)
    except DownloadError:
        raise
    except Exception as error:  # each class of torchvision's raises what it likes, and so do its downloaders
        reason = error.__cause__ or error
        if isinstance(reason, ValueError) and "nknown value" in str(reason) and "split" in options:
            return None  # torchvision says so of words that it does not know
        if isinstance(error, DamagedDataError):
            raise
        raise DownloadError(
            f"{source} is not in {folder(root)}, and torchvision does not download it ({error}). Put its files there, "
            "or name their folder with root"
        ) from error


def _labels_of_all(source: str, found: dict[str, Found]) -> dict[str, Found]:
    """Return the same splits without labels, and with a note, if one of them has none."""
    lacking = [split for split, f in found.items() if f.labels is None]
    if not lacking or len(lacking) == len(found):
        return found
    note = f"{source} has no labels for {' and '.join(lacking)}; those of the others are left out"
    return {split: replace(f, labels=None, notes=(*f.notes, note)) for split, f in found.items()}


def _hugging_face(source: str, name: str, root: Root, how: Reading) -> DataSet[Any]:
    splits = _load_hugging_face(source, name, root)
    words = {"train": ("train",), "valid": ("validation", "valid", "val", "dev"), "test": ("test",)}
    chosen = {split: w for split, some in words.items() if (w := next((w for w in some if w in splits), None))}
    if "train" not in chosen:
        if len(splits) > 1:
            raise BadDataError(f"{source} must have a split train; it has {', '.join(splits)}")
        chosen = {"train": next(iter(splits))}
    found = {split: _columns(source, splits[word], how) for split, word in chosen.items()}
    if others := [word for word in splits if word not in chosen.values()]:
        note = f"{source}: its splits {', '.join(others)} are left out"
        found["train"] = replace(found["train"], notes=(*found["train"].notes, note))
    return in_splits(source, _labels_of_all(source, found), how)


def _load_hugging_face(source: str, name: str, root: Root) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"{source} needs the package datasets: pip install 'pyro-vae[datasets]'") from error
    path, _, config = (name, "", "") if os.path.exists(name) else name.partition(":")
    cache = None if root is None else str(folder(root) / "huggingface")
    try:
        return datasets.load_dataset(path, config or None, cache_dir=cache)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise ValueError(
            f"{source}: Hugging Face has no public data set {path!r}. The name is that of its page: user/name"
            f"{_similar(path)}"
        ) from error
    except OSError as error:  # a ConnectionError among them
        raise DownloadError(f"{source} is not on this disk and could not be downloaded ({_line(error)})") from error
    except Exception as error:  # of Arrow, of pandas, of a script that is no longer run, ...
        raise BadDataError(f"{source} cannot be read: {_line(error)}") from error


def _similar(path: str) -> str:
    """Return a sentence with names of data sets of Hugging Face like this one, or nothing."""
    import huggingface_hub

    try:
        found = [of.id for of in huggingface_hub.list_datasets(search=path.rpartition("/")[2], limit=3)]
    except Exception:  # no network, for example; the error is about the name
        return ""
    return f". Did you mean {' or '.join(found)}?" if found else ""


def _columns(source: str, table: datasets.Dataset, how: Reading) -> Found:
    """Return the pictures or the numbers of a table of Hugging Face's, and its labels."""
    from datasets import ClassLabel, Image, Value

    kinds: Mapping[str, Any] = table.features
    if how.label is not None and how.label not in kinds:
        raise ValueError(
            f"{source} has no column {how.label!r}; it has {', '.join(kinds)}{near_miss(how.label, kinds)}"
        )
    classes = [name for name, kind in kinds.items() if isinstance(kind, ClassLabel)]
    label = how.label or (classes[0] if len(classes) == 1 else None)
    pictures = [name for name, kind in kinds.items() if isinstance(kind, Image)]
    numbers = [n for n, kind in kinds.items() if isinstance(kind, Value) and _is_number(kind.dtype) and n != label]
    if len(pictures) > 1 or not (pictures or numbers):
        which = "one column of pictures, or columns of numbers"
        raise BadDataError(
            f"{source} must have {which}; it has {', '.join(f'{n} ({_kind(k)})' for n, k in kinds.items())}"
        )
    how.check_used(f"{source} holds {'pictures' if pictures else 'a table'}", *_OPTIONS[bool(pictures)])
    used = pictures or numbers
    labels, notes = _label_column(source, table, label)
    if left_out := [f"{n} ({_kind(kind)})" for n, kind in kinds.items() if n not in (*used, label)]:
        notes += (f"{source}: the columns {', '.join(left_out)} are left out",)
    names = kinds[label].names if label is not None and label in classes else ()
    if pictures:
        images = (row[pictures[0]] for row in table.select_columns(pictures))
        return Found(stack(source, len(table), images, how), labels, names, notes=notes)
    if label is None:
        notes += tuple(notes_on_labels({name: "int" in kinds[name].dtype for name in numbers}))
    x = table.select_columns(numbers).to_pandas().to_numpy(np.float64)
    return Found(x, labels, names, tuple(numbers), notes=notes)


_OPTIONS = {True: ("split", "label", "size", "channels"), False: ("split", "label")}


def _label_column(
    source: str, table: datasets.Dataset, label: str | None
) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    if label is None:
        return None, ()
    labels = table.select_columns([label]).to_pandas()[label].to_numpy()
    if labels.dtype.kind in "iu" and (labels < 0).any():  # how Hugging Face writes that a label is not known
        return None, (f"{source}: {(labels < 0).sum():,} examples have no label, so the labels are left out",)
    return labels, ()


def _is_number(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "float", "bool"))


def _kind(feature: Any) -> str:
    return getattr(feature, "dtype", None) or type(feature).__name__


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _unknown(source: str, library: str, name: str, names: Iterable[str]) -> ValueError:
    there = {n.lower(): n for n in names}
    close = [there[n] for n in difflib.get_close_matches(name.lower(), there, n=3)]
    prefix = source.partition(":")[0]
    said = (
        f". Did you mean {' or '.join(f'{prefix}:{n}' for n in close)}?" if close else f"; there are {', '.join(names)}"
    )
    return ValueError(f"{source}: {library} has no such data set{said}")


_READERS: Mapping[str, Callable[[str, str, Root, Reading], DataSet[Any]]] = {
    "sklearn": _sklearn,
    "torchvision": _torchvision,
    "hf": _hugging_face,
}
PREFIXES = tuple(_READERS)
"""What stands before the colon in the name of a data set of another library."""
