"""Likelihoods of real numbers."""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.distributions import StudentT as StudentTDistribution
from pyro_vae.distributions.optimal_normal import OptimalNormal
from pyro_vae.likelihoods.parameters import LocationScale, check_number, positive_number, raw_parameter

__all__ = ["Laplace", "Normal", "StudentT"]


class Normal(LocationScale):
    """Independent normal elements; for real x.

    The scale weighs the reconstruction against the KL, so it decides whether pictures are sharp or blurred (Rybkin,
    Daniilidis and Levine 2020, arXiv 2006.13202).

    With ``scale="optimal"`` the scale is computed, as in that paper: in training mode ``log_prob(x)`` uses σ² = the
    mean of (x − mean)² over the batch and all elements, which maximises the density of the batch. The log-density of
    an example then depends on its batch. The buffer ``running_variance`` holds a running mean of σ², which is saved
    with the weights, as BatchNorm's statistics are: each ``log_prob`` in training mode moves it a tenth of the way. In
    evaluation mode, and for samples, the distribution is an ordinary normal with this variance.

    Args:
        net: maps z, and the context if there is any, to the means, of the shape of x; with
            ``scale="per_element"`` to ``(2, *shape of x)``: the means, then the raw scales.
        scale: a number above 0 for a fixed scale, ``"learned"`` for one learned scale for all elements,
            ``"per_element"`` for scales from the net, or ``"optimal"``. Learned scales are softplus(raw) + 1e-6.
        initial_scale: where a learned or optimal scale starts.

    Raises:
        ValueError: if a scale is not above 0, or the net does not give two parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Normal(nets.MLP(2, (64,), (2, 1, 8, 8)), scale="per_element")
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = "Remove or impute these values, or scale the data to a finite range"
    location_scale = True
    running_variance: Tensor

    def __init__(
        self,
        net: nn.Module,
        scale: float | Literal["learned", "per_element", "optimal"] = "learned",
        initial_scale: float = 0.5,
    ) -> None:
        super().__init__(net, scale, initial_scale, words=("learned", "per_element", "optimal"))
        self.depends_on_batch = scale == "optimal"
        if self.depends_on_batch:
            self.register_buffer("running_variance", torch.tensor(float(initial_scale) ** 2))

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a normal with batch shape ``(*batch,)`` and the event shape of x."""
        if self.scale == "optimal":
            loc = self.net(z, *context)
            if self.training:
                return OptimalNormal(loc, self.running_variance).to_event(loc.dim() - z.dim() + 1)
            scale = self.running_variance.sqrt().expand_as(loc)
        else:
            loc, scale = self._loc_and_scale(z, *context)
        return dist.Normal(loc, scale).to_event(loc.dim() - z.dim() + 1)


class Laplace(LocationScale):
    """Independent Laplace elements; for real x with rare large errors. The log-density is an absolute error.

    Args:
        net: maps z, and the context if there is any, to the medians, of the shape of x; with
            ``scale="per_element"`` to ``(2, *shape of x)``: the medians, then the raw scales.
        scale: a number above 0 for a fixed scale, ``"learned"`` for one learned scale for all elements, or
            ``"per_element"`` for scales from the net. Learned scales are softplus(raw) + 1e-6.
        initial_scale: where a learned scale starts.

    Raises:
        ValueError: if a scale is not above 0, or the net does not give two parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Laplace(nets.MLP(2, (64,), (1, 8, 8)))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = Normal.remedy
    location_scale = True

    def __init__(
        self, net: nn.Module, scale: float | Literal["learned", "per_element"] = "learned", initial_scale: float = 0.5
    ) -> None:
        super().__init__(net, scale, initial_scale)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a Laplace with batch shape ``(*batch,)`` and the event shape of x."""
        loc, scale = self._loc_and_scale(z, *context)
        return dist.Laplace(loc, scale).to_event(loc.dim() - z.dim() + 1)


class StudentT(LocationScale):
    """Independent Student-t elements; for real x with outliers (Takahashi et al. 2018, IJCAI).

    Args:
        net: maps z, and the context if there is any, to the means, of the shape of x; with
            ``scale="per_element"`` to ``(2, *shape of x)``: the means, then the raw scales.
        df: degrees of freedom: a number above 1, because the mean must exist, or ``"learned"`` for one learned number
            for all elements, 1 + softplus(raw) + 1e-6.
        scale: a number above 0 for a fixed scale, ``"learned"`` for one learned scale for all elements, or
            ``"per_element"`` for scales from the net. Learned scales are softplus(raw) + 1e-6.
        initial_scale: where a learned scale starts.
        initial_df: where learned degrees of freedom start.

    Raises:
        ValueError: if a scale is not above 0 or df not above 1, or the net does not give two parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = StudentT(nets.MLP(2, (64,), (1, 8, 8)), df=4.0)
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = Normal.remedy
    location_scale = True

    def __init__(
        self,
        net: nn.Module,
        df: float | Literal["learned"] = "learned",
        scale: float | Literal["learned", "per_element"] = "learned",
        initial_scale: float = 0.5,
        initial_df: float = 5.0,
    ) -> None:
        super().__init__(net, scale, initial_scale)
        self.df = df
        self.initial_df = initial_df
        check_number("df", df, initial_df, ("learned",), above=1.0)
        self.raw_df = raw_parameter(initial_df - 1) if df == "learned" else None

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a Student t with batch shape ``(*batch,)`` and the event shape of x."""
        loc, scale = self._loc_and_scale(z, *context)
        df = positive_number(self.df, self.raw_df, loc, above=1.0)
        return StudentTDistribution(df, loc, scale).to_event(loc.dim() - z.dim() + 1)
