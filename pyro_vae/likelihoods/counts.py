"""Likelihoods of counts."""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least, true_or_false
from pyro_vae.distributions import counts, positive
from pyro_vae.likelihoods.library import check_one_dimension, keep_scale, means, take_library
from pyro_vae.likelihoods.parameters import MeanDispersion, Numbers, raw_parameter
from pyro_vae.parts import DataKind, Likelihood

__all__ = ["Multinomial", "NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial"]

_REMEDY = "Give the counts themselves, not scaled, normalised or logarithmic, or use likelihoods.Normal"


class Poisson(Likelihood):
    """Independent Poisson elements; for counts.

    Args:
        net: maps z, and the context if there is any, to the raw rates, of the shape of x. Rates are
            softplus(raw) + 1e-6.
        library: True for rates that sum to the library size: exp(l) softmax(raw), as for single cells (Lopez et al.
            2018). Then x is ``(batch, elements)`` and the last context is the log library size l ``(batch, 1)``,
            usually ``x.sum(-1, keepdim=True).log()``. The likelihood alone sees it, and its net does not.
        scale: a typical count, or one for each element, in the shape of x; above 0. Rates are then
            scale × softplus(raw) + 1e-6, and start near the counts. x and its probabilities stay those of the counts.
            None stands for 1.

    Raises:
        ValueError: if ``scale`` is no number above 0, or is given with ``library=True``.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Poisson(nets.MLP(2, (64,), 30))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([30])
    """

    data: DataKind = "counts"
    remedy = _REMEDY
    scale: Tensor | None

    def __init__(self, net: nn.Module, library: bool = False, scale: Numbers | None = None) -> None:
        super().__init__()
        self.net = net
        self.library = true_or_false("library", library)
        self.own_context = int(library)
        keep_scale(self, scale, library)

    @classmethod
    def net_shape(cls, event_shape: tuple[int, ...], library: bool = False, **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``: one rate per element."""
        if library:
            check_one_dimension(cls.__name__, tuple(event_shape))
        return tuple(event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a Poisson of batch shape ``(*batch,)`` and the event shape of x."""
        context, log_library = take_library(self, *context)
        raw = self.net(z, *context)
        rate = means(self, raw, log_library, z.dim() - 1)
        return counts.Poisson(rate).to_event(rate.dim() - z.dim() + 1)


class NegativeBinomial(MeanDispersion):
    """Independent negative binomial elements; for counts that vary more than a Poisson's.

    The variance is mean + dispersion × mean². The inverse dispersion θ = softplus(raw) + 1e-6 is learned, or comes from
    the net (as for single cells: Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics").

    Args:
        net: maps z, and the context if there is any, to the raw means, of the shape of x; with
            ``dispersion="per_element"`` to ``(2, *shape of x)``: the raw means, then the raw inverse dispersions.
            Means are softplus(raw) + 1e-6.
        dispersion: a number above 0 for a fixed dispersion 1/θ, ``"learned"`` for one learned θ for all elements, or
            ``"per_element"`` for θ from the net. A dispersion near 0 gives a Poisson.
        initial_dispersion: where a learned dispersion starts.
        library: True for means that sum to the library size, the last context; see :class:`Poisson`.
        scale: a typical count, or one for each element; see :class:`Poisson`. Means are then scale × softplus(raw) +
            1e-6. If the scale, or the mean of its numbers, is above 1, θ is multiplied by it too: where raw is of the
            order of 1, the variance is then of the order of the mean.

    Raises:
        ValueError: if a dispersion or ``scale`` is not above 0, if ``scale`` is given with ``library=True``, or if the
            net does not give two parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = NegativeBinomial(nets.MLP(2, (64,), 30))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([30])
    """

    data: DataKind = "counts"
    remedy = _REMEDY
    scale: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        dispersion: float | Literal["learned", "per_element"] = "learned",
        initial_dispersion: float = 1.0,
        library: bool = False,
        scale: Numbers | None = None,
    ) -> None:
        super().__init__(net, dispersion, initial_dispersion)
        self.library = true_or_false("library", library)
        self.own_context = int(library)
        keep_scale(self, scale, library)
        if self.raw_inverse_dispersion is not None and (unit := self._unit()) is not None:
            self.raw_inverse_dispersion = raw_parameter((1 / initial_dispersion - 1e-6) / unit.item() + 1e-6)

    @classmethod
    def net_shape(
        cls,
        event_shape: tuple[int, ...],
        dispersion: float | Literal["learned", "per_element"] = "learned",
        **others: object,
    ) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``: one or more parameters per element."""
        if others.get("library"):
            check_one_dimension(cls.__name__, tuple(event_shape))
        return super().net_shape(event_shape, dispersion)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a negative binomial of batch shape ``(*batch,)`` and the event shape of x."""
        mean, dispersion, _ = self._count_parameters(z, *context)
        return counts.NegativeBinomial(mean, dispersion).to_event(mean.dim() - z.dim() + 1)

    def _unit(self) -> Tensor | None:
        """Return the unit of θ: the scale of the means, or 1 if it is smaller; None for 1."""
        if self.scale is None:
            return None
        return (self.scale if self.together else self.scale.mean()).clamp(min=1)

    def _theta(self, raw: Tensor) -> Tensor:
        return positive(raw, self._unit())

    def _count_parameters(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return the means, the dispersions (one, or of their shape), and the others of ``names`` from the net."""
        context, log_library = take_library(self, *context)
        raw, dispersion, others = self._split(z, *context)
        return means(self, raw, log_library, z.dim() - 1), dispersion, others


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """Independent negative binomial elements, which a gate sets to zero at random; for counts with many zeros.

    (Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics".)

    Args:
        net: maps z, and the context if there is any, to ``(2, *shape of x)``: the raw means of the negative binomial,
            then the logits of the gate, the probability of an additional zero; with ``dispersion="per_element"`` to
            ``(3, *shape of x)``: the raw inverse dispersions come third.
        dispersion: see :class:`NegativeBinomial`.
        initial_dispersion: where a learned dispersion starts.
        library: True for means of the negative binomial that sum to the library size; see :class:`Poisson`.
        scale: a typical count, or one for each element; see :class:`NegativeBinomial`.

    Raises:
        ValueError: if a dispersion or ``scale`` is not above 0, or the net gives another number of parameters per
            element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = ZeroInflatedNegativeBinomial(nets.MLP(2, (64,), (2, 30)))
        >>> tuple(p(torch.zeros(16, 2)).event_shape)
        (30,)
    """

    names = ("raw means", "logits of the gate")

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return the distribution, of batch shape ``(*batch,)`` and the event shape of x."""
        mean, dispersion, (gate,) = self._count_parameters(z, *context)
        p = counts.ZeroInflatedNegativeBinomial(mean, dispersion, gate)
        return p.to_event(mean.dim() - z.dim() + 1)


class Multinomial(Likelihood):
    """A multinomial over the last dimension; for documents as counts of words, x ``(batch, words)``.

    The density is that of the words given the document's own length; it does not depend on ``total_count`` (as in
    neural topic models: Miao, Yu and Blunsom 2016, arXiv 1511.06038, up to the multinomial coefficient).

    Args:
        net: maps z, and the context if there is any, to the logits of the words, ``(words,)``.
        total_count: the length of sampled documents and of the mean.

    Raises:
        ValueError: if ``total_count`` is not a whole number of at least 1, or x has more than one dimension.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Multinomial(nets.MLP(2, (64,), 1000), total_count=80)
        >>> p(torch.zeros(16, 2)).sample().sum(-1).unique()
        tensor([80.])
    """

    data: DataKind = "counts"
    remedy = "Give the counts of the words themselves, not frequencies or tf-idf"
    elementwise = False

    def __init__(self, net: nn.Module, total_count: int = 1) -> None:
        super().__init__()
        self.net = net
        self.total_count = at_least("total_count", total_count, 1)

    @classmethod
    def net_shape(cls, event_shape: tuple[int, ...], **_: object) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``, which must be ``(words,)``."""
        _one_dimension(tuple(event_shape))
        return tuple(event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a multinomial of batch shape ``(*batch,)`` and event shape ``(words,)``."""
        logits = self.net(z, *context)
        _one_dimension(tuple(logits.shape[z.dim() - 1 :]))
        return counts.Multinomial(total_count=self.total_count, logits=logits)


def _one_dimension(event_shape: tuple[int, ...]) -> None:
    if len(event_shape) != 1:
        raise ValueError(
            f"likelihood Multinomial is over x of shape (batch, words); got events of shape {event_shape}. Flatten "
            "x, or use likelihoods.Poisson"
        )
