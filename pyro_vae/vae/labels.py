"""Labels as context: one-hot, by the number of classes that the networks were built for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_vae.argument_checks import is_integer
from pyro_vae.distributions.parameters import uncompiled
from pyro_vae.parts import Part, child
from pyro_vae.value_checks import holds

__all__ = ["are_features", "as_features", "features_of"]


def features_of(*parts: Part) -> int:
    """Return how many features the context of a VAE has, from the networks of its parts; 0 if that is not known.

    Only parts of this library count, which take no integers: a part of the user's own may look labels up.
    """
    found = {_of_part(uncompiled(part)) for part in parts if isinstance(part, nn.Module)}
    return max(found, default=0)


def _of_part(part: nn.Module) -> int:
    if not type(part).__module__.startswith("pyro_vae."):
        return 0
    for module in (part, child(part, "net")):
        features = getattr(module, "context_features", 0)
        if is_integer(features, 1) and type(module).__module__.startswith("pyro_vae."):
            return int(features)
    return 0


def are_features(context: Tensor) -> bool:
    """Return True for floating-point numbers ``(batch, ..., features)``, as networks take them."""
    return context.dim() > 1 and context.is_floating_point()


def as_features(context: tuple[Tensor, ...], features: int, dtype: torch.dtype | None) -> tuple[Tensor, ...]:
    """Return the context as the networks take it: integer labels one-hot, other integers as floating-point numbers.

    Args:
        context: tensors ``(batch, ...)``.
        features: how many numbers the context has per example in all; 0 leaves it as it is.
        dtype: of the result.

    Raises:
        ValueError: if a label is out of range, or numbers ``(batch,)`` are no labels.
    """
    if not features or all(map(are_features, context)):
        return context
    dtype = dtype or torch.get_default_dtype()
    single = [i for i, c in enumerate(context) if c.dim() == 1 or (c.shape[1:] == (1,) and not c.is_floating_point())]
    left = features - sum(c.shape[-1] for i, c in enumerate(context) if i not in single)
    if left > len(single) > 1:
        raise ValueError(
            f"context {' and '.join(map(str, single))} have one number per example, and the VAE takes {features} in "
            "all: how many classes each has is not known. Give labels as torch.nn.functional.one_hot(labels, classes)"
        )
    classes = left if len(single) == 1 else 1
    rows = (_one_hot(c, i, classes) if i in single else c for i, c in enumerate(context))
    return tuple(c if c.is_floating_point() else c.to(dtype) for c in rows)


def _one_hot(labels: Tensor, number: int, classes: int) -> Tensor:
    """Return labels ``(batch,)`` or ``(batch, 1)`` one-hot, ``(batch, classes)``; one number as a column of its own."""
    labels = labels.reshape(-1)
    if classes <= 1:
        return labels[:, None]
    what = f"the VAE was built for {classes} classes"
    if labels.is_floating_point():
        raise ValueError(
            f"context {number} must be integer labels ({len(labels)},) from 0 to {classes - 1}, or numbers "
            f"({len(labels)}, {classes}), since {what}; got {labels.dtype} of shape ({len(labels)},)"
        )
    known = torch.arange(classes, device=labels.device)
    if not holds(((labels >= 0) & (labels < classes)).all()):
        wrong = labels[(labels < 0) | (labels >= classes)][0].item()
        raise ValueError(f"context {number} has the label {wrong}, but {what}: labels are 0 to {classes - 1}")
    return labels[:, None] == known
