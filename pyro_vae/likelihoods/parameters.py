"""Parameters of likelihoods, from the output of a net or learned by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pyro_vae.argument_checks import finite_number
from pyro_vae.distributions import inverse_positive, part_name, positive
from pyro_vae.parts import Likelihood

__all__ = [
    "LocationScale",
    "MeanDispersion",
    "Numbers",
    "check_number",
    "check_parameters",
    "check_shape",
    "finite_numbers",
    "per_element",
    "positive_number",
    "raw_parameter",
]

Numbers = float | Sequence[Any] | Tensor
"""A number, or numbers of the shape of x."""


def check_parameters(name: str, out: Tensor, batch_dim: int, count: int, what: str) -> None:
    """Check that a net gives ``count`` parameters per element, along the first dimension after the batch.

    Args:
        name: of the likelihood, for errors.
        out: the output of its net.
        batch_dim: the number of batch dimensions.
        count: the size that the next dimension must have.
        what: the parameters in words.

    Raises:
        ValueError: if that dimension has another size.
    """
    if out.dim() <= batch_dim or out.shape[batch_dim] != count:
        raise ValueError(
            f"likelihood {name} needs a net whose output is (batch, {count}, *shape of x), {what}; "
            f"got {tuple(out.shape)}"
        )


def per_element(likelihood: nn.Module, out: Tensor, batch_dim: int, names: Sequence[str]) -> tuple[Tensor, ...]:
    """Split a net's output along its first dimension after the batch, one piece for each of ``names``.

    Raises:
        ValueError: if that dimension has another size.
    """
    check_parameters(part_name(likelihood), out, batch_dim, len(names), ", then ".join(names))
    return out.unbind(batch_dim)


def check_number(name: str, value: float | str, initial: float, words: Sequence[str], above: float = 0.0) -> None:
    """Check that a parameter is a finite number above ``above`` or one of ``words``.

    Args:
        name: of the argument; ``initial`` is then the argument ``initial_<name>``.
        value: a number, or one of ``words``.
        initial: where the parameter starts if it is not a number.
        words: such as ``("learned", "per_element")``.
        above: the number must be larger.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(value, str):
        finite_number(name, value, above=above)
        return
    if value not in words:
        choices = [f"a number above {above:g}", *(f'"{word}"' for word in words)]
        raise ValueError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}; got {value!r}")
    finite_number(f"initial_{name}", initial, above=above + 1e-6)


def raw_parameter(initial: float) -> nn.Parameter:
    """Return the parameter that ``positive`` maps to ``initial``."""
    raw = inverse_positive(torch.tensor(float(initial), dtype=torch.float64))
    return nn.Parameter(raw.to(torch.get_default_dtype()))


def positive_number(value: float | str, raw: Tensor | None, like: Tensor, above: float = 0.0) -> Tensor:
    """Return a checked number, learned (``raw``) or fixed (``value``), in the shape of ``like``."""
    if raw is None:
        return like.new_tensor(float(value)).expand_as(like)
    return (above + positive(raw)).expand_as(like)


def finite_numbers(name: str, given: Numbers, positive: bool = False) -> Tensor:
    """Return a number or numbers as a tensor of the default dtype.

    Args:
        name: of the argument, for errors.
        given: the numbers.
        positive: True if they must be above 0.

    Raises:
        ValueError: if they are no finite numbers, or not above 0 as they must be.
    """
    what = f"{name} must be a finite number{' above 0' if positive else ''}, or such numbers in the shape of x"
    if isinstance(given, (bool, str)):
        raise ValueError(f"{what}; got {given!r}")
    try:
        exact = torch.as_tensor(given, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what}; got {given!r}") from error
    numbers = exact.to(torch.get_default_dtype(), copy=True)
    wrong = ~numbers.isfinite() | (numbers <= 0 if positive else torch.zeros_like(numbers, dtype=torch.bool))
    if wrong.any() or not numbers.numel():
        first = f"{exact[wrong][0].item():g}" if numbers.numel() else "none"
        raise ValueError(f"{what}; got {first}, as {numbers.dtype}")
    return numbers


