"""Programs that read in each run what no rule can watch; the user changes it before one of the steps.

What they read is not reachable from model or guide by any name, or it is not kept in Python at all. Only running the
program again shows that its graph is stale.
"""

from __future__ import annotations

import contextvars
import ctypes
import decimal
import importlib
import os
import sqlite3
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from pathlib import Path

from tests.svi.drop_in.harness import Case, Program, table
from tests.svi.drop_in.tiny import data, guide, latent, seen

STEPS, CHANGED = 40, 21  # the user changes something before this step, counted from 1

STALE: dict[str, Case] = {}
stale = table(STALE)


def reading(
    read: Callable[[], float], change: Callable[[], object], undo: Callable[[], object] = lambda: None
) -> Program:
    """A prior scaled by a number that each run reads; ``undo`` restores the process."""

    def model(x):
        seen(latent(read()), x)

    def steps(svi):
        try:
            for step in range(1, STEPS + 1):
                if step == CHANGED:
                    change()
                yield svi.step(data())
        finally:
            undo()

    return Program(model, guide, steps)


@stale("stale", "either")
def variable_of_the_environment():
    name = "PYRO_VAE_TESTS_BETA"
    os.environ[name] = "1.0"
    return reading(
        lambda: float(os.environ[name]), lambda: os.environ.update({name: "10.0"}), lambda: os.environ.pop(name)
    )


@stale("stale", "either")
def file():
    handle, path = tempfile.mkstemp()
    os.close(handle)
    options = Path(path)
    options.write_text("1.0")
    return reading(lambda: float(options.read_text()), lambda: options.write_text("10.0"), options.unlink)


@stale("stale", "either")
def registry_of_a_library():
    """Found by the name of its module, like a plug-in; the programs hold only strings."""
    name = "a_library_with_a_registry"
    library = types.ModuleType(name)
    exec("OPTIONS = {'beta': 1.0}\ndef option(name):\n    return OPTIONS[name]\n", vars(library))
    sys.modules[name] = library
    return reading(
        lambda: importlib.import_module(name).option("beta"),
        lambda: sys.modules[name].OPTIONS.update(beta=10.0),
        lambda: sys.modules.pop(name),
    )


@stale("stale", "either")
def memory_at_an_address():
    """Like the state of a C library."""
    cell = ctypes.c_double(1.0)
    address = ctypes.addressof(cell)

    def change():
        cell.value = 10.0  # which also keeps the memory alive

    return reading(lambda: ctypes.c_double.from_address(address).value, change)


@stale("stale", "either")
def variable_of_the_context():
    beta = contextvars.ContextVar("beta")
    beta.set(1.0)
    return reading(beta.get, lambda: beta.set(10.0))


@stale("stale", "either")
def value_of_the_thread():
    local = threading.local()
    local.beta = 1.0

    def change():
        local.beta = 10.0

    return reading(lambda: local.beta, change)


@stale("stale", "either")
def precision_of_decimals():
    before = decimal.getcontext().copy()
    decimal.getcontext().prec = 8

    def change():
        decimal.getcontext().prec = 1

    return reading(
        lambda: 150 * float(decimal.Decimal(2) / decimal.Decimal(3) - decimal.Decimal("0.66")),
        change,
        lambda: decimal.setcontext(before),
    )


@stale("stale", "either")
def row_of_a_database():
    database = sqlite3.connect(":memory:")
    database.execute("create table options as select 1.0 as beta")
    return reading(
        lambda: database.execute("select beta from options").fetchone()[0],
        lambda: database.execute("update options set beta = 10.0"),
        database.close,
    )
