"""What the programs of a step can reach in Python, so that a change of it is seen.

The walk starts at the model, the guide and the loss. It follows what Python would: the variables that a function shares
with others, the globals and attributes that it names, what it wraps; the attributes of objects and of the user's
classes; what containers hold. Of an object of the user's own it looks at those attributes alone whose names stand in
code that the programs can run: what a trainer notes beside them does not matter. It ends in tensors, and in what torch,
Pyro and other libraries keep to themselves.
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
from abc import ABC
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol

import numpy as np
import pyro
import torch
from pyro.infer import SVI
from pyro.nn import PyroModule
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from pyro_vae.svi.places import Places, contents

__all__ = ["reach"]

# The most links from a program, things, elements of a container, and numbers in all arrays together. The audit has to
# find what lies beyond.
_MOST_LINKS, _MOST_THINGS, _MOST_ELEMENTS, _MOST_NUMBERS = 30, 20_000, 1_000, 1 << 16
_ENTERED = {"torch", "pyro", "zuko", "pyro_vae", "sklearn"}  # libraries whose objects are looked at, but not their code
_LIBRARIES = _ENTERED | sys.stdlib_module_names - {"__main__"}
_LIBRARIES |= {"torchvision", "numpy", "scipy", "pandas", "matplotlib", "PIL", "rich", "tqdm", "pytest"}
_NOTHING_INSIDE = (type(None), bool, int, float, complex, str, bytes)
# These change in each step, or have nothing that a program reads.
_NOT_ENTERED = (torch.optim.Optimizer, PyroOptim, SVI, torch.Generator, type(pyro.get_param_store()), io.IOBase)
_NAMESPACES = (
    *(types.SimpleNamespace, argparse.Namespace, collections.UserDict, collections.UserList, collections.ChainMap),
)
_CONTAINERS = (dict, list, set, collections.deque)
_IN_MODULES = (
    *("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"),
    *("_backward_pre_hooks", "_pyro_samples", "_pyro_params"),
)
_OF_ALL_MODULES = {*vars(nn.Module()), *_IN_MODULES}
_HOOKS_OF_ALL_MODULES = (
    *("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks"),
)
# Bases that read no attribute of the user's own by its name; others, such as Trace_ELBO, do.
_SILENT_BASES = {object, nn.Module, PyroModule, ABC, Generic, Protocol, tuple, *_CONTAINERS}
_READ_BY_ANY_NAME = {"getattr", "vars", "__dict__", "eval", "exec", "globals", "locals", "__getattribute__"}
_LOOKS_NAMES_UP = _READ_BY_ANY_NAME | {"hasattr", "attrgetter", "import_module", "__import__", "__globals__", "sys"}
_CALLED_BY_LIBRARIES = {"forward", "__call__"}
_WHEN_MADE = {"__init__", "__new__", "__post_init__"}
_BY_PYTHON = {f"__{name}__" for name in dir(operator) if name.islower() and not name.startswith("_")} | {
    *("__call__", "__enter__", "__exit__", "__getattr__", "__getattribute__", "__getitem__", "__iter__", "__next__"),
    *("__len__", "__bool__", "__float__", "__int__", "__index__", "__array__", "__get__", "__radd__", "__rmul__"),
    *("__rsub__", "__rtruediv__", "__hash__", "__torch_function__"),
}


def reach(roots: Iterable[Any], parameters: Iterable[Tensor] = ()) -> Places:
    """Finds the places that programs can reach, and notes what they hold now.

    Args:
        roots: where the walk starts: functions, methods, modules and other objects.
        parameters: tensors whose hooks are looked at too.

    Returns:
        The places.
    """
    roots, parameters = list(roots), list(parameters)
    names = set(_CALLED_BY_LIBRARIES)
    while True:  # code names attributes, which lead to more code
        before = len(names)
        places = _Walk(names).from_all(roots, parameters)
        if len(names) == before:
            places.note()
            return places


class _Walk:
    """One walk.

    Args:
        names: the names in code that can run; the walk adds those that it finds.
    """

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.places = Places()
        self._seen: dict[int, Any] = {}  # holds them, so that no other gets the same id
        self._classes: set[tuple[type, bool]] = set()
        self._elements = 0  # of arrays
        self._ahead: collections.deque[tuple[Any, str, int]] = collections.deque()

    def from_all(self, roots: list[Any], parameters: list[Tensor]) -> Places:
        """Follows everything, and returns the places."""
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

    def _see(self, thing: Any, where: str, links: int) -> None:
        """Puts a thing on the list of those to enter."""
        if isinstance(thing, _NOTHING_INSIDE) or id(thing) in self._seen:
            return
        if links < _MOST_LINKS and len(self._seen) < _MOST_THINGS:
            self._seen[id(thing)] = thing
            self._ahead.append((thing, where, links))

    def _enter(self, thing: Any, where: str, links: int) -> None:
        if isinstance(thing, _NOT_ENTERED):
            return
        kind, enter = next((kind, enter) for kind, enter in _KINDS if isinstance(thing, kind))
        enter(self, thing, where, links)
        if kind in (_CONTAINERS, tuple):
            self.object(thing, where, links)  # that of a user's class may have attributes too

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
        """The globals and the modules that code names."""
        # Sites have names too, so strings count only where code looks names up.
        names = _names(code, strings=bool(self.names & _LOOKS_NAMES_UP))
        self.names |= names
        for name in sorted(names & variables.keys()):
            self._variable(variables, name, f"the global {name!r}", links)
        for name in sorted(names & sys.modules.keys()):  # which it may import
            self._see(sys.modules[name], f"module {name}", links)

    def module_of_code(self, module: types.ModuleType, where: str, links: int) -> None:
        """What code names of a module of the user's."""
        if _top(module.__name__) not in _LIBRARIES:
            for name in sorted(self.names & vars(module).keys()):
                self._variable(vars(module), name, f"{name!r} of module {module.__name__}", links)

    def _variable(self, variables: dict[str, Any], name: str, where: str, links: int) -> None:
        self.places.variable(variables, name, where)
        self._see(variables[name], where, links)

    def method(self, method: types.MethodType, where: str, links: int) -> None:
        self._see(method.__func__, where, links)
        self._see(method.__self__, where, links)

    def cached(self, cached: Any, where: str, links: int) -> None:
        """A function with a cache, in which a run may leave something."""

        def sizes() -> tuple[int, int]:
            return cached.cache_info().misses, cached.cache_info().currsize

        self.places.state(id(cached), sizes, lambda _: cached.cache_clear(), f"the cache of {where}")
        self._see(cached.__wrapped__, where, links)

    def reference(self, reference: Any, where: str, links: int) -> None:
        """What a weak reference leads to."""
        self._see(reference(), where, links)

    def reader(self, reader: operator.attrgetter[Any], where: str, links: int) -> None:
        """What reads attributes by their names."""
        self.names |= {part for name in reader.__reduce__()[1] for part in name.split(".")}

    def view(self, view: Any, where: str, links: int) -> None:
        """The dictionary behind it."""
        for thing in gc.get_referents(view):
            self._see(thing, where, links)

    def built_in(self, method: Any, where: str, links: int) -> None:
        """What a method of a container, say, is a method of."""
        if not isinstance(method.__self__, types.ModuleType):
            self._see(method.__self__, where, links)

    def partial(self, partial: functools.partial[Any], where: str, links: int) -> None:
        for part in (partial.func, *partial.args, partial.keywords):
            self._see(part, f"an argument of {_name(partial.func)}", links)

    def descriptor(self, descriptor: Any, where: str, links: int) -> None:
        for name in ("__func__", "fget", "func"):
            self._see(getattr(descriptor, name, None), where, links)

    # Containers and values.

    def container(self, thing: Any, where: str, links: int, by_user: bool = True) -> None:
        if len(thing) > _MOST_ELEMENTS:
            self.places.size(thing, f"elements of {where}", by_user)
            return
        self.places.container(thing, where, by_user)
        for key, value in list(thing.items() if isinstance(thing, dict) else enumerate(thing)):
            self._see(value, f"{where}[{key!r}]" if isinstance(key, (str, int)) else where, links)

    def tuple(self, thing: tuple[Any, ...], where: str, links: int) -> None:
        for element in thing[:_MOST_ELEMENTS]:
            self._see(element, where, links)

    def array(self, values: np.ndarray[Any, Any], where: str, links: int) -> None:
        self._elements += values.size
        if values.dtype != object and self._elements <= _MOST_NUMBERS:
            self.places.array(values, where)

    def generator(self, generator: Any, where: str, links: int) -> None:
        """A generator of random numbers, Python's or NumPy's."""
        python = isinstance(generator, random.Random)
        get, put = (generator.getstate, generator.setstate) if python else _state_of_numpy(generator)
        self.places.state(id(generator), get, put, f"the state of {where}")

    def bytes(self, thing: Any, where: str, links: int) -> None:
        """A bytearray, an array, or what looks into one."""
        self.places.state(id(thing), lambda: bytes(thing), lambda value: _overwrite(thing, value), where)

    def iterator(self, iterator: Any, where: str, links: int) -> None:
        if is_users(type(iterator)):
            self.object(iterator, where, links)
        else:
            self.places.iterators.append(where)

    def tensor(self, tensor: Tensor, where: str, links: int) -> None:
        """The attributes that the user has given it."""
        attributes = getattr(tensor, "__dict__", {})
        for name in sorted(attributes.keys() & self.names):
            self._attribute(tensor, attributes, name, links, by_user=True)

    # Objects.

    def module(self, module: nn.Module, where: str, links: int) -> None:
        self.places.modules.append(module)
        by_user = is_users(type(module))
        for name in _IN_MODULES:
            self._inner(vars(module).get(name), type(module).__name__, links, by_user)
        self.object(module, where, links)

    def _inner(self, container: Any, where: str, links: int, by_user: bool) -> None:
        """A container that an object holds."""
        if id(container) not in self._seen and isinstance(container, _CONTAINERS):
            self._seen[id(container)] = container
            self.container(container, where, links, by_user)

    def object(self, thing: Any, where: str, links: int) -> None:
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
        elif _top(cls.__module__) in _ENTERED and attributes is not None:
            self.places.size(attributes, f"attributes of {cls.__name__}", by_user=False)
            for name in attributes.keys() - _of_module(thing):
                self._attribute(thing, attributes, name, links, by_user=False)

    def _named_ones(self, cls: type) -> set[str] | None:
        """The names of attributes that code may read of the user's objects of a class; None for any."""
        # Where a module reads its parts by names that it puts together, these are looked at anyway.
        any_name = self.names & (_READ_BY_ANY_NAME - ({"getattr"} if issubclass(cls, nn.Module) else set()))
        return None if any_name or _libraries(cls) - _SILENT_BASES else self.names

    def _named(self, thing: Any, cls: type, attributes: dict[str, Any]) -> list[str]:
        """The attributes of the user's object, or of its class, that code may read."""
        there = attributes.keys() | {name for base in cls.__mro__ if is_users(base) for name in vars(base)}
        named = self._named_ones(cls)
        return sorted((there if named is None else there & named) - _of_module(thing))

    def _attribute(self, owner: Any, attributes: dict[str, Any], name: str, links: int, by_user: bool) -> None:
        where = f"{name!r} of {type(owner).__name__}"
        self.places.attribute(owner, name, where, by_user)
        if not by_user:
            self._inner(attributes[name], where, links, by_user=False)
        self._see(attributes.get(name), where, links)

    def user_class(self, cls: type, where: str, links: int, made: bool = True) -> None:
        """What code may read of a class of the user's, and its methods that may be run.

        Args:
            cls: the class.
            where: in words, where it was found.
            links: how many links it is away from a program.
            made: whether code may make objects of it.
        """
        if (cls, made) in self._classes:
            return
        self._classes.add((cls, made))
        if is_users(type(cls)):
            self.user_class(type(cls), where, links, made)
        self.places.bases(cls)
        bases = [base for base in cls.__mro__ if is_users(base)]
        names = {name for base in bases for name in vars(base) if self._may_be_used(cls, name, made)}
        for base in bases:
            for name in sorted(names):
                what = f"{name!r} of class {base.__name__}"
                self.places.attribute(base, name, what, by_user=True)
                self._see(vars(base).get(name), what, links)

    def _may_be_used(self, cls: type, name: str, made: bool) -> bool:
        """Whether code that can be reached reads a name of a class, or Python or a library does."""
        if name in self.names or _libraries(cls) - _SILENT_BASES:
            return name not in _WHEN_MADE or made
        if name.startswith("__") and name.endswith("__"):
            return name in _BY_PYTHON or (made and name in _WHEN_MADE)
        return any(name in vars(library) for library in _libraries(cls) - {object})

    def _slots(self, thing: Any, cls: type, links: int) -> None:
        for base in cls.__mro__:
            for name, slot in vars(base).items():
                if isinstance(slot, types.MemberDescriptorType) and name in self.names:
                    self.places.slot(thing, slot, f"{name!r} of {cls.__name__}")
                    self._see(getattr(thing, name, None), f"{name!r} of {cls.__name__}", links)


