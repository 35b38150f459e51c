"""Words of the command line for what the library says in Python: the remedies of its reports and its errors."""

from __future__ import annotations

import json
import re
import shlex

from pyro_vae.checkpoints import NotARunError
from pyro_vae.cli.options import Value
from pyro_vae.config import NoContextError
from pyro_vae.data.reading import OPTIONS
from pyro_vae.data_checks import NotFiniteError
from pyro_vae.evaluation.collapse import Remedy
from pyro_vae.registry import NotAllowedError
from pyro_vae.training import TrainingInterrupted
from pyro_vae.training.record import FolderNotEmptyError
from pyro_vae.vae import NoGapsError

# Arguments of data.load with a value, as the library's remedies have them.
_WITH_VALUE = re.compile(
    rf"\b({'|'.join((*OPTIONS, 'labels', 'root'))})="
    r"(\([\d., ]+\)|\"[^\"]*\"|'[^']*'|True|False|[A-Z]+\b|\d[\d.x]*\d|\d)"
)

# What else the library says in Python, and the same on the command line.
_PHRASES = [
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"\(binarize=\"dynamic\" or \"threshold\" in pyro_vae\.data\)",
            "(of images: --binarize dynamic or threshold)",
        ),
        (r"\(no binarize or dequantize in pyro_vae\.data\)", "(--binarize none --dequantize false)"),
        (r"suggest_schema\(data\)\.to_yaml\(\) writes one", "pyro-vae suggest DATA --out FILE writes one"),
        (r"dequantize=True in pyro_vae\.data", "--dequantize true"),
        (r"data\.load\(\.\.\., dequantize=True\)", "--dequantize true"),
        (r"likelihoods\.(\w+)\(levels=(\d+), upper=([\d.]+)\)", r"--likelihood \1 with \2 levels up to \3"),
        (r"\blikelihoods\.([A-Z]\w+)", r"--likelihood \1"),
        (r"; name them with target=", ""),
        (r"(?<!\()\blibrary=True", "--likelihood.library true"),
        (
            r"(?:Use evaluation\.annealed_importance_sampling \(.*?\), or t|T)rain a posterior (.*), such as a flow",
            r"Train a posterior \1, such as --posterior iaf",
        ),
    )
]

__all__ = ["as_word", "of_error", "of_remedy", "with_options"]


def as_word(value: Value) -> str:
    """Return a value as one word of the command line."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def of_remedy(remedy: Remedy) -> str:
    """Return a remedy in one line, with the options of ``pyro-vae train`` that apply it."""
    said = f"{remedy.what} ({remedy.why})"
    if remedy.argument is None or remedy.value is None:
        return said
    arguments = dict(remedy.value)
    words = [f"--{remedy.argument}", arguments.pop("class")]
    for name, value in arguments.items():
        words += [f"--{remedy.argument}.{name}", as_word(value)]
    return f"{said}: {shlex.join(words)}"


def of_error(error: BaseException) -> str:
    """Return the message of an error, with the option or command that helps instead of the Python that would."""
    match error:
        case NotAllowedError():
            return f"{error.found}. If you trust it, add --allow {error.module}"
        case NoContextError():
            return f"{error.found}: --labels true adds one"
        case NoGapsError():
            return f"{error.found}, as the data have no missing values. Leave --mask_likelihood out"
        case NotFiniteError():
            return f"{error.found}, or train on data with missing values: the VAE of such a run takes rows with gaps"
        case NotARunError():
            return f"{error.found}. pyro-vae train writes one, below runs/"
        case FolderNotEmptyError():
            return f"{error.folder} is not empty. Choose another --out, or go on with its run: --resume {error.folder}"
        case TrainingInterrupted() if error.folder is not None:
            return f"{error.found}. Go on with: pyro-vae train --resume {error.folder}"
    return with_options(str(error))


def with_options(said: str) -> str:
    """Return a text with options in the place of Python: ``--size 32`` for ``size=32`` of data.load, for example."""
    for pattern, words in _PHRASES:
        said = pattern.sub(words, said)
    return _WITH_VALUE.sub(_as_option, said)


def _as_option(found: re.Match[str]) -> str:
    """Return an argument of data.load with its value as an option: ``--split 0.6,0.2,0.2`` for ``split=(...)``."""
    value = found[2].strip("()").replace(", ", ",")
    return f"--{found[1]} {value.lower() if value in ('True', 'False') else value}"
