"""Whether what the graphs of a CompiledSVI rest on has changed; each step asks."""

from __future__ import annotations

import operator
from collections.abc import Iterable

from pyro.infer import SVI
from torch import Tensor, nn

from pyro_vae.svi.places import Change, Key, Places
from pyro_vae.svi.reachable import reach
from pyro_vae.svi.refusals import CannotCaptureError

__all__ = ["Watch", "reachable_places"]


class Watch:
    """What the programs of an SVI can reach in Python, and which parameters are trained.

    Args:
        svi: runs the programs.
    """

    def __init__(self, svi: SVI) -> None:
        self._svi = svi
        self.start()

    def start(self) -> None:
        """Start with the programs alone."""
        self.modules: list[nn.Module] = []
        self._ignored: set[Key] = set()
        self._programs = self._programs_now()
        self._more: dict[int, object] = {}
        self._parameters: list[Tensor] = []
        self._trained: list[bool] = []
        self._places: Places | None = None

    def _programs_now(self) -> list[object]:
        svi = self._svi
        return [svi.model, svi.guide, svi.loss, svi.loss_and_grads, svi.optim]

    def roots(self) -> list[object]:
        """Where the walk starts: the programs, and the modules and callables that ran with them."""
        *programs, _ = self._programs_now()  # without the optimiser, which changes in each step
        return [*programs, *self._more.values()]

    def add(self, things: Iterable[object], parameters: Iterable[Tensor]) -> None:
        """Watch more things and parameters from now on."""
        self._more |= {id(thing): thing for thing in things}
        places = reachable_places(self.roots())
        self.modules = places.modules
        mine = (p for module in self.modules for p in module.parameters(recurse=False))
        self._parameters = list({id(p): p for p in (*self._parameters, *parameters, *mine)}.values())
        self._trained = list(map(_REQUIRES_GRAD, self._parameters))
        self._places = reachable_places(self.roots(), self._parameters)
        self._places.without(self._ignored)
        self._places.note()

    def change(self) -> str | None:
        """Say in words what has changed since the last step, or return None.

        Raises:
            CannotCaptureError: if an object raises an error when it is inspected.
        """
        if not all(map(operator.is_, self._programs_now(), self._programs)):
            return "the model, the guide, the loss or the optimiser"
        if list(map(_REQUIRES_GRAD, self._parameters)) != self._trained:
            return "what is trained"
        if self._places is None:
            return None
        try:
            return None if self._places.same() else str(self._places.changes()[0])
        except Exception as error:  # the user's objects may do anything when they are inspected
            raise CannotCaptureError(f"{_NOT_SEEN}: {error!r}") from error

    def note(self) -> None:
        """Compare with the present contents from now on, after a run by Pyro."""
        if self._places is not None:
            self._places.note()

    def changes_by_user(self) -> list[Change]:
        """Return the changes in the user's own objects."""
        return [] if self._places is None else [c for c in self._places.changes() if c.by_user]

    def without(self, keys: Iterable[Key]) -> None:
        """Stop watching places that each run changes: there, a change between two steps says nothing."""
        self._ignored |= set(keys)
        if self._places is not None:
            self._places.without(self._ignored)
            self._places.note()


def reachable_places(roots: Iterable[object], parameters: Iterable[Tensor] = ()) -> Places:
    """Find the places that programs can reach.

    Args:
        roots: functions, methods, modules and other objects.
        parameters: tensors whose hooks are watched too.

    Raises:
        CannotCaptureError: if an object raises an error when it is inspected.
    """
    try:
        return reach(roots, parameters)
    except Exception as error:  # the user's objects may do anything when they are inspected
        raise CannotCaptureError(f"{_NOT_SEEN}: {error!r}") from error


_NOT_SEEN = "an object that the programs can reach raises an error when it is inspected"
_REQUIRES_GRAD = operator.attrgetter("requires_grad")
