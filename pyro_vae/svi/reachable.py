"""What the programs of a step can reach in Python, to detect changes of it.

The walk starts at the model, the guide and the loss. It follows the links that Python would follow: variables that a
function shares with others, the globals and attributes that it names, what it wraps; the attributes of objects and of
the user's classes; the elements of containers. Of a user's object it inspects only the attributes whose names appear in
code that the programs can run: other attributes, such as the notes of a trainer, do not matter. It ends in tensors, and
in the private objects of torch, Pyro and other libraries.
"""

from __future__ import annotations

import argparse
import array
import collections
import collections.abc
import functools
import gc
import io
import operator
import pickle
import random
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import SVI
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from pyro_vae.svi.places import Places, contents
from pyro_vae.svi.user_code import (
    CALLED_BY_LIBRARIES,
    LOOKS_NAMES_UP,
    READ_BY_ANY_NAME,
    has_other_readers,
    is_entered,
    is_users,
    may_be_used,
    names_in,
)

__all__ = ["reach"]

# The largest number of links from a program, of objects, of elements of a container, and of numbers in all arrays. Only
# the audit finds changes beyond these.
_MOST_LINKS, _MOST_THINGS, _MOST_ELEMENTS, _MOST_NUMBERS = 30, 20_000, 1_000, 1 << 16
_NOTHING_INSIDE = (type(None), bool, int, float, complex, str, bytes)
# These change in each step, or hold nothing that a program reads.
_NOT_ENTERED = (torch.optim.Optimizer, PyroOptim, SVI, torch.Generator, type(pyro.get_param_store()), io.IOBase)
_NAMESPACES = (
    *(types.SimpleNamespace, argparse.Namespace, collections.UserDict, collections.UserList, collections.ChainMap),
)
_CONTAINERS = (dict, list, set, collections.deque)
Container = dict[Any, Any] | list[Any] | set[Any] | collections.deque[Any]
_NumpyGenerator = np.random.Generator | np.random.RandomState
_IN_MODULES = (
    *("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"),
    *("_backward_pre_hooks", "_pyro_samples", "_pyro_params"),
)
_OF_ALL_MODULES = {*vars(nn.Module()), *_IN_MODULES}
_HOOKS_OF_ALL_MODULES = (
    *("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks"),
)


def reach(roots: Iterable[object], parameters: Iterable[Tensor] = ()) -> Places:
    """Find the places that programs can reach, and note what they hold now.

    Args:
        roots: where the walk starts: functions, methods, modules and other objects.
        parameters: tensors whose hooks are watched too.

    Returns:
        The places.
    """
    roots, parameters = list(roots), list(parameters)
    names = set(CALLED_BY_LIBRARIES)
    while True:  # code names attributes, which lead to more code
        before = len(names)
        places = _Walk(names).from_all(roots, parameters)
        if len(names) == before:
            places.note()
            return places


