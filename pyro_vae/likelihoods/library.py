"""Means of counts that sum to the library size of each example, as in scVI."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from pyro_vae.distributions import part_name, positive
from pyro_vae.likelihoods.parameters import Numbers, check_shape, finite_numbers
from pyro_vae.parts import Likelihood
from pyro_vae.value_checks import holds

__all__ = ["check_one_dimension", "keep_scale", "means", "take_library"]

_LEAST = 1e-12  # the gradients of a smaller mean overflow in float32


def check_one_dimension(likelihood: str, event_shape: tuple[int, ...]) -> None:
    """Raise a ValueError if an example is not a vector of counts."""
    if len(event_shape) != 1:
        raise ValueError(
            f"likelihood {likelihood} with library=True is over x of shape (batch, elements), whose means sum to the "
            f"library size; got events of shape {event_shape}. Flatten x, or leave library out"
        )


def keep_scale(likelihood: Likelihood, scale: Numbers | None, library: bool) -> None:
    """Keep the scale of the means as a buffer; None for 1.

    Raises:
        ValueError: if it is no number above 0, or if there is a library size too.
    """
    if scale is not None and library:
        raise ValueError(
            f"likelihood {part_name(likelihood)} takes its means from the library size, or multiplies them by a scale; "
            "got library=True and a scale. Leave one of them out"
        )
    likelihood.register_buffer("scale", None if scale is None else finite_numbers("scale", scale, positive=True))


def take_library(likelihood: nn.Module, *context: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Return the context for the net, and the log library size ``(*batch, 1)`` that ended it.

    Without ``library=True``, all of the context is for the net.

    Args:
        likelihood: has an attribute ``library``.
        context: tensors ``(*batch, features)``.

    Raises:
        ValueError: if the last tensor is no log library size.
    """
    if not likelihood.library:
        return context, None
    log_library = context[-1] if context else torch.empty(0)
    needs = (
        f"likelihood {part_name(likelihood)} with library=True needs the log library size, (batch, 1), as its last "
        "context, such as x.sum(-1, keepdim=True).log()"
    )
    if log_library.shape[-1] != 1 or not log_library.is_floating_point():
        got = f"{log_library.dtype} of shape {tuple(log_library.shape)}" if context else "none"
        raise ValueError(f"{needs}; got {got}")
    if not holds(torch.isfinite(log_library).all()):
        raise ValueError(f"{needs}; got one that is not finite. Leave out the examples without any count")
    return context[:-1], log_library


def means(likelihood: Likelihood, raw: Tensor, log_library: Tensor | None, batch_dims: int) -> Tensor:
    """Return the means of counts: softplus(raw) + 1e-6, softplus times a scale, or the library size times softmax(raw).

    (Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics".)

    Args:
        likelihood: has an attribute ``scale``, which may be None for 1.
        raw: from its net, ``(*batch, *event_shape)``.
        log_library: ``(*batch, 1)``; None for means without it.
        batch_dims: how many dimensions the batch has.
    """
    if log_library is None:
        scale: Any = likelihood.scale
        if scale is not None:
            check_shape(likelihood, "scale", scale, raw.shape[batch_dims:])
        return positive(raw, scale)
    check_one_dimension(part_name(likelihood), tuple(raw.shape[batch_dims:]))
    return (log_library + log_softmax(raw, -1)).exp() + _LEAST
