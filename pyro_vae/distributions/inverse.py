"""Flows whose density is known at their own draws alone, since a transform of theirs has no inverse."""

from __future__ import annotations

from typing import Any

from pyro.distributions.transforms import BlockAutoregressive, Polynomial, Sylvester
from pyro.distributions.transforms.planar import ConditionedPlanar
from pyro.distributions.transforms.radial import ConditionedRadial
from torch import Tensor
from torch.distributions import Transform
from torch.distributions.transforms import _InverseTransform

__all__ = ["check_inverse"]

# Their _inverse raises a KeyError for what they have not just made.
_FORWARDS_ALONE = (BlockAutoregressive, ConditionedPlanar, ConditionedRadial, Polynomial, Sylvester)


def check_inverse(distribution: Any, what: str, value: Tensor | None = None) -> None:
    """Raises a ValueError where a distribution has no density at given values, and names the transform.

    Args:
        distribution: any.
        what: it is, for the message, such as ``"prior MyFlow"``.
        value: where the density is wanted; a draw that the distribution has just made passes. None for values that it
            has not made.
    """
    name = _without_inverse(distribution, value)
    if name is not None:
        raise ValueError(
            f"{what}: its transform {name} has no inverse, so that its density is known at its own draws alone, and "
            "not at values that are given. Use a flow with an inverse, such as Pyro's AffineCoupling or Spline, or "
            "one of zuko.flows; in this library priors.Flow and posteriors.InverseAutoregressiveFlow"
        )


def _without_inverse(distribution: Any, value: Tensor | None) -> str | None:
    for transform in reversed(_parts(getattr(distribution, "transforms", ()))):
        made_from, made = getattr(transform, "_cached_x_y", (None, None))
        mine = value is not None and made is value
        if not mine and _is_forwards_alone(transform):
            return type(transform).__name__
        value = made_from if mine else None
    for name in ("base_dist", "base", "component_distribution"):
        inner = getattr(distribution, name, None)
        # What a mixture has drawn is not what its components have.
        found = (
            _without_inverse(inner, None if name == "component_distribution" else value) if inner is not None else None
        )
        if found is not None:
            return found
    return None


def _parts(transforms: Any) -> list[Any]:
    """The single transforms, in the order in which they are applied."""
    found: list[Any] = []
    for transform in transforms:
        inner = getattr(transform, "parts", getattr(transform, "transforms", None))  # composed; side by side
        if hasattr(transform, "base_transform"):  # of more dimensions
            inner = [transform.base_transform]
        found += [transform] if inner is None else _parts(inner)
    return found


def _is_forwards_alone(transform: Any) -> bool:
    if isinstance(transform, _InverseTransform):
        return False
    return isinstance(transform, _FORWARDS_ALONE) or type(transform)._inverse is Transform._inverse