class _Walk:
    """One walk.

    Args:
        names: the names in code that can run; the walk adds the names that it finds.
    """

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.places = Places()
        self._seen: dict[int, object] = {}  # holds them: while they live, no other object gets the same id
        self._classes: set[tuple[type, bool]] = set()
        self._elements = 0  # of arrays
        self._ahead: collections.deque[tuple[object, str, int]] = collections.deque()

    def from_all(self, roots: list[object], parameters: list[Tensor]) -> Places:
        """Follow everything, and return the places."""
        for name in _HOOKS_OF_ALL_MODULES:
            self._see(getattr(torch_module, name, None), "the hooks of all modules", 0)
        for parameter in {id(p): p for p in parameters}.values():
            self.places.hooks(parameter)
            self._see(parameter._backward_hooks, "the hooks of a parameter", 0)
        for root in roots:
            self._see(root, _name(root), 0)
        while self._ahead:
            thing, where, links = self._ahead.popleft()
            self._enter(thing, where, links + 1)
        return self.places

    def _see(self, thing: object, where: str, links: int) -> None:
        """Put an object on the list of those to enter."""
        if isinstance(thing, _NOTHING_INSIDE) or id(thing) in self._seen:
            return
        if links < _MOST_LINKS and len(self._seen) < _MOST_THINGS:
            self._seen[id(thing)] = thing
            self._ahead.append((thing, where, links))

    def _enter(self, thing: object, where: str, links: int) -> None:
        if isinstance(thing, _NOT_ENTERED):
            return
        kind, enter = next((kind, enter) for kind, enter in _KINDS if isinstance(thing, kind))
        enter(self, thing, where, links)
        if kind in (_CONTAINERS, tuple):
            self.instance(thing, where, links)  # a container of a user's class may have attributes too

    # Code.

    def function(self, function: types.FunctionType, where: str, links: int) -> None:
        name = function.__qualname__
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.places.cell(cell, f"{variable!r} of {name}")
            self._see(contents(cell), f"{variable!r} of {name}", links)
        for default in (function.__defaults__, function.__kwdefaults__):
            self._see(default, f"the defaults of {name}", links)
        self._see(function.__dict__ or None, f"the attributes of {name}", links)
        if is_users(function):
            self.places.function(function)
            self._code(function.__code__, function.__globals__, links)

    def _code(self, code: types.CodeType, variables: dict[str, Any], links: int) -> None:
        """Enter the globals and the modules that code names."""
        # The names of sites are strings too, so strings count only if code looks names up.
        names = names_in(code, strings=bool(self.names & LOOKS_NAMES_UP))
        self.names |= names
        for name in sorted(names & variables.keys()):
            self._variable(variables, name, f"the global {name!r}", links)
        for name in sorted(names & sys.modules.keys()):  # it may import them
            self._see(sys.modules[name], f"module {name}", links)

    def module_of_code(self, module: types.ModuleType, where: str, links: int) -> None:
        """Enter the variables of a user's module that code names."""
        if is_users(module):
            for name in sorted(self.names & vars(module).keys()):
                self._variable(vars(module), name, f"{name!r} of module {module.__name__}", links)

    def _variable(self, variables: dict[str, Any], name: str, where: str, links: int) -> None:
        self.places.variable(variables, name, where)
        self._see(variables[name], where, links)

    def method(self, method: types.MethodType, where: str, links: int) -> None:
        self._see(method.__func__, where, links)
        self._see(method.__self__, where, links)

    def cached(self, cached: functools._lru_cache_wrapper[Any], where: str, links: int) -> None:
        """Enter a function with a cache, in which a run may leave something."""

        def sizes() -> tuple[int, int]:
            return cached.cache_info().misses, cached.cache_info().currsize

        self.places.state(id(cached), sizes, lambda _: cached.cache_clear(), f"the cache of {where}")
        self._see(cached.__wrapped__, where, links)

    def reference(self, reference: weakref.ref[Any], where: str, links: int) -> None:
        """Enter the object behind a weak reference."""
        self._see(reference(), where, links)

    def reader(self, reader: operator.attrgetter[Any], where: str, links: int) -> None:
        """Add the names of the attributes that an ``attrgetter`` reads."""
        self.names |= {part for name in reader.__reduce__()[1] for part in name.split(".")}

    def view(self, view: Iterable[Any], where: str, links: int) -> None:
        """Enter the dictionary behind a view."""
        for thing in gc.get_referents(view):
            self._see(thing, where, links)

    def built_in(self, method: types.BuiltinMethodType, where: str, links: int) -> None:
        """Enter the object that a built-in method belongs to, such as a list."""
        if not isinstance(method.__self__, types.ModuleType):
            self._see(method.__self__, where, links)

    def partial(self, partial: functools.partial[Any], where: str, links: int) -> None:
        for part in (partial.func, *partial.args, partial.keywords):
            self._see(part, f"an argument of {_name(partial.func)}", links)

    def descriptor(self, descriptor: property | staticmethod[..., Any], where: str, links: int) -> None:
        for name in ("__func__", "fget", "func"):
            self._see(getattr(descriptor, name, None), where, links)

    # Containers and values.

    def container(self, thing: Container, where: str, links: int, by_user: bool = True) -> None:
        if len(thing) > _MOST_ELEMENTS:
            self.places.size(thing, f"elements of {where}", by_user)
            return
        self.places.container(thing, where, by_user)
        for key, value in list(thing.items() if isinstance(thing, dict) else enumerate(thing)):
            self._see(value, f"{where}[{key!r}]" if isinstance(key, (str, int)) else where, links)

    def elements(self, thing: tuple[Any, ...], where: str, links: int) -> None:
        for element in thing[:_MOST_ELEMENTS]:
            self._see(element, where, links)

    def numpy_array(self, values: np.ndarray[Any, Any], where: str, links: int) -> None:
        self._elements += values.size
        if values.dtype != object and self._elements <= _MOST_NUMBERS:
            self.places.array(values, where)

    def generator(self, generator: random.Random | _NumpyGenerator, where: str, links: int) -> None:
        """Watch the state of a random number generator of Python or NumPy."""
        if isinstance(generator, random.Random):
            self.places.state(id(generator), generator.getstate, generator.setstate, f"the state of {where}")
        else:
            self.places.state(id(generator), *_state_of_numpy(generator), f"the state of {where}")

    def buffer(self, thing: bytearray | memoryview | array.array[Any], where: str, links: int) -> None:
        """Watch the contents of a bytearray, an array or a memoryview."""

        def put(value: bytes) -> None:
            _overwrite(thing, value)

        self.places.state(id(thing), lambda: bytes(thing), put, where)

    def iterator(self, iterator: collections.abc.Iterator[Any], where: str, links: int) -> None:
        if is_users(type(iterator)):
            self.instance(iterator, where, links)
        else:
            self.places.iterators.append(where)

    def tensor(self, tensor: Tensor, where: str, links: int) -> None:
        """Watch the attributes that the user has given to a tensor."""
        attributes = getattr(tensor, "__dict__", {})
        for name in sorted(attributes.keys() & self.names):
            self._attribute(tensor, attributes, name, links, by_user=True)

    # Objects.

    def module(self, module: nn.Module, where: str, links: int) -> None:
        self.places.modules.append(module)
        by_user = is_users(type(module))
        for name in _IN_MODULES:
            self._inner(vars(module).get(name), type(module).__name__, links, by_user)
        self.instance(module, where, links)

    def _inner(self, container: object, where: str, links: int, by_user: bool) -> None:
        """Enter a container that an object holds."""
        if id(container) not in self._seen and isinstance(container, _CONTAINERS):
            self._seen[id(container)] = container
            self.container(container, where, links, by_user)

    def instance(self, thing: object, where: str, links: int) -> None:
        cls: type = type(thing)
        attributes: Any = getattr(thing, "__dict__", None)
        if isinstance(thing, _NAMESPACES):
            self._see(attributes, where, links)
        elif is_users(cls):
            self.places.kind(thing)
            if attributes is not None:
                self.places.size(attributes, f"attributes of {cls.__name__}", True, self._named_ones(cls))
            self.user_class(cls, where, links, made=False)
            self._slots(thing, cls, links)
            for name in self._named(thing, cls, attributes) if attributes is not None else ():
                self._attribute(thing, attributes, name, links, by_user=True)
        elif is_entered(cls) and attributes is not None:
            self.places.size(attributes, f"attributes of {cls.__name__}", by_user=False)
            for name in attributes.keys() - _of_module(thing):
                self._attribute(thing, attributes, name, links, by_user=False)

    def _named_ones(self, cls: type) -> set[str] | None:
        """Return the names of the attributes that code may read of the user's objects of a class; None for any."""
        # A module may read its parts by names that it composes, but its parts are watched anyway.
        any_name = self.names & (READ_BY_ANY_NAME - ({"getattr"} if issubclass(cls, nn.Module) else set()))
        return None if any_name or has_other_readers(cls) else self.names

    def _named(self, thing: Any, cls: type, attributes: dict[str, Any]) -> list[str]:
        """Return the attributes of the user's object, or of its class, that code may read."""
        there = attributes.keys() | {name for base in cls.__mro__ if is_users(base) for name in vars(base)}
        named = self._named_ones(cls)
        return sorted((there if named is None else there & named) - _of_module(thing))

    def _attribute(self, owner: object, attributes: dict[str, Any], name: str, links: int, by_user: bool) -> None:
        where = f"{name!r} of {type(owner).__name__}"
        self.places.attribute(owner, name, where, by_user)
        if not by_user:
            self._inner(attributes[name], where, links, by_user=False)
        self._see(attributes.get(name), where, links)

    def user_class(self, cls: type, where: str, links: int, made: bool = True) -> None:
        """Enter what code may read of a user's class, and the methods that may run.

        Args:
            cls: the class.
            where: in words, where it was found.
            links: the number of links between a program and the class.
            made: True if code may make objects of the class.
        """
        if (cls, made) in self._classes:
            return
        self._classes.add((cls, made))
        if is_users(type(cls)):
            self.user_class(type(cls), where, links, made)
        self.places.bases(cls)
        bases = [base for base in cls.__mro__ if is_users(base)]
        names = {name for base in bases for name in vars(base) if may_be_used(cls, name, self.names, made)}
        for base in bases:
            for name in sorted(names):
                what = f"{name!r} of class {base.__name__}"
                self.places.attribute(base, name, what, by_user=True)
                self._see(vars(base).get(name), what, links)

    def _slots(self, thing: object, cls: type, links: int) -> None:
        for base in cls.__mro__:
            for name, slot in vars(base).items():
                if isinstance(slot, types.MemberDescriptorType) and name in self.names:
                    self.places.slot(thing, slot, f"{name!r} of {cls.__name__}")
                    self._see(getattr(thing, name, None), f"{name!r} of {cls.__name__}", links)


