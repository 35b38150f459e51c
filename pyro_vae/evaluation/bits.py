"""Nats an example as bits a dimension."""

from __future__ import annotations

import math

from pyro_vae.argument_checks import at_least

__all__ = ["bits_per_dim"]


def bits_per_dim(log_prob: float, dimensions: int, levels: int = 1) -> float:
    """−log p(x) in bits a dimension, for probabilities of grey levels, or densities of dequantised ones.

    A density of levels spread over (0, 1) by uniform noise, (level + u) / levels, is by the volume of a level's cell
    above a bound on the level's probability (Uria, Murray and Larochelle 2013, arXiv 1306.0186; Theis, van den Oord and
    Bethge 2015, arXiv 1511.01844), so that figures of densities and of probabilities can be compared.

    Args:
        log_prob: log p(x) or a bound of it, in nats an example.
        dimensions: of an example, such as 784 pixels.
        levels: how many levels there are, for a density over (0, 1); 1 where log p(x) is of the levels themselves.

    Raises:
        ValueError: for counts below 1.

    Example:
        >>> bits_per_dim(-784 * math.log(256), 784)  # every one of 256 levels as likely as every other
        8.0
        >>> bits_per_dim(0.0, 784, levels=256)  # the same as a density
        8.0
    """
    dimensions, levels = at_least(1, "dimensions", dimensions), at_least(1, "levels", levels)
    return -log_prob / (dimensions * math.log(2)) + math.log2(levels)
