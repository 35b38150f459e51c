"""Likelihoods of equally spaced levels, such as grey values."""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.distributions import grid, part_name, positive
from pyro_vae.likelihoods.parameters import LocationScale, check_parameters
from pyro_vae.parts import DataKind, Likelihood

__all__ = ["Categorical", "DiscretizedLogistic", "DiscretizedLogisticMixture"]

_REMEDY = (
    "Give the levels as they are (no binarize or dequantize in pyro_vae.data), set levels and upper to those of the "
    "data, or use a likelihood of real numbers"
)


class Categorical(Likelihood):
    """Independent elements with a probability for each level; for grey values or class codes.

    Args:
        net: maps z, and the context if there is any, to the logits, ``(levels, *shape of x)``.
        levels: how many values an element can take, from 0 to ``upper`` in equal steps.
        upper: the last level: 1 for grey values k / 255, ``levels - 1`` for whole numbers.

    Raises:
        ValueError: if ``levels`` is below 2, ``upper`` is not above 0, or the net gives another number of logits.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Categorical(nets.MLP(2, (64,), (17, 1, 8, 8)), levels=17)
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    data: DataKind = "levels"
    remedy = _REMEDY

    def __init__(self, net: nn.Module, levels: int = 256, upper: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.levels = at_least("levels", levels, 2)
        self.upper = upper
        finite_number("upper", upper, above=0)

    @classmethod
    def net_shape(cls, event_shape: tuple[int, ...], levels: int = 256, **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``: ``levels`` parameters per element."""
        return (levels, *event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a categorical of batch shape ``(*batch,)`` and the event shape of x."""
        logits = _parameters_last(self, self.net(z, *context), z.dim() - 1, self.levels, "logits of the levels")
        return grid.GridCategorical(logits, self.upper).to_event(logits.dim() - z.dim())


class DiscretizedLogistic(LocationScale):
    """Independent logistic elements, rounded to the nearest level; for grey values. The end levels take the tails.

    (Kingma et al. 2016, arXiv 1606.04934; Salimans et al. 2017, arXiv 1701.05517.)

    Args:
        net: maps z, and the context if there is any, to the locations, of the shape of x; with
            ``scale="per_element"`` to ``(2, *shape of x)``: the locations, then the raw scales. Both are in units
            of ``upper``: 0 is the first level and 1 the last.
        levels: how many values an element can take, from 0 to ``upper`` in equal steps.
        upper: the last level: 1 for grey values k / 255, ``levels - 1`` for whole numbers.
        scale: in units of ``upper``: a number above 0 for a fixed scale, ``"learned"`` for one learned scale for all
            elements, or ``"per_element"`` for scales from the net. Learned scales are softplus(raw) + 1e-6.
        initial_scale: where a learned scale starts.

    Raises:
        ValueError: if ``levels`` is below 2, ``upper`` or a scale is not above 0, or the net does not give two
            parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = DiscretizedLogistic(nets.MLP(2, (64,), (1, 8, 8)), levels=17)
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    data: DataKind = "levels"
    remedy = _REMEDY

    def __init__(
        self,
        net: nn.Module,
        levels: int = 256,
        upper: float = 1.0,
        scale: float | Literal["learned", "per_element"] = "learned",
        initial_scale: float = 0.2,
    ) -> None:
        super().__init__(net, scale, initial_scale)
        self.levels = at_least("levels", levels, 2)
        self.upper = upper
        finite_number("upper", upper, above=0)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a discretized logistic of batch shape ``(*batch,)`` and the event shape of x."""
        loc, scale = self._loc_and_scale(z, *context)
        p = grid.DiscretizedLogistic(loc, scale, self.levels, self.upper, unit=self.upper)
        return p.to_event(loc.dim() - z.dim() + 1)


class DiscretizedLogisticMixture(Likelihood):
    """Independent elements, each a mixture of discretized logistics; for grey values.

    This is the likelihood of PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517) without its coupling of the colour
    channels: there, green depends on red and blue on both within a pixel; here, all elements of x are independent
    given z.

    Args:
        net: maps z, and the context if there is any, to ``(3 * components, *shape of x)``: the logits of the
            components, then their locations, then their raw scales. Locations and scales are in units of ``upper``;
            scales are softplus(raw) + 1e-6.
        levels: how many values an element can take, from 0 to ``upper`` in equal steps.
        components: of the mixture, at least 1.
        upper: the last level: 1 for grey values k / 255, ``levels - 1`` for whole numbers.

    Raises:
        ValueError: if ``levels`` is below 2, ``components`` below 1, ``upper`` not above 0, or the net gives another
            number of parameters.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = DiscretizedLogisticMixture(nets.MLP(2, (64,), (6, 1, 8, 8)), levels=17, components=2)
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    data: DataKind = "levels"
    remedy = _REMEDY

    def __init__(self, net: nn.Module, levels: int = 256, components: int = 5, upper: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.levels = at_least("levels", levels, 2)
        self.components = at_least("components", components, 1)
        self.upper = upper
        finite_number("upper", upper, above=0)

    @classmethod
    def net_shape(cls, event_shape: tuple[int, ...], components: int = 5, **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give: three parameters per element of ``event_shape`` and component."""
        return (3 * components, *event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a mixture of batch shape ``(*batch,)`` and the event shape of x."""
        what = f"logits, locations and raw scales of {self.components} components"
        out = _parameters_last(self, self.net(z, *context), z.dim() - 1, 3 * self.components, what)
        logits, loc, raw_scale = out.chunk(3, dim=-1)
        p = grid.DiscretizedLogistic(loc, positive(raw_scale), self.levels, self.upper, unit=self.upper)
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), p).to_event(logits.dim() - z.dim())


def _parameters_last(likelihood: nn.Module, out: Tensor, batch_dim: int, size: int, what: str) -> Tensor:
    """Check the size of the first dimension after the batch in a net's output, and move that dimension to the end."""
    check_parameters(part_name(likelihood), out, batch_dim, size, what)
    return out.movedim(batch_dim, -1)
