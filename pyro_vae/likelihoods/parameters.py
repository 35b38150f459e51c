"""How a net's output becomes the parameters of a likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pyro_vae.argument_checks import finite_number
from pyro_vae.distributions import inverse_positive, part_name, positive
from pyro_vae.parts import Likelihood

__all__ = ["LocationScale", "check_number", "per_element", "positive_number", "raw_parameter"]


def per_element(likelihood: nn.Module, out: Tensor, batch_dim: int, names: Sequence[str]) -> tuple[Tensor, ...]:
    """The parameters, ``names``, that lie in the first dimension after the batch of a net's output.

    Raises:
        ValueError: where there are not so many.
    """
    if out.dim() <= batch_dim or out.shape[batch_dim] != len(names):
        raise ValueError(
            f"likelihood {part_name(likelihood)} needs a net whose output is (batch, {len(names)}, *shape of x), "
            f"{', then '.join(names)}; got {tuple(out.shape)}"
        )
    return out.unbind(batch_dim)


def check_number(name: str, value: Any, initial: Any, words: Sequence[str], above: float = 0.0) -> None:
    """Raises a ValueError where a parameter is neither a finite number above ``above`` nor one of ``words``.

    Args:
        name: of the argument; ``initial`` is then that of ``initial_<name>``.
        value: a number, or one of ``words``.
        initial: where it starts, if it is not a number.
        words: such as ``("learned", "per_element")``.
        above: what the number must exceed.
    """
    if not isinstance(value, str):
        finite_number(name, value, above=above)
        return
    if value not in words:
        choices = [f"a number above {above:g}", *(f'"{word}"' for word in words)]
        raise ValueError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}; got {value!r}")
    finite_number(f"initial_{name}", initial, above=above + 1e-6)


def raw_parameter(initial: float) -> nn.Parameter:
    """A parameter of which ``positive`` makes ``initial``."""
    raw = inverse_positive(torch.tensor(float(initial), dtype=torch.float64))
    return nn.Parameter(raw.to(torch.get_default_dtype()))


def positive_number(value: Any, raw: Tensor | None, like: Tensor, above: float = 0.0) -> Tensor:
    """A number that :func:`check_number` passed, learned (``raw``) or fixed, in the shape of ``like``."""
    if raw is None:
        return like.new_tensor(float(value)).expand_as(like)
    return (above + positive(raw)).expand_as(like)


class LocationScale(Likelihood):
    """What likelihoods with a location from the net and a scale have in common.

    Args:
        net: maps z, and the context if there is any, to the locations; with ``scale="per_element"`` to
            ``(2, *shape of x)``: the locations, then the raw scales.
        scale: a number, ``"learned"`` or ``"per_element"``.
        initial_scale: where a learned scale starts.
        words: what ``scale`` may say.
    """

    def __init__(
        self, net: nn.Module, scale: Any, initial_scale: float, words: tuple[str, ...] = ("learned", "per_element")
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
        scale: float | Literal["learned", "per_element"] | str = "learned",
        **_: object,
    ) -> tuple[int, ...]:
        """The shape that the net must give for x of ``event_shape``: one or two parameters an element."""
        return (2, *event_shape) if scale == "per_element" else tuple(event_shape)

    def _loc_and_scale(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        out = self.net(z, *context)
        if self.scale != "per_element":
            return out, positive_number(self.scale, self.raw_scale, out)
        if out.dim() < z.dim() or out.shape[z.dim() - 1] != 2:
            raise ValueError(
                f'likelihood {part_name(self)} with scale="per_element" needs a net whose output is '
                f"(batch, 2, *shape of x), means then raw scales; got {tuple(out.shape)}"
            )
        loc, raw_scale = out.unbind(z.dim() - 1)
        return loc, positive(raw_scale)
