"""Places in Python that hold something, such as attributes: whether their contents changed, and how to restore them."""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain, repeat
from types import CellType, FunctionType, MappingProxyType, MemberDescriptorType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["ABSENT", "Change", "Key", "Places", "contents"]

T = TypeVar("T")
Key = tuple[int, str]  # the id of the object that holds something, and the name under which
ABSENT: Any = object()
# Two equal values of one of these types are the same to any program.
_BY_VALUE = (bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device, torch.Size, enum.Enum)


class Change(NamedTuple):
    """A place whose contents changed.

    Args:
        key: of the place.
        where: in words.
        by_user: True if the place is the user's own, and not inside torch, Pyro or this library.
        then: what it held; ``ABSENT`` for nothing.
        now: what it holds.
        put: puts something there, or deletes it for ``ABSENT``; None if that is not possible.
    """

    key: Key
    where: str
    by_user: bool
    then: Any
    now: Any
    put: Callable[[Any], None] | None = None

    @property
    def of_tensors(self) -> bool:
        """True if only tensors were replaced: one by another, or those in containers of the same structure."""
        if self.put is None:
            return False
        if isinstance(self.now, Tensor):
            return self.then is None or self.then is ABSENT or isinstance(self.then, Tensor)
        then, how = pytree.tree_flatten(self.then)
        now, how_now = pytree.tree_flatten(self.now)
        changed = [pair for pair in zip(then, now, strict=False) if not _same(*pair)]
        return how == how_now and all(isinstance(a, Tensor) and isinstance(b, Tensor) for a, b in changed)

    def __str__(self) -> str:
        """Return the place and both contents in words."""
        return f"{self.where} from {_short(self.then)} to {_short(self.now)}"


class _Names(NamedTuple):
    """Names in the dictionaries of objects, modules and classes."""

    places: list[tuple[Key, str, bool, type | None]]  # the class, for an attribute of a class
    dictionaries: list[Any]
    names: list[str]


class _Rest(NamedTuple):
    """A place with its own way to read, write and compare."""

    key: Key
    where: str
    get: Callable[[], Any]
    put: Callable[[Any], None]
    same: Callable[[Any, Any], bool]


