"""The public names: the same whatever was imported before."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pyro_vae

MODULES = {
    "checks", "closed_forms", "data", "evaluation", "likelihoods", "mask_likelihoods",
    "nets", "objectives", "plots", "posteriors", "priors", "svi", "training",
}  # fmt: skip


# A process with torch and Pyro, whose children run programs and tell what they print: the import takes seconds.
SERVER = """
import contextlib, io, json, os, sys, traceback
import torch, pyro

assert not any(name.startswith("pyro_vae") for name in sys.modules)
for line in sys.stdin:
    if pid := os.fork():
        os.waitpid(pid, 0)
        continue
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(json.loads(line), {})
        error = ""
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([said.getvalue(), error]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def in_a_process():
    """A function that runs a program where nothing of ours was imported before, and returns what it prints."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def run(program):
            print(json.dumps(program), file=server.stdin, flush=True)
            said, error = json.loads(server.stdout.readline())
            assert not error, error
            return said.strip()

        yield run
        server.stdin.close()


@pytest.mark.parametrize("name", pyro_vae.__all__)
def test_each_name_is_there_and_only_rooms_are_modules(name):
    assert isinstance(getattr(pyro_vae, name), ModuleType) == (name in MODULES)


def test_dir_shows_the_public_names_alone():
    assert set(dir(pyro_vae)) == {*pyro_vae.__all__, "__doc__", "__version__"}


@pytest.mark.parametrize("first", ["pyro_vae.bound", "pyro_vae.suggestions.tables"])
def test_what_was_imported_before_changes_nothing(in_a_process, first):
    program = f"""
import {first}
import pyro_vae
before = dir(pyro_vae)
kinds = [type(getattr(pyro_vae, name)).__name__ for name in pyro_vae.__all__]
assert dir(pyro_vae) == before
print(pyro_vae.elbo(3.0, 1.0), callable(pyro_vae.suggest), pyro_vae.checks.__name__, *kinds)
"""
    kinds = [type(getattr(pyro_vae, name)).__name__ for name in pyro_vae.__all__]
    assert in_a_process(program) == " ".join(["2.0 True pyro_vae.checks", *kinds])


def test_rooms_show_their_parts_alone():
    for name in ("priors", "likelihoods", "posteriors", "nets"):
        room = getattr(pyro_vae, name)
        assert all(isinstance(getattr(room, part), type) for part in room.__all__)


@pytest.mark.parametrize("module", ["pyro_vae", "pyro_vae.evaluation", "pyro_vae.suggestions", "pyro_vae.closed_forms"])
def test_importing_leaves_slow_libraries_for_later(in_a_process, module):
    program = f"import sys, {module}; print(sorted({{'matplotlib', 'rich', 'scipy', 'sklearn'}} & set(sys.modules)))"
    assert in_a_process(program) == "[]"


def test_a_vae_needs_neither_objectives_nor_every_part(in_a_process):
    """It takes any part that returns a distribution, so it lies below the rooms of parts."""
    above = ("bound", "checkpoints", "compatibility", "config", "evaluation", "likelihoods", "objectives", "posteriors")
    above = {f"pyro_vae.{name}" for name in (*above, "priors", "suggestions", "training")}
    assert all(importlib.util.find_spec(name) for name in above)
    assert not above & {*in_a_process("import sys, pyro_vae.vae; print(*sys.modules)").split()}


ROOT = Path(__file__).parent.parent
PROGRAMS = [
    str(p.relative_to(ROOT)) for room in ("benchmarks", "examples") for p in sorted((ROOT / room).rglob("*.py"))
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_beside_the_library_import_names_that_exist(program):
    for node in ast.walk(ast.parse((ROOT / program).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pyro_vae":
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}"), (
                    f"{node.module}.{name}"
                )
