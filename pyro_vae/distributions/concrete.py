"""Logs of relaxed one-hot vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from pyro_vae.distributions.groups import Grouped
from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.distributions.logistic_normal import LogisticNormal
from pyro_vae.value_checks import holds

__all__ = ["RelaxedOneHot", "check_temperature"]

_LEAST_TEMPERATURE = 0.01


def check_temperature(temperature: float | Tensor) -> None:
    """Raise a ValueError if a temperature, one number, is below 0.01 or infinite."""
    value = torch.as_tensor(temperature).reshape(())
    # float32 rounds 0.01 down.
    if not holds((value >= 0.999 * _LEAST_TEMPERATURE) & (value < torch.inf)):
        raise ValueError(
            f"temperature must be a finite number of at least {_LEAST_TEMPERATURE}; got {value.item():g}. 0.5 is "
            f"usual. Annealing needs a floor, such as q.temperature.mul_(0.95).clamp_(min=0.1)"
        )


class RelaxedOneHot(ExpRelaxedCategorical, TorchDistributionMixin):
    """The Concrete or Gumbel-softmax distribution over the logs z of points y of a simplex.

    For weights α = exp(logits) and temperature λ, the density of z with respect to the log ratios z_i − z_K is
    (K − 1)! λ^(K−1) Π_k α_k exp(−λ z_k) / (Σ_k α_k exp(−λ z_k))^K (Maddison, Mnih and Teh 2016, arXiv 1611.00712,
    definition 1 times Π_k y_k, and appendix C.3; Jang, Gu and Poole 2016, arXiv 1611.01144).

    At low temperatures most elements of y are below the smallest float, but their logs are ordinary numbers. So a
    sampled KL is right in float32 at all temperatures down to the lowest allowed one, 0.01.

    The mean has no closed form.

    Args:
        temperature: λ, one finite number of at least 0.01, or a tensor with one.
        logits: unnormalised log weights, ``(*batch, K)``.

    Raises:
        ValueError: if ``temperature`` is not one such number, or ``logits`` has no dimension.

    Example:
        >>> import torch
        >>> q = Grouped(RelaxedOneHot(0.5, torch.zeros(16, 3, 4)))
        >>> q.rsample((5,)).shape, q.event_shape
        (torch.Size([5, 16, 12]), torch.Size([12]))
    """

    support = log_simplex  # type: ignore[assignment]  # torch says all real vectors

    def __init__(self, temperature: float | Tensor, logits: Tensor, validate_args: bool | None = None) -> None:
        temperature = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device)
        if temperature.numel() != 1:
            raise ValueError(
                f"temperature must be one number for all; got a tensor of shape {tuple(temperature.shape)}. "
                "Give a number such as 0.5"
            )
        check_temperature(temperature)
        super().__init__(temperature.reshape(()), logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: RelaxedOneHot | None = None) -> RelaxedOneHot:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(RelaxedOneHot, _instance)
        return super().expand(batch_shape, _instance=new)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, K)``, with gradient."""
        # torch subtracts the logsumexp of large scores, which rounds: normalised again, the points sum to 1.
        return super().rsample(torch.Size(sample_shape)).log_softmax(-1)


@register_kl(Grouped, LogisticNormal)
def _kl_relaxed_logistic_normal(p: Grouped, q: LogisticNormal) -> Tensor:
    """Return the KL from one relaxed one-hot vector; it is the KL between the log ratios to the last element.

    The log ratios of p are (log α_i + G_i − log α_K − G_K) / λ with independent standard Gumbel G, each of variance
    π² / 3λ². Their log-density at a draw is log (K − 1)! + (K − 1) log λ − Σ G_k − K log Σ exp(−G_k). Each exp(−G_k) is
    exponential and their sum a Gamma(K), so the mean is log (K − 1)! + (K − 1) log λ − K (1 + 1/2 + … + 1/(K − 1)).
    """
    if not isinstance(p.base, RelaxedOneHot) or p.groups != 1 or p.event_shape != q.event_shape:
        raise NotImplementedError
    k, temperature, logits = p.classes, p.base.temperature, p.base.logits.squeeze(-2)
    minus_entropy = math.lgamma(k) + (k - 1) * temperature.log() - k * sum(1 / i for i in range(1, k))
    loc = (logits[..., :-1] - logits[..., -1:]) / temperature
    squares = (loc - q.loc).square() + math.pi**2 / (3 * temperature**2)
    minus_log_q = 0.5 * (squares / q.scale.square() + math.log(2 * math.pi)) + q.scale.log()
    return minus_entropy + minus_log_q.sum(-1)