# The first kind that fits an object says how it is entered.
_KINDS: list[tuple[type | tuple[type, ...], Callable[..., None]]] = [
    (types.FunctionType, _Walk.function),
    (types.MethodType, _Walk.method),
    ((functools.partial, functools.partialmethod), _Walk.partial),
    (type(functools.cache(len)), _Walk.cached),
    (weakref.ref, _Walk.reference),
    (operator.attrgetter, _Walk.reader),
    ((types.MappingProxyType, *map(type, ({}.keys(), {}.values(), {}.items()))), _Walk.view),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _Walk.built_in),
    (types.ModuleType, _Walk.module_of_code),
    ((staticmethod, classmethod, property, functools.cached_property), _Walk.descriptor),
    (type, _Walk.user_class),
    (nn.Module, _Walk.module),
    (_CONTAINERS, _Walk.container),
    (tuple, _Walk.elements),
    (Tensor, _Walk.tensor),
    (np.ndarray, _Walk.numpy_array),
    ((bytearray, memoryview, array.array), _Walk.buffer),
    ((random.Random, np.random.Generator, np.random.RandomState), _Walk.generator),
    (collections.abc.Iterator, _Walk.iterator),
    (object, _Walk.instance),
]


def _name(program: object) -> str:
    named = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, type)
    return program.__qualname__ if isinstance(program, named) else type(program).__name__


def _of_module(thing: object) -> set[str]:
    """Return the attributes that every module has; they are watched in another way."""
    return _OF_ALL_MODULES if isinstance(thing, nn.Module) else set()


def _state_of_numpy(generator: _NumpyGenerator) -> tuple[Callable[[], bytes], Callable[[bytes], None]]:
    """Return functions that read and write the state as bytes, which can be compared."""

    def get() -> bytes:
        if isinstance(generator, np.random.Generator):
            return pickle.dumps(generator.bit_generator.state)
        return pickle.dumps(generator.get_state())

    def put(state: bytes) -> None:
        found = pickle.loads(state)  # our own bytes, from the lines above
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = found
        else:
            generator.set_state(found)

    return get, put


def _overwrite(thing: bytearray | memoryview | array.array[Any], value: bytes) -> None:
    if isinstance(thing, memoryview):
        thing.cast("B")[:] = value
        return
    del thing[:]
    thing.extend(value) if isinstance(thing, bytearray) else thing.frombytes(value)