# The first kind that a thing is of says how it is entered.
_KINDS: list[tuple[Any, Callable[..., None]]] = [
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
    (tuple, _Walk.tuple),
    (Tensor, _Walk.tensor),
    (np.ndarray, _Walk.array),
    ((bytearray, memoryview, array.array), _Walk.bytes),
    ((random.Random, np.random.Generator, np.random.RandomState), _Walk.generator),
    (collections.abc.Iterator, _Walk.iterator),
    (object, _Walk.object),
]


def is_users(thing: Any) -> bool:
    """Whether a class or a function is the user's own, and of none of the libraries that programs are written with."""
    return _top(getattr(thing, "__module__", None)) not in _LIBRARIES


def _libraries(cls: type) -> set[type]:
    """The bases of a class that are not the user's."""
    return {base for base in cls.__mro__ if not is_users(base)}


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _name(program: Any) -> str:
    named = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, type)
    return program.__qualname__ if isinstance(program, named) else type(program).__name__


def _names(code: types.CodeType, strings: bool) -> set[str]:
    """The names in code, also those that it has as strings."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant, strings)
        elif strings and isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names


def _of_module(thing: Any) -> set[str]:
    """The attributes that every module has, which are looked at in another way."""
    return _OF_ALL_MODULES if isinstance(thing, nn.Module) else set()


def _state_of_numpy(generator: Any) -> tuple[Callable[[], bytes], Callable[[bytes], None]]:
    """Reads and writes the state as bytes, which can be compared."""

    def get() -> bytes:
        new = isinstance(generator, np.random.Generator)
        return pickle.dumps(generator.bit_generator.state if new else generator.get_state())

    def put(state: bytes) -> None:
        found = pickle.loads(state)  # our own, of the lines above
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = found
        else:
            generator.set_state(found)

    return get, put


def _overwrite(thing: Any, value: bytes) -> None:
    if isinstance(thing, memoryview):
        thing.cast("B")[:] = value
        return
    del thing[:]
    thing.extend(value) if isinstance(thing, bytearray) else thing.frombytes(value)
