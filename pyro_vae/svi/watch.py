"""Whether what the graphs of a CompiledSVI rest on has changed; looked at in each step."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pyro_vae.svi.places import Change, Key, Places
from pyro_vae.svi.reachable import reach
from pyro_vae.svi.refusals import CannotCaptureError

if TYPE_CHECKING:
    from pyro_vae.svi.compiled_svi import CompiledSVI

__all__ = ["Watch", "looked_through"]


class Watch:
    """What programs can reach in Python, and what of it is trained.

    Args:
        svi: whose programs.
    """

    def __init__(self, svi: CompiledSVI) -> None:
        self._svi = svi
        self.start()

    def start(self) -> None:
        """Starts with the programs alone."""
        self.modules: list[nn.Module] = []
        self._untidy: set[Key] = set()
        self._programs = self._programs_now()
        self._more: dict[int, Any] = {}
        self._parameters: list[Tensor] = []
        self._trained: list[bool] = []
        self._places: Places | None = None

    def _programs_now(self) -> list[Any]:
        svi = self._svi
        return [svi.model, svi.guide, svi.loss, svi.loss_and_grads, svi.optim]

    def roots(self) -> list[Any]:
        """Where the walk starts: the programs, and what was seen to run beside them."""
        *programs, _ = self._programs_now()  # without the optimiser, which changes in each step
        return [*programs, *self._more.values()]

    def add(self, things: Iterable[Any], parameters: Iterable[Tensor]) -> None:
        """Looks at some more things and parameters, from now on."""
        self._more |= {id(thing): thing for thing in things}
        places = looked_through(self.roots())
        self.modules = places.modules
        mine = (p for module in self.modules for p in module.parameters(recurse=False))
        self._parameters = list({id(p): p for p in (*self._parameters, *parameters, *mine)}.values())
        self._trained = list(map(_REQUIRES_GRAD, self._parameters))
        self._places = looked_through(self.roots(), self._parameters)
        self._places.without(self._untidy)
        self._places.note()

    def change(self) -> str | None:
        """What has changed since the last step, in words, or None.

        Raises:
            CannotCaptureError: where an object raises an error when it is looked at.
        """
        if not all(map(operator.is_, self._programs_now(), self._programs)):
            return "the model, the guide, the loss or the optimiser"
        if list(map(_REQUIRES_GRAD, self._parameters)) != self._trained:
            return "what is trained"
        if self._places is None:
            return None
        try:
            return None if self._places.same() else str(self._places.changes()[0])
        except Exception as error:  # the user's objects may do anything when they are looked at
            raise CannotCaptureError(f"{_NOT_SEEN}: {error!r}") from error

    def note(self) -> None:
        """Compares with what is there now, after a run by Pyro, from now on."""
        if self._places is not None:
            self._places.note()

    def changes_by_user(self) -> list[Change]:
        """What has changed of what is the user's own."""
        return [] if self._places is None else [c for c in self._places.changes() if c.by_user]

    def without(self, keys: Iterable[Key]) -> None:
        """Looks no more at some places."""
        self._untidy |= set(keys)
        if self._places is not None:
            self._places.without(self._untidy)
            self._places.note()


def looked_through(roots: Iterable[Any], parameters: Iterable[Tensor] = ()) -> Places:
    """The places that programs can reach.

    Args:
        roots: functions, methods, modules and other objects.
        parameters: whose hooks are looked at too.

    Raises:
        CannotCaptureError: where an object does not let itself be looked at.
    """
    try:
        return reach(roots, parameters)
    except Exception as error:  # the user's objects may do anything when they are looked at
        raise CannotCaptureError(f"{_NOT_SEEN}: {error!r}") from error


_NOT_SEEN = "an object that it can reach raises an error when it is looked at"
_REQUIRES_GRAD = operator.attrgetter("requires_grad")
