"""The loss of a step as a tensor that reads like a number."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["Loss"]


class Loss(Tensor):
    """A 0-d tensor that is printed, formatted and compared like the float that ``pyro.infer.SVI.step`` returns.

    Nothing waits for its value until it is read, which on a GPU lets the next step start; ``float(loss)`` reads it.

    Example:
        >>> import torch
        >>> loss = torch.tensor(0.5, dtype=torch.float64).as_subclass(Loss)
        >>> loss, f"{loss:.2f}", loss + 1 > 1.4
        (0.5, '0.50', True)
    """

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # no types in torch
        """The number."""
        return repr(self.tolist())

    __str__ = __repr__

    def __deepcopy__(self, memo: Any) -> Loss:
        """A tensor of its own."""
        return self.clone().as_subclass(Loss)

    def __round__(self, digits: int | None = None) -> float:
        """The number, rounded."""
        return round(float(self), digits) if digits is not None else round(float(self))

    def __iadd__(self, other: Any) -> Any:  # type: ignore[misc]
        """A new tensor, as of floats: what was the sum so far may be the loss itself."""
        return self + other

    def __isub__(self, other: Any) -> Any:  # type: ignore[misc]
        """A new tensor, likewise."""
        return self - other

    def __imul__(self, other: Any) -> Any:  # type: ignore[misc]
        """A new tensor, likewise."""
        return self * other

    def __itruediv__(self, other: Any) -> Any:  # type: ignore[misc]
        """A new tensor, likewise."""
        return self / other

    def __format__(self, spec: str) -> str:
        """The number, as ``spec`` says."""
        return format(self.tolist(), spec)
