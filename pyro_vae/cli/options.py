"""The options of ``pyro-vae train`` that are arguments of :func:`pyro_vae.build` and :func:`pyro_vae.fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from pyro_vae.cli.signatures import Argument, read_arguments

__all__ = ["LEFT_OUT", "Value", "of_build", "of_fit"]

Value = bool | int | float | str | None | Sequence["Value"] | Mapping[str, "Value"]
"""The value of an option, as YAML and JSON write it."""

# The arguments that are no options, and why.
LEFT_OUT: Mapping[str, Mapping[str, str]] = {
    "build": {
        "event_shape": "the data set has it",
        "data": "the command line has an option of its own",
        "context_features": "--labels and the data set say it",
        "likelihood": "the command line has an option of its own, with a default that depends on the data",
        "inputs": "the command line has an option of its own, with a default that depends on the data",
        "missing": "the data say it",
        "fill": "its default is right: 0, the mean of standardised values",
        "schema": "the command line has an option of its own, which takes a file",
        "allow": "--allow goes with every command that opens a run",
    },
    "fit": {
        "vae": "build makes it",
        "train": "--data names it",
        "valid": "--data and --validate name it",
        "epochs": "the command line has an option of its own, with a default that depends on the data",
        "optimizer": "it is a function",
        "objective": "the command line has an option of its own, which names a class",
        "has_context": "--labels says it",
        "device": "the command line has an option of its own, with the default auto",
        "out": "the command line has an option of its own, with the next free folder as default",
        "resume": "the command line has an option of its own, which takes the folder",
        "progress": "the command line shows it",
        "config": "these options are the configuration",
        "on_epoch": "it is a function",
    },
}

# Help where the docstring speaks of Python, or says too little for a terminal.
_HELP: Mapping[str, str] = {
    "hidden": "widths of the encoder's hidden layers, such as 400 or [512,256]; the decoder has them in reverse.",
    "prior": "prior p(z): a class by its name or dotted path; its own arguments follow as --prior.NAME VALUE. See "
    "pyro-vae list. A class that you name starts from its own defaults. The module of your own class is imported; "
    "later commands on the run then need --allow MODULE.",
    "posterior": "posterior q(z|x), named in the same way: --posterior iaf.",
    "mask_likelihood": "model of which values are missing, p(s|x), named in the same way, for values that are missing "
    "because of what they are: --mask_likelihood SelfMasking --mask_likelihood.tail upper. By default, values count as "
    "missing at random.",
    "activation": "activation of the networks, by its name in torch.nn.",
    "nets": "networks of the posterior and the likelihood; conv and resnet are for images. Your own network goes into "
    "one of the two: --posterior.net my_module.MyNet.",
    "batch_size": "examples per step.",
    "schedule": "schedule of the learning rate: cosine (down to zero), constant, or staircase (down to a tenth in "
    "eight stairs, each three times as long as the one before, as in the IWAE paper).",
    "patience": "stop after this many epochs in a row without a better validation ELBO; by default never.",
    "seed": "seed of the weights, the order of the data, the binarisation and the noise.",
}


def of_build() -> list[Argument]:
    """Return the arguments of build that are options."""
    return _options("pyro_vae.config", "build")


def of_fit() -> list[Argument]:
    """Return the arguments of fit that are options."""
    return _options("pyro_vae.training", "fit")


def _options(module: str, function: str) -> list[Argument]:
    arguments = read_arguments(module, function)
    return [_option(a) for name, a in arguments.items() if name not in LEFT_OUT[function]]


def _option(argument: Argument) -> Argument:
    default = argument.default
    if dict[str, Any] in get_args(argument.type) and isinstance(default, str):
        default = {"class": default}  # --prior.NAME adds an argument to it
    return replace(argument, default=default, help=_HELP.get(argument.name, argument.help))