class Places:
    """Places to compare in each step, which has to be quick, and to restore.

    Their contents are compared by identity, at the speed of C; numbers and strings that are not the same object are
    then compared by value.
    """

    def __init__(self) -> None:
        self._attributes, self._of_classes = _Names([], [], []), _Names([], [], [])
        self._containers: list[tuple[Key, str, bool, Any]] = []
        self._cells: list[tuple[Key, str, CellType]] = []
        self._hooked: list[Tensor] = []
        self._functions: list[FunctionType] = []
        self._objects: list[object] = []
        self._with_bases: list[type] = []
        self._rest: list[_Rest] = []
        self._sized: list[tuple[Key, str, bool, Collection[str] | None, Collection[Any]]] = []
        self.iterators: list[str] = []  # in words; they can neither be inspected nor restored
        self.modules: list[nn.Module] = []  # these have a mode

    # What to watch.

    def attribute(self, owner: object, name: str, where: str, by_user: bool) -> None:
        """Watch an attribute of an object or a class."""
        if isinstance(owner, type):
            _add(self._of_classes, vars(owner), name, where, by_user, owner)
        else:
            _add(self._attributes, vars(owner), name, where, by_user, None)

    def variable(self, variables: dict[str, Any], name: str, where: str) -> None:
        """Watch a global variable."""
        _add(self._attributes, variables, name, where, True, None)

    def container(self, thing: Collection[Any], where: str, by_user: bool) -> None:
        """Watch all that a dictionary, list, deque or set holds."""
        self._containers.append(((id(thing), ""), where, by_user, thing))

    def size(self, thing: Collection[Any], where: str, by_user: bool, names: Collection[str] | None = None) -> None:
        """Watch the number of things in a container, or which attributes an object has.

        Args:
            thing: a container, or the dictionary of an object.
            where: in words.
            by_user: True if it is the user's own.
            names: the attributes that matter; None for all.
        """
        self._sized.append(((id(thing), ""), where, by_user, names, thing))

    def cell(self, cell: CellType, where: str) -> None:
        """Watch a variable that functions share."""
        self._cells.append(((id(cell), ""), where, cell))

    def hooks(self, parameter: Tensor) -> None:
        """Watch the hooks of a parameter."""
        self._hooked.append(parameter)

    def function(self, function: FunctionType) -> None:
        """Watch the code and the defaults of a function."""
        self._functions.append(function)

    def kind(self, thing: object) -> None:
        """Watch the class of an object."""
        self._objects.append(thing)

    def bases(self, cls: type) -> None:
        """Watch the bases of a class."""
        self._with_bases.append(cls)

    def slot(self, owner: object, slot: MemberDescriptorType, where: str) -> None:
        """Watch an attribute in a slot."""

        def get() -> Any:
            try:
                return slot.__get__(owner)
            except AttributeError:  # it is empty
                return ABSENT

        def put(value: object) -> None:
            slot.__delete__(owner) if value is ABSENT else slot.__set__(owner, value)

        self._rest.append(_Rest((id(owner), slot.__name__), where, get, put, _same))

    def array(self, array: np.ndarray[Any, Any], where: str) -> None:
        """Watch the values of an array."""

        def put(value: tuple[tuple[int, ...], str, bytes]) -> None:
            shape, _, content = value
            array.shape = shape
            array[...] = np.frombuffer(content, array.dtype).reshape(shape)

        self.state(id(array), lambda: (array.shape, array.dtype.str, array.tobytes()), put, where)

    def state(self, key: int, get: Callable[[], T], put: Callable[[T], None], where: str) -> None:
        """Watch the hidden state of an object, such as a random number generator; it is compared by value."""
        self._rest.append(_Rest((key, ""), where, get, put, operator.eq))

    def without(self, keys: Collection[Key]) -> None:
        """Stop watching some places, and the rest of a list or set that has one of them.

        Args:
            keys: of the places.
        """
        for names in (self._attributes, self._of_classes):
            columns: tuple[list[Any], ...] = names
            kept = [row for row in zip(*columns, strict=True) if row[0][0] not in keys]
            for i, column in enumerate(columns):
                column[:] = [row[i] for row in kept]
        owners = {owner for owner, _ in keys}
        for _, where, by_user, thing in self._containers:
            if id(thing) in owners and isinstance(thing, dict) and (id(thing), "") not in keys:
                for name in thing:
                    if (id(thing), str(name)) not in keys:
                        _add(self._attributes, thing, name, f"{name!r} of {where}", by_user, None)
        self._containers = [row for row in self._containers if id(row[-1]) not in owners]
        self._cells = [row for row in self._cells if row[0] not in keys]
        self._rest = [row for row in self._rest if row.key not in keys]
        self._sized = [row for row in self._sized if row[0] not in keys]

    # Have they changed?

    def note(self) -> None:
        """Take the present contents as those to compare with; call it before any comparison."""
        things = [thing for *_, thing in self._containers]
        self._copies = [dict(thing) if isinstance(thing, dict) else list(thing) for thing in things]
        self._empty = [thing for thing in things if not thing]
        self._full = [thing for thing in things if thing and isinstance(thing, dict)]
        self._sequences = [thing for thing in things if thing and not isinstance(thing, dict)]
        self._counted = [*self._full, *self._sequences, *(thing for *_, thing in self._sized)]
        self._lengths = list(map(len, self._counted))
        self._just_cells = [cell for *_, cell in self._cells if contents(cell) is not ABSENT]
        self._without_value = [cell for *_, cell in self._cells if contents(cell) is ABSENT]
        self._held = list(self._now())
        self._states = [rest.get() for rest in self._rest]
        self._there = [set(thing) if isinstance(thing, dict) else len(thing) for *_, thing in self._sized]

    def _now(self) -> Iterator[Any]:
        return chain(
            map(dict.get, self._attributes.dictionaries, self._attributes.names, repeat(ABSENT)),
            map(MappingProxyType.get, self._of_classes.dictionaries, self._of_classes.names, repeat(ABSENT)),
            map(_HOOKS, self._hooked),
            map(_LATE_HOOKS, self._hooked),
            map(_CODE, self._functions),
            map(_DEFAULTS, self._functions),
            map(_DEFAULTS_BY_NAME, self._functions),
            map(type, self._objects),
            map(_BASES, self._with_bases),
            chain.from_iterable(map(dict.values, self._full)),
            chain.from_iterable(self._full),
            chain.from_iterable(self._sequences),
            map(_IN_CELL, self._just_cells),
        )

    def same(self) -> bool:
        """Return True if no place has changed."""
        if self._identical() and (not self._rest or not self._changes_of_rest()):
            return True
        if self.changes():
            return False
        self.note()  # equal numbers in other objects, for the next comparison by identity
        return True

    def _identical(self) -> bool:
        try:
            same = all(map(operator.is_, self._now(), self._held))
        except (ValueError, RuntimeError):  # a deleted variable, or a container that another thread changes
            return False
        if not same or any(self._empty) or list(map(len, self._counted)) != self._lengths:
            return False
        return all(contents(cell) is ABSENT for cell in self._without_value)

    def changes(self) -> list[Change]:
        """Return all places that changed; of a container, the elements."""
        found: list[Change] = []
        held = iter(self._held)  # in the order of _now
        for names in (self._attributes, self._of_classes):
            for (key, where, by_user, cls), dictionary, name in zip(*names, strict=True):
                put = _into_dictionary(dictionary, name) if cls is None else _into_class(cls, name)
                found.append(Change(key, where, by_user, next(held), dictionary.get(name, ABSENT), put))
        for read, things, what in (
            (_HOOKS, self._hooked, "the hooks of a parameter"),
            (_LATE_HOOKS, self._hooked, "the hooks of a parameter"),
            (_CODE, self._functions, "the code of a function"),
            (_DEFAULTS, self._functions, "the defaults of a function"),
            (_DEFAULTS_BY_NAME, self._functions, "the defaults of a function"),
            (type, self._objects, "the class of an object"),
            (_BASES, self._with_bases, "the bases of a class"),
        ):
            found += [Change((id(thing), ""), what, True, next(held), read(thing)) for thing in things]
        in_cells = iter(self._held[len(self._held) - len(self._just_cells) :])
        empty = set(map(id, self._without_value))
        for key, where, cell in self._cells:
            then = ABSENT if id(cell) in empty else next(in_cells)
            found.append(Change(key, where, True, then, contents(cell), _into_cell(cell)))
        for (key, where, by_user, thing), copy in zip(self._containers, self._copies, strict=True):
            found += _of_container(key, where, by_user, thing, copy)
        for (key, where, by_user, mattering, of), there in zip(self._sized, self._there, strict=True):
            found += _of_size(key, where, by_user, mattering, of, there)
        return [c for c in found if not _same(c.then, c.now)] + self._changes_of_rest()

    def _changes_of_rest(self) -> list[Change]:
        pairs = zip(self._rest, self._states, strict=True)
        now = [(rest, then, rest.get()) for rest, then in pairs]
        return [Change(r.key, r.where, True, then, found, r.put) for r, then, found in now if not r.same(then, found)]

    def restore(self) -> None:
        """Restore the contents of all places."""
        for (*_, thing), copy in zip(self._containers, self._copies, strict=True):
            if not _holds(thing, copy):
                thing.clear()
                thing.update(copy) if isinstance(thing, (dict, set)) else thing.extend(copy)
        for (*_, thing), there in zip(self._sized, self._there, strict=True):
            if isinstance(thing, dict) and isinstance(there, set):
                for name in thing.keys() - there:
                    del thing[name]
        for change in self.changes():
            if change.put is not None:
                change.put(change.then)


