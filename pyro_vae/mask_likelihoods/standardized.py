"""What the models of the mask share: standardised x, an intercept for each element, and their start from data."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.nets.shapes import Shape, as_shape
from pyro_vae.parts import MaskLikelihood

__all__ = ["OverMasks"]


class _Standardize(nn.Module):
    """x minus the mean of the observed values of each element, divided by their standard deviation."""

    center: Tensor
    spread: Tensor
    started: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(event_shape))
        self.register_buffer("spread", torch.ones(event_shape))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        shape = self.center.shape
        if x.shape[x.dim() - len(shape) :] != shape:
            raise ValueError(
                f"this model of the mask was built for x of shape (batch, {', '.join(map(str, shape))}); got "
                f"{tuple(x.shape)}. Build it with the event_shape of the data"
            )
        return (x - self.center) / self.spread

    @torch.no_grad()
    def start_at(self, x: Tensor, observed: Tensor) -> Tensor:
        """Take mean and standard deviation from data; return the logit of how often each element is observed."""
        count = observed.sum(0)
        x = torch.where(observed, x, 0.0).double()
        mean = x.sum(0) / count.clamp_min(1)
        squares = torch.where(observed, (x - mean).square(), 0.0).sum(0) / count.clamp_min(1)
        self.center.copy_(mean)
        self.spread.copy_(torch.where(squares > 0, squares.sqrt(), 1.0))  # 1 for a constant element
        self.started.fill_(True)
        # Laplace's rule of succession keeps the logit finite if nothing is missing.
        return torch.logit((count + 1) / (len(x) + 2))


class OverMasks(MaskLikelihood):
    """p(s | x) of independent elements of s, given their logits as a function of standardised x."""

    intercept: nn.Parameter

    def __init__(self, event_shape: Shape) -> None:
        super().__init__()
        self.event_shape = as_shape("event_shape", event_shape)
        self.standardize = _Standardize(self.event_shape)
        self.intercept = nn.Parameter(torch.zeros(self.event_shape))

    def start_at(self, x: Tensor, observed: Tensor) -> None:
        """Standardise as the observed values of these data; start with their share. Does nothing a second time.

        Args:
            x: data ``(n, *event_shape)``; what is not observed may be anything.
            observed: bools of the same shape.

        Raises:
            ValueError: if x has another event shape.
        """
        if tuple(x.shape[1:]) != self.event_shape or observed.shape != x.shape:
            raise ValueError(
                f"{type(self).__name__} was built for x of shape (n, {', '.join(map(str, self.event_shape))}) with a "
                f"mask of the same shape; got {tuple(x.shape)} and {tuple(observed.shape)}"
            )
        if not self.standardize.started:
            logit = self.standardize.start_at(x, observed)
            with torch.no_grad():
                self.intercept.copy_(logit)

    def over_mask(self, logits: Tensor) -> dist.TorchDistribution:
        """Return independent elements whose logits are the intercepts plus these."""
        return dist.Bernoulli(logits=self.intercept + logits).to_event(len(self.event_shape))
