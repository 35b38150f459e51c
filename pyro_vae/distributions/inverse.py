"""Flows with a transform that has no inverse: their density is known only at their own last draw."""

from __future__ import annotations

from collections.abc import Iterable

from pyro.distributions.transforms import BlockAutoregressive, Polynomial, Sylvester
from pyro.distributions.transforms.planar import ConditionedPlanar
from pyro.distributions.transforms.radial import ConditionedRadial
from torch import Tensor
from torch.distributions import Distribution, Transform
from torch.distributions.transforms import _InverseTransform

__all__ = ["check_inverse"]

# Their _inverse raises a KeyError for any value but the last draw.
_FORWARD_ONLY = (BlockAutoregressive, ConditionedPlanar, ConditionedRadial, Polynomial, Sylvester)


def check_inverse(distribution: Distribution, what: str, value: Tensor | None = None) -> None:
    """Raise a ValueError that names the transform if a distribution has no density at given values.

    Args:
        distribution: any.
        what: the name of the distribution for the message, such as ``"prior MyFlow"``.
        value: where the density is needed; the last draw of the distribution passes. None for values that it did not
            draw.
    """
    name = _without_inverse(distribution, value)
    if name is not None:
        raise ValueError(
            f"{what}: its transform {name} has no inverse, so its density is known only at its own draws, and not at "
            "given values. Use a flow with an inverse, such as Pyro's AffineCoupling or Spline, or "
            "one of zuko.flows; in this library priors.Flow and posteriors.InverseAutoregressiveFlow"
        )


def _without_inverse(distribution: Distribution, value: Tensor | None) -> str | None:
    for transform in reversed(_parts(getattr(distribution, "transforms", ()))):
        made_from, made = getattr(transform, "_cached_x_y", (None, None))
        mine = value is not None and made is value
        if not mine and _is_forward_only(transform):
            return type(transform).__name__
        value = made_from if mine else None
    for name in ("base_dist", "base", "component_distribution"):
        inner = getattr(distribution, name, None)
        # The draw of a mixture is not that of its components.
        found = (
            _without_inverse(inner, None if name == "component_distribution" else value) if inner is not None else None
        )
        if found is not None:
            return found
    return None


def _parts(transforms: Iterable[Transform]) -> list[Transform]:
    """Return the single transforms, in the order in which they are applied."""
    found: list[Transform] = []
    for transform in transforms:
        inner = getattr(transform, "parts", getattr(transform, "transforms", None))  # composed; side by side
        if hasattr(transform, "base_transform"):  # of more dimensions
            inner = [transform.base_transform]
        found += [transform] if inner is None else _parts(inner)
    return found


def _is_forward_only(transform: Transform) -> bool:
    if isinstance(transform, _InverseTransform):
        return False
    return isinstance(transform, _FORWARD_ONLY) or type(transform)._inverse is Transform._inverse
