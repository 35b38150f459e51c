"""Nats per example as bits per dimension."""

from __future__ import annotations

import math

from pyro_vae.argument_checks import at_least

__all__ = ["bits_per_dim"]


def bits_per_dim(log_prob: float, dimensions: int, levels: int = 1) -> float:
    """Return −log p(x) in bits per dimension, for probabilities of grey levels or densities of dequantised ones.

    Uniform noise spreads a level over (0, 1): (level + u) / levels. The log-density of the result, minus the log of the
    number of levels per dimension, is in expectation a lower bound on the log-probability of the level (Uria, Murray
    and Larochelle 2013, arXiv 1306.0186; Theis, van den Oord and Bethge 2015, arXiv 1511.01844). So the two kinds of
    figures can be compared.

    Args:
        log_prob: log p(x) or a bound on it, in nats per example.
        dimensions: the number of dimensions of an example, such as 784 pixels.
        levels: the number of levels, for a density over (0, 1); 1 if log p(x) is that of the levels themselves.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> bits_per_dim(-784 * math.log(256), 784)  # every one of 256 levels as likely as every other
        8.0
        >>> bits_per_dim(0.0, 784, levels=256)  # the same as a density
        8.0
    """
    dimensions, levels = at_least("dimensions", dimensions, 1), at_least("levels", levels, 1)
    return -log_prob / (dimensions * math.log(2)) + math.log2(levels)
