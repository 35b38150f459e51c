"""The model of the mask: what it goes with, what it returns, and its sites in the Pyro programs."""

from __future__ import annotations

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.distributions import base_constraint, part_name, stated_support
from pyro_vae.parts import Part, as_likelihood
from pyro_vae.vae.calls import over_batch

__all__ = ["NoGapsError", "check_masking", "over_masks"]


class NoGapsError(ValueError):
    """There is a model of the mask, and the VAE takes only complete data.

    Args:
        found: what is wrong.
    """

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        """Return the message, with the arguments that help."""
        return f"{self.found}. Give it missing=True too, or leave mask_likelihood out"


def check_masking(missing: bool, likelihood: Part) -> None:
    """Check that a model of the mask goes with the rest of a VAE.

    Args:
        missing: True if the VAE takes missing values.
        likelihood: of the VAE.

    Raises:
        NoGapsError: if the VAE takes no missing values.
        ValueError: if no missing values can be drawn from the likelihood.
    """
    if not missing:
        raise NoGapsError(
            "mask_likelihood is a model of which values are missing, and this VAE takes only complete data"
        )
    if as_likelihood(likelihood).depends_on_batch:
        raise ValueError(
            f'likelihood {part_name(likelihood)} with scale="optimal" computes its scale from x, so no missing values '
            'can be drawn from it for mask_likelihood. Use scale="learned"'
        )


def over_masks(part: Part, distribution: TorchDistribution, x: Tensor) -> TorchDistribution:
    """Return p(s | x) with one distribution per example.

    Args:
        part: the model of the mask, for errors.
        distribution: what it returned.
        x: what it was called with, ``(*batch, *event_shape)``.

    Raises:
        ValueError: if it is no distribution over masks of the shape of x.
    """
    name = f"mask_likelihood {part_name(part)}"
    dims = len(distribution.event_shape)
    batch, event = x.shape[: x.dim() - dims], x.shape[x.dim() - dims :]
    if dims == 0 or distribution.event_shape != event:
        raise ValueError(
            f"{name} must return one distribution per example over masks of the shape of x; got event shape "
            f"{tuple(distribution.event_shape)} and batch shape {tuple(distribution.batch_shape)} for x of shape "
            f"{tuple(x.shape)}. Return a logit for each element, as Bernoulli(logits=...), and declare every dimension "
            "after the batch with .to_event"
        )
    support = stated_support(distribution)
    if support is not None and base_constraint(support) is not constraints.boolean:
        raise ValueError(
            f"{name} must return a distribution over {{0, 1}}, 1 where x is observed, such as Bernoulli(logits=...)"
            f".to_event({dims}); got one over {support}"
        )
    return over_batch(distribution, batch, "mask_likelihood", part)