def check_shape(likelihood: Likelihood, name: str, numbers: Tensor, shape: torch.Size) -> None:
    """Check that numbers of a likelihood are one number, or of the shape of x.

    Args:
        likelihood: that has them.
        name: of its argument.
        numbers: one, or one for each element.
        shape: of x, without the batch.

    Raises:
        ValueError: if they have another shape.
    """
    if not likelihood.together and not _broadcasts(numbers.shape, shape):
        raise ValueError(f"{name} must be one number, or of the shape of x, {tuple(shape)}; got {tuple(numbers.shape)}")


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


class LocationScale(Likelihood):
    """Likelihoods whose elements have a location from the net, and a scale.

    Args:
        net: maps z, and the context if there is any, to the locations; with ``scale="per_element"`` to
            ``(2, *shape of x)``: the locations, then the raw scales.
        scale: a number, ``"learned"`` or ``"per_element"``.
        initial_scale: where a learned scale starts.
        words: the words that ``scale`` may be.
    """

    def __init__(
        self,
        net: nn.Module,
        scale: float | str,
        initial_scale: float,
        words: tuple[str, ...] = ("learned", "per_element"),
    ) -> None:
        super().__init__()
        self.net = net
        self.scale = scale
        self.initial_scale = initial_scale
        check_number("scale", scale, initial_scale, words)
        self.raw_scale = raw_parameter(initial_scale) if scale == "learned" else None

    @classmethod
    def net_shape(
        cls,
        event_shape: tuple[int, ...],
        scale: float | str = "learned",
        **_: object,
    ) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``: one or two parameters per element."""
        return (2, *event_shape) if scale == "per_element" else tuple(event_shape)

    def _loc_and_scale(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        out = self.net(z, *context)
        if self.scale != "per_element":
            return out, positive_number(self.scale, self.raw_scale, out)
        name = f'{part_name(self)} with scale="per_element"'
        check_parameters(name, out, z.dim() - 1, 2, "means then raw scales")
        loc, raw_scale = out.unbind(z.dim() - 1)
        return loc, positive(raw_scale)


class MeanDispersion(Likelihood):
    """Likelihoods whose elements have a mean from the net, and a dispersion that multiplies mean² in the variance.

    The inverse dispersion θ = softplus(raw) + 1e-6 is learned, or comes from the net.

    Args:
        net: maps z, and the context if there is any, to the raw means, then one piece for each of the other ``names``;
            with ``dispersion="per_element"`` the raw inverse dispersions come last.
        dispersion: a number above 0 for a fixed dispersion 1/θ, ``"learned"`` for one learned θ for all elements, or
            ``"per_element"`` for θ from the net.
        initial_dispersion: where a learned dispersion starts.

    Raises:
        ValueError: if a dispersion is not above 0; in ``forward`` if the net gives another number of parameters.
    """

    names: ClassVar[tuple[str, ...]] = ("raw means",)

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
        """Return the shape that the net must give for x of ``event_shape``: one or more parameters per element."""
        parameters = len(cls.names) + (dispersion == "per_element")
        return (parameters, *event_shape) if parameters > 1 else tuple(event_shape)

    def _split(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return the raw means, the dispersions (one, or of their shape), and the others of ``names`` from the net."""
        out = self.net(z, *context)
        names = (*self.names, *(("raw inverse dispersions",) if self.dispersion == "per_element" else ()))
        raw_mean, *rest = per_element(self, out, z.dim() - 1, names) if len(names) > 1 else (out,)
        if self.dispersion == "per_element":
            return raw_mean, 1 / self._theta(rest[-1]), tuple(rest[:-1])
        if self.raw_inverse_dispersion is not None:
            return raw_mean, 1 / self._theta(self.raw_inverse_dispersion), tuple(rest)
        return raw_mean, raw_mean.new_tensor(self.dispersion), tuple(rest)

    def _theta(self, raw: Tensor) -> Tensor:
        return positive(raw)
