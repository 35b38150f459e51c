"""Likelihoods of counts."""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import counts, positive
from pyro_vae.likelihoods.parameters import check_number, per_element, raw_parameter
from pyro_vae.parts import Data, Likelihood

__all__ = ["Multinomial", "NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial"]

_REMEDY = "Give the counts themselves, not scaled, normalised or logarithmic, or use likelihoods.Normal"


class Poisson(Likelihood):
    """Independent Poisson elements; for counts.

    Args:
        net: maps z, and the context if there is any, to the raw rates, of the shape of x. Rates are
            softplus(raw) + 1e-6.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Poisson(nets.MLP(2, (64,), 30))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([30])
    """

    data: Data = "counts"
    remedy = _REMEDY

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Poisson of batch shape ``(*batch,)``; all dimensions of x after the batch are its event."""
        rate = positive(self.net(z, *context))
        return counts.Poisson(rate).to_event(rate.dim() - z.dim() + 1)


class NegativeBinomial(Likelihood):
    """Independent negative binomial elements, by mean and dispersion; for counts that vary more than a Poisson's.

    The variance is mean + dispersion × mean². What is learned, or comes from the net, is the inverse dispersion
    θ = softplus(raw) + 1e-6 (as for single cells: Lopez et al. 2018, "Deep generative modeling for single-cell
    transcriptomics").

    Args:
        net: maps z, and the context if there is any, to the raw means, of the shape of x; with
            ``dispersion="per_element"`` to ``(2, *shape of x)``: the raw means, then the raw inverse dispersions.
            Means are softplus(raw) + 1e-6.
        dispersion: a number above 0 for a fixed dispersion 1/θ, ``"learned"`` for one learned θ for all elements, or
            ``"per_element"`` for θ from the net. Near 0 it is a Poisson.
        initial_dispersion: where a learned dispersion starts.

    Raises:
        ValueError: where a dispersion is not above 0, or the net does not give two parameters an element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = NegativeBinomial(nets.MLP(2, (64,), 30))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([30])
    """

    data: Data = "counts"
    remedy = _REMEDY
    _names: tuple[str, ...] = ("raw means",)

    def __init__(
        self,
        net: nn.Module,
        dispersion: float | Literal["learned", "per_element"] = "learned",
        initial_dispersion: float = 1.0,
    ) -> None:
        super().__init__()
        self.net = net
        self.dispersion = dispersion
        self.initial_dispersion = initial_dispersion
        check_number("dispersion", dispersion, initial_dispersion, ("learned", "per_element"))
        self.raw_inverse_dispersion = raw_parameter(1 / initial_dispersion) if dispersion == "learned" else None

    @classmethod
    def net_shape(
        cls,
        event_shape: tuple[int, ...],
        dispersion: float | Literal["learned", "per_element"] = "learned",
        **_: object,
    ) -> tuple[int, ...]:
        """The shape that the net must give for x of ``event_shape``: one or two parameters an element."""
        return (2, *event_shape) if dispersion == "per_element" else tuple(event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Negative binomial of batch shape ``(*batch,)``; all dimensions of x after the batch are its event."""
        mean, dispersion, _ = self._split(z, *context)
        return counts.NegativeBinomial(mean, dispersion).to_event(mean.dim() - z.dim() + 1)

    def _split(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """The means, the dispersions (one, or of their shape), and what else of ``_names`` comes from the net."""
        out = self.net(z, *context)
        names = (*self._names, *(("raw inverse dispersions",) if self.dispersion == "per_element" else ()))
        raw_mean, *rest = per_element(self, out, z.dim() - 1, names) if len(names) > 1 else (out,)
        mean = positive(raw_mean)
        if self.dispersion == "per_element":
            return mean, 1 / positive(rest[-1]), tuple(rest[:-1])
        if self.raw_inverse_dispersion is not None:
            return mean, 1 / positive(self.raw_inverse_dispersion), tuple(rest)
        return mean, mean.new_tensor(self.dispersion), tuple(rest)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """Independent negative binomial elements, some of them zero by a gate; for counts with too many zeros.

    (Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics".)

    Args:
        net: maps z, and the context if there is any, to ``(2, *shape of x)``: the raw means of the negative binomial,
            then the logits of the gate, the probability of a zero from elsewhere; with ``dispersion="per_element"``
            to ``(3, *shape of x)``: the raw inverse dispersions come third.
        dispersion: see :class:`NegativeBinomial`.
        initial_dispersion: where a learned dispersion starts.

    Raises:
        ValueError: where a dispersion is not above 0, or the net gives another number of parameters an element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = ZeroInflatedNegativeBinomial(nets.MLP(2, (64,), (2, 30)))
        >>> tuple(p(torch.zeros(16, 2)).event_shape)
        (30,)
    """

    _names = ("raw means", "logits of the gate")

    @classmethod
    def net_shape(
        cls,
        event_shape: tuple[int, ...],
        dispersion: float | Literal["learned", "per_element"] = "learned",
        **_: object,
    ) -> tuple[int, ...]:
        """The shape that the net must give for x of ``event_shape``: two or three parameters an element."""
        return (3 if dispersion == "per_element" else 2, *event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """The distribution, of batch shape ``(*batch,)``; all dimensions of x after the batch are its event."""
        mean, dispersion, (gate,) = self._split(z, *context)
        p = counts.ZeroInflatedNegativeBinomial(mean, dispersion, gate)
        return p.to_event(mean.dim() - z.dim() + 1)


class Multinomial(Likelihood):
    """A multinomial over the last dimension; for documents as counts of words, x ``(batch, words)``.

    The density is that of the words given the document's own length, whatever ``total_count`` (as in neural topic
    models: Miao, Yu and Blunsom 2016, arXiv 1511.06038, up to the multinomial coefficient).

    Args:
        net: maps z, and the context if there is any, to the logits of the words, ``(words,)``.
        total_count: the length of documents that are sampled, and of the mean.

    Raises:
        ValueError: where ``total_count`` is no whole number from 1, or x has more than one dimension.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Multinomial(nets.MLP(2, (64,), 1000), total_count=80)
        >>> p(torch.zeros(16, 2)).sample().sum(-1).unique()
        tensor([80.])
    """

    data: Data = "counts"
    remedy = "Give the counts of the words themselves, not frequencies or tf-idf"
    elementwise = False

    def __init__(self, net: nn.Module, total_count: int = 1) -> None:
        super().__init__()
        self.net = net
        self.total_count = at_least(1, "total_count", total_count)

    @classmethod
    def net_shape(cls, event_shape: tuple[int, ...], **_: object) -> tuple[int, ...]:
        """The shape that the net must give for x of ``event_shape``, which must be ``(words,)``."""
        _one_dimension(tuple(event_shape))
        return tuple(event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Multinomial of batch shape ``(*batch,)`` and event shape ``(words,)``."""
        logits = self.net(z, *context)
        _one_dimension(tuple(logits.shape[z.dim() - 1 :]))
        return counts.Multinomial(total_count=self.total_count, logits=logits)


def _one_dimension(event_shape: tuple[int, ...]) -> None:
    if len(event_shape) != 1:
        raise ValueError(
            f"likelihood Multinomial is over x of shape (batch, words); got events of shape {event_shape}. Flatten "
            "x, or use likelihoods.Poisson"
        )
