"""Posteriors over categories, as one-hot vectors, and over points between them."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import Grouped, RelaxedOneHot, check_temperature, positive
from pyro_vae.distributions import LogisticNormal as LogisticNormalDistribution
from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.parts import Posterior

__all__ = ["Categorical", "LogisticNormal", "RelaxedCategorical"]


class Categorical(Posterior):
    """Groups of categories. Pyro's ``TraceEnum_ELBO``, the default of ``fit`` here, sums over them exactly.

    So the bound has no noise from z; its cost grows as classes ** groups, which may be at most 4,096. For more groups
    use ``RelaxedCategorical``. It goes with the prior of the same name. (Kingma et al. 2014, arXiv 1406.5298, sum over
    the class in this way.)

    Args:
        net: maps x, and the context if there is any, to ``(batch, groups * classes)`` logits.
        classes: categories per group; None for one group.

    Raises:
        ValueError: if ``classes`` is below 2 or does not divide the net's outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = Categorical(nets.MLP((1, 8, 8), (64,), 2 * 10), classes=10)
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([20])
    """

    support = constraints.one_hot

    def __init__(self, net: nn.Module, classes: int | None = None) -> None:
        super().__init__()
        self.net = net
        self.classes = None if classes is None else at_least("classes", classes, 2)

    @classmethod
    def net_shape(cls, latent_dim: int, classes: int | None = None) -> tuple[int, ...]:
        """Return the shape that the net must give: a logit for each entry of the one-hot vectors."""
        return (latent_dim,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return one-hot vectors, with batch shape ``(batch,)`` and event shape ``(groups * classes,)``."""
        return Grouped(dist.OneHotCategorical(logits=_groups(self, self.net(x, *context), self.classes)))


class RelaxedCategorical(Posterior):
    """Groups of categories, relaxed to points near the corners of a simplex: gradients flow through draws.

    The Gumbel-softmax or Concrete distribution (Jang, Gu and Poole 2016, arXiv 1611.01144; Maddison, Mnih and Teh 2016,
    arXiv 1611.00712). It goes with the prior of the same name. Codes z are the logs of the points; the likelihood takes
    the points. The temperature is a buffer: to anneal it, change it between epochs,
    ``fit(..., on_epoch=lambda epoch: q.temperature.mul_(0.95).clamp_(min=0.1))``.

    Args:
        net: maps x, and the context if there is any, to ``(batch, groups * classes)`` logits.
        classes: categories per group; None for one group.
        temperature: at least 0.01; at low temperatures the points are almost one-hot and the gradients noisy.

    Raises:
        ValueError: if ``classes`` is below 2 or does not divide the net's outputs, or the temperature is below 0.01.

    Example:
        >>> from pyro_vae import nets
        >>> q = RelaxedCategorical(nets.MLP((1, 8, 8), (64,), 2 * 10), classes=10)
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([20])
    """

    support = log_simplex
    temperature: Tensor

    def __init__(self, net: nn.Module, classes: int | None = None, temperature: float = 0.67) -> None:
        super().__init__()
        check_temperature(temperature)
        self.net = net
        self.classes = None if classes is None else at_least("classes", classes, 2)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    @classmethod
    def net_shape(cls, latent_dim: int, classes: int | None = None, **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give: a logit for each entry of the points."""
        return (latent_dim,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return logs of points, with batch shape ``(batch,)`` and event shape ``(groups * classes,)``."""
        logits = _groups(self, self.net(x, *context), self.classes)
        return Grouped(RelaxedOneHot(self.temperature, logits=logits))


class LogisticNormal(Posterior):
    """Proportions whose log ratios to the last one are normal: the posterior of topics.

    (Srivastava and Sutton 2017, arXiv 1703.01488.) It goes with the priors ``LogisticNormal``, for which the KL has a
    closed form, and ``Dirichlet``. Codes z are the logs of the proportions; the likelihood takes the proportions.

    Args:
        net: maps x, and the context if there is any, to ``(batch, 2 * (latent_dim - 1))``: the means of the log
            ratios, then the raw scales, which become softplus(raw) + 1e-6.

    Raises:
        ValueError: if the net gives an odd number of outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = LogisticNormal(nets.MLP(100, (64,), 2 * 9))
        >>> q(torch.rand(16, 100)).event_shape
        torch.Size([10])
    """

    support = log_simplex

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @classmethod
    def net_shape(cls, latent_dim: int) -> tuple[int, ...]:
        """Return the shape that the net must give for a latent space of ``latent_dim`` proportions."""
        return (2 * (at_least("latent_dim", latent_dim, 2) - 1),)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return the logistic normal, over logs, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        out = self.net(x, *context)
        if out.shape[-1] % 2:
            raise ValueError(
                f"posterior LogisticNormal needs a net whose last dimension is 2 * (latent_dim - 1), means then raw "
                f"scales; got {out.shape[-1]}, which is odd"
            )
        loc, raw_scale = out.chunk(2, dim=-1)
        return LogisticNormalDistribution(loc, positive(raw_scale))


def _groups(posterior: nn.Module, logits: Tensor, classes: int | None) -> Tensor:
    """Return the logits as ``(..., groups, classes)``."""
    size = logits.shape[-1] if classes is None else classes
    if size < 2 or logits.shape[-1] % size:
        raise ValueError(
            f"posterior {type(posterior).__name__} needs a net whose last dimension is groups * classes, a multiple of "
            f"classes = {size} (at least 2); got {logits.shape[-1]}"
        )
    return logits.unflatten(-1, (-1, size))
