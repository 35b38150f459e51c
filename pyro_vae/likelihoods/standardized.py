"""A likelihood of standardised numbers, in the units of the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_vae.argument_checks import true_or_false
from pyro_vae.distributions import Standardized as StandardizedDistribution
from pyro_vae.distributions import as_pyro
from pyro_vae.likelihoods.parameters import Numbers, check_shape, finite_numbers
from pyro_vae.likelihoods.real import Normal
from pyro_vae.parts import Likelihood, Part, as_likelihood, known, net_shape_of
from pyro_vae.registry import Kind, Spec, find, prefix_errors
from pyro_vae.resolver import as_mapping, build_from

__all__ = ["Standardized"]


class Standardized(Likelihood):
    """A likelihood of y = (x − loc) / scale, or of y = (log x − loc) / scale, as a likelihood of x itself.

    So standardising is part of the model. x, draws and means are in the units of the data, and log p(x) = log p(y) −
    log scale (− log x) counts the Jacobian: densities in nats compare with those of any other likelihood of the same
    data. y is computed in float64 where the device has it.

    With ``log=True`` and a normal likelihood of y, x is log-normal. Its mean exceeds its median by a factor of
    exp(v / 2), where v is the variance of log x. If a mean or variance overflows, there is a warning.

    Args:
        net: maps z, and the context if there is any, to the parameters of the likelihood of y, in the shape of
            ``Standardized.net_shape``.
        likelihood: of y: its name, or a mapping with that under ``class`` and its arguments beside it. One that may be
            shifted and scaled: ``Normal``, ``Laplace``, ``StudentT``, or your own with ``location_scale = True``.
        loc: a finite number, or such numbers in the shape of x.
        scale: a finite number above 0, or such numbers in the shape of x. Where y has mean 0 and variance 1, the
            likelihood of y starts well.
        log: True to take the logarithm of x, which must be above 0, before it is shifted and scaled.

    Raises:
        ValueError: if the likelihood of y is not found or cannot be made, or is not over numbers that may be shifted
            and scaled (with ``log=True``: is not ``Normal``), or if a number is not finite or a scale not above 0; in
            ``forward`` if ``loc`` or ``scale`` have another shape than x.

    Example:
        >>> from pyro_vae import nets
        >>> p = Standardized(nets.MLP(2, (64,), 30), "StudentT", loc=1013.0, scale=8.0)  # pressures in hPa
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([30])
    """

    remedy = Normal.remedy
    location_scale = True
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        net: nn.Module,
        likelihood: Spec | type[nn.Module] = "Normal",
        loc: Numbers = 0.0,
        scale: Numbers = 1.0,
        log: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.likelihood, self.log = net, likelihood, true_or_false("log", log)
        self.register_buffer("loc", finite_numbers("loc", loc))
        self.register_buffer("scale", finite_numbers("scale", scale, positive=True))
        found = _find(likelihood, log)
        with prefix_errors("likelihood Standardized"):
            spec = {**as_mapping("likelihood", likelihood), "class": found}
            self.part = build_from(Kind("likelihood"), spec, {"net": net})
        part = as_likelihood(self.part)
        if not part.location_scale or part.own_context:
            raise _not_location_scale(found)
        self.elementwise, self.depends_on_batch = part.elementwise, part.depends_on_batch
        if log:
            self.remedy = "Remove or impute what is not above 0, or use log=False"

    @classmethod
    def net_shape(
        cls, event_shape: tuple[int, ...], likelihood: Spec | type[nn.Module] = "Normal", log: bool = False, **_: object
    ) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``: that of the likelihood of y."""
        arguments = {k: v for k, v in as_mapping("likelihood", likelihood).items() if k != "class"}
        return tuple(net_shape_of(_find(likelihood, log), event_shape, **arguments))

    def forward(self, z: Tensor, *context: Tensor) -> StandardizedDistribution:
        """Return p(x | z) with batch shape ``(*batch,)`` and the event shape of x."""
        if self.part.net is not self.net:  # another net was assigned
            self.part.net = self.net
        y, dims = as_pyro(self.part(z, *context), "the likelihood of y"), 0
        shape = y.event_shape
        while isinstance(y, torch.distributions.Independent):
            dims, y = dims + y.reinterpreted_batch_ndims, y.base_dist
        for name, numbers in (("loc", self.loc), ("scale", self.scale)):
            check_shape(self, name, numbers, shape)
        x = StandardizedDistribution(as_pyro(y), self.loc, self.scale, self.log)
        return x.to_event(dims) if dims else x


def _find(likelihood: Spec | type[nn.Module], log: bool) -> type[nn.Module]:
    """Return the class of the likelihood of y."""
    with prefix_errors("likelihood Standardized"):
        found: Any = find(Kind("likelihood", known(Likelihood)), as_mapping("likelihood", likelihood).get("class", ""))
    if not getattr(found, "location_scale", False):
        raise _not_location_scale(found)
    if log and not issubclass(found, Normal):
        raise ValueError(
            f"likelihood Standardized with log=True needs a likelihood Normal of the logarithm; got {found.__name__}, "
            "with which x may have no mean"
        )
    return found


def _not_location_scale(found: Part | type) -> ValueError:
    there = ", ".join(name for name, cls in known(Likelihood).items() if cls.location_scale and cls is not Standardized)
    return ValueError(
        f"likelihood Standardized needs a likelihood of numbers that may be shifted and scaled: {there}, or your own "
        f"with location_scale = True; got {getattr(found, '__name__', found)}. Other likelihoods take x as it is"
    )