_CODE, _DEFAULTS = operator.attrgetter("__code__"), operator.attrgetter("__defaults__")
_DEFAULTS_BY_NAME = operator.attrgetter("__kwdefaults__")
_HOOKS, _LATE_HOOKS = operator.attrgetter("_backward_hooks"), operator.attrgetter("_post_accumulate_grad_hooks")
_BASES = operator.attrgetter("__mro__")
_IN_CELL = operator.attrgetter("cell_contents")


def contents(cell: CellType) -> Any:
    """Return what a variable that functions share holds; ``ABSENT`` if it has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def _add(names: _Names, dictionary: Mapping[str, Any], name: str, where: str, by_user: bool, cls: type | None) -> None:
    names.places.append(((id(cls or dictionary), name), where, by_user, cls))
    names.dictionaries.append(dictionary)
    names.names.append(name)


def _same(then: object, now: object) -> bool:
    """Return True if two things are the same to any program: one object, or equal numbers or strings of one type."""
    if then is now:
        return True
    if type(then) is not type(now) or not isinstance(then, _BY_VALUE):
        return False
    if isinstance(then, (float, complex, np.inexact)):
        return repr(then) == repr(now)  # 0.0 and -0.0 differ, NaN equals NaN
    return bool(then == now)


def _holds(thing: Collection[Any], copy: Collection[Any]) -> bool:
    if len(thing) != len(copy):
        return False
    if not (isinstance(thing, dict) and isinstance(copy, dict)):
        return all(map(operator.is_, thing, copy))
    return all(map(operator.is_, chain(thing, thing.values()), chain(copy, copy.values())))


def _alike(elements: list[Any], others: list[Any]) -> bool:
    return len(elements) == len(others) and all(map(_same, elements, others))


def _of_container(key: Key, where: str, by_user: bool, thing: Any, copy: dict[Any, Any] | list[Any]) -> list[Change]:
    if isinstance(thing, dict) and not _alike(list(thing), list(copy)):
        return [Change(key, f"the keys of {where}", by_user, list(copy), list(thing))]
    if len(thing) != len(copy):
        return [Change(key, f"the length of {where}", by_user, len(copy), len(thing))]
    if isinstance(thing, set):
        return [] if _alike(list(thing), list(copy)) else [Change(key, where, by_user, copy, list(thing))]
    elements = copy.items() if isinstance(copy, dict) else enumerate(copy)
    return [
        Change((key[0], str(k)), f"{k!r} of {where}", by_user, a, thing[k], _into_container(thing, k))
        for k, a in elements
    ]


def _of_size(
    key: Key, where: str, by_user: bool, names: Collection[str] | None, thing: Collection[Any], there: set[str] | int
) -> list[Change]:
    if isinstance(there, int) or not isinstance(thing, dict):
        return [Change(key, f"the number of {where}", by_user, there, len(thing))]
    other = thing.keys() ^ there
    if names is not None:
        other &= set(names)
    return [Change((key[0], name), f"{name!r} of the {where}", by_user, there, thing) for name in sorted(other)]


def _into_container(thing: dict[Any, Any] | list[Any], key: Any) -> Callable[[Any], None]:
    return lambda value: thing.__setitem__(key, value)


def _into_dictionary(dictionary: dict[str, Any], name: str) -> Callable[[Any], None]:
    return lambda value: dictionary.pop(name, None) if value is ABSENT else dictionary.__setitem__(name, value)


def _into_class(cls: type, name: str) -> Callable[[Any], None]:
    return lambda value: delattr(cls, name) if value is ABSENT else setattr(cls, name, value)


def _into_cell(cell: CellType) -> Callable[[Any], None]:
    def put(value: object) -> None:
        if value is ABSENT:
            del cell.cell_contents
        else:
            cell.cell_contents = value

    return put


def _short(thing: object) -> str:
    if thing is ABSENT:
        return "nothing"
    if type(thing) not in (type(None), bool, int, float, complex, str, bytes, list, dict):
        return f"a {type(thing).__name__}"
    try:
        words = repr(thing)
    except Exception:  # of an element, which may be of any class
        return f"a {type(thing).__name__}"
    return words if len(words) <= 60 else f"{words[:57]}..."
