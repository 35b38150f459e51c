"""Data from functions of the user's, named by their module or file."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pyro_vae import data
from pyro_vae.cli import main
from pyro_vae.cli.arguments import modules_named
from pyro_vae.data import BadDataError
from pyro_vae.data.functions import home_of
from pyro_vae.registry import NotAllowedError, allowing
from tests.data.parts import parts_of, rows_of

X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = np.arange(200) % 4
TRAIN = ["--epochs", "1", "--hidden", "4", "--latent_dim", "2"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a file of Python into the working directory; its modules are forgotten afterwards.

    Others are not: a test that comes later would have a second matplotlib beside parts of the first.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name, text):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import numpy as np\n" + textwrap.dedent(text))
        return name

    yield write
    for name in set(sys.modules) - before:
        place = getattr(sys.modules[name], "__file__", None) or ""
        if Path(place).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "home"),
    [
        ("mine:make", "mine"),
        ("a.b.c:make", "a.b.c"),
        ("mine.py:make", "mine.py"),
        ("../my data/mine.py:make", "../my data/mine.py"),
        (r"C:\my data\mine.py:make", r"C:\my data\mine.py"),
        (r"C:\my data\wine.csv", None),
        ("C:/data", None),
        ("wine.csv", None),
        ("digits", None),
        ("sklearn:wine", None),
        ("torchvision:CIFAR10", None),
        ("hf:user/name", None),
        ("hf:squad:plain_text", None),
        ("mine.py:", None),
        ("mine.py:make()", None),
    ],
)
def test_what_names_a_function(source, home):
    assert home_of(source) == home


def test_a_drive_of_windows_is_no_module(monkeypatch):
    monkeypatch.setattr("pyro_vae.data.functions._ON_WINDOWS", True)
    assert home_of("C:wine") is None


def test_a_function_of_a_file_gives_what_its_array_in_a_file_gives(written, tmp_path):
    np.save("x.npy", X)
    name = written("mine.py", "def make():\n    return np.load('x.npy')\n")
    for source in (f"{name}:make", f"{tmp_path / name}:make", "mine:make"):
        found = data.load(source)
        assert rows_of(found) == rows_of(data.load("x.npy"))
        assert found.train.name == source


def test_a_function_of_a_package_and_a_class(written):
    written("package/__init__.py", "")
    written("package/inner.py", "def make():\n    return np.eye(30)\n")
    assert data.load("package.inner:make").event_shape == (30,)
    written(
        "mine.py",
        """
        from dataclasses import dataclass
        from torch.utils.data import Dataset

        @dataclass
        class Ones(Dataset):
            n: int = 50

            def __len__(self):
                return self.n

            def __getitem__(self, i):
                return np.full(2, float(i))
        """,
    )
    assert sum(map(len, parts_of(data.load("mine.py:Ones")))) == 50


def test_a_file_is_read_anew_and_finds_its_neighbours(written, tmp_path, monkeypatch):
    written("here/beside_mine.py", "SIZE = 2\n")
    written("here/mine.py", "from beside_mine import SIZE\n\ndef make():\n    return np.random.rand(90, SIZE)\n")
    path = list(sys.path)
    assert data.load("here/mine.py:make").event_shape == (2,)
    written(
        "here/mine.py", "def make():\n    import beside_mine\n    return np.random.rand(90, beside_mine.SIZE + 1)\n"
    )
    assert data.load("here/mine.py:make").event_shape == (3,)
    assert sys.path == path


def test_a_file_hides_no_module(written):
    import random

    written("random.py", "def make():\n    return np.eye(90)\n")
    data.load("random.py:make")
    assert sys.modules["random"] is random


def test_random_numbers_are_the_same_each_time_and_left_as_they_were(written):
    name = written("mine.py", "import torch\n\ndef make():\n    return torch.randn(100, 2) + np.random.rand()\n")
    first = data.load(f"{name}:make")
    before = torch.random.get_rng_state()
    assert data.load(f"{name}:make").train.fingerprint() == first.train.fingerprint()
    assert torch.equal(torch.random.get_rng_state(), before)


BROKEN = """
import os
from functools import partial
from json import loads

def needs(path, *, size): return path
def optional(path="x", *rest, **more): return np.eye(30)
def divides():
    return 1 / 0
def reads():
    return np.load("nothing.npy")
def nothing(): pass
def text(): return "digits"
def ragged(): return [np.zeros(3), np.ones(3)]
some = [1, 2, 3]
half = partial(optional, "y")
"""


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere/mine.py:divides", FileNotFoundError, "there is no file nowhere/mine.py"),
        ("mien.py:divides", FileNotFoundError, "mien.py:divides: there is no file mien.py. Did you mean mine.py?"),
        ("mine.py:divide", BadDataError, "mine.py has no function divide; it has needs, .*Did you mean divides?"),
        ("empty.py:make", BadDataError, "empty.py has no function make; it has none"),
        ("nowhere_at_all:make", BadDataError, "nowhere_at_all:make: there is no module nowhere_at_all"),
        ("pakage.inner:make", BadDataError, "there is no module pakage. Did you mean package?"),
        ("package.iner:make", BadDataError, "there is no module package.iner. Did you mean package.inner?"),
        ("sklern:wine", BadDataError, "there is no module sklern. Did you mean sklearn?"),
        ("mine.py:needs", BadDataError, "is called without arguments, and needs path, size. Give them defaults, or"),
        ("mine.py:some", BadDataError, "mine.py:some must be a function that returns the data; got list"),
        ("mine.py:loads", BadDataError, "mine.py:loads was defined in json. Name it there"),
        ("mine.py:half", BadDataError, "mine.py:half was defined in functools"),
        ("mine.py:divides", BadDataError, r"raised ZeroDivisionError: division by zero \(.*mine.py, line 10\)"),
        ("mine.py:reads", BadDataError, r"raised FileNotFoundError: .*nothing.npy.*mine.py, line 12\)"),
        ("mine.py:nothing", BadDataError, "mine.py:nothing must be a tensor, .* three|train, valid and test; got None"),
        ("mine.py:text", BadDataError, "mine.py:text must be a tensor, .*; got a str"),
        ("mine.py:ragged", BadDataError, "may give labels beside x, .*; got a ndarray of shape (3,)|whole numbers"),
        ("imports.py:make", BadDataError, r"raised ModuleNotFoundError: .*'no_such_thing' \(.*imports.py, line 2\)"),
        ("syntax.py:make", BadDataError, r"raised SyntaxError: .*\(.*syntax.py, line 3\)"),
        ("leaves.py:make", BadDataError, r"raised SystemExit: 3 \(.*leaves.py, line 3\)"),
    ],
)
def test_what_is_wrong_is_said(written, source, error, message):
    written("mine.py", BROKEN)
    written("empty.py", "")
    written("package/__init__.py", "")
    written("package/inner.py", "")
    written("imports.py", "import no_such_thing\n")
    written("syntax.py", "\ndef make() return 1\n")
    written("leaves.py", "import sys\nsys.exit(3)\n")
    with pytest.raises(error, match=message):
        data.load(source)


def test_errors_that_are_not_of_the_users_code_are_as_elsewhere(written):
    written("mine.py", BROKEN)
    for option in ("label", "size"):
        with pytest.raises(ValueError, match=f"^{option} is for .*; mine.py:optional gives a ndarray$"):
            data.load("mine.py:optional", **{option: "8"})
    written("sets.py", "class Set:\n    pass\n" + SET)
    with pytest.raises(BadDataError, match=r"sets.py:Set raised KeyError: 3 \(.*sets.py, line 12\)"):
        data.load("sets.py:Set")


SET = """
from torch.utils.data import Dataset

class Set(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, i):
        return {0: np.zeros(2), 1: np.ones(2), 2: np.ones(2)}[i]
"""


def test_what_needs_no_argument_is_called(written):
    written("mine.py", BROKEN)
    assert data.load("mine.py:optional").event_shape == (30,)


def test_a_path_that_exists_is_no_function(written, tmp_path):
    written("mine.py", "raise RuntimeError\n")
    Path("mine.py:make").write_text("")
    with pytest.raises(ValueError, match="mine.py:make is a file of another kind"):
        data.load("mine.py:make")
    assert modules_named(["train", "--data", "mine.py:make"]) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--data", "mine.py:make"], ["mine.py"]),
        (["train", "--data=a.b:make", "--prior", "c.Prior"], ["a.b", "c"]),
        (["evaluate", "runs/x", "--against", "mine:make"], ["mine"]),
        (["data", "mine.py:make"], ["mine.py"]),
        (["score", "runs/x", "mine.py:make", "--flag", "0.1"], ["mine.py"]),
        (["sweep", "s", "data=a.py:make,b.py:make"], ["a.py", "b.py"]),
        (["train", "--data", "sklearn:wine"], []),
        (["train", "--out", "mine:make"], []),
        (["train", "--config", "{data: mine.py:make}"], []),
    ],
)
def test_the_command_line_names_its_modules(arguments, named):
    assert sorted(modules_named(arguments)) == named


def test_only_what_the_call_names_is_imported(written):
    for name in ("mine.py", "other.py"):
        written(name, "open('imported', 'w').close()\n\ndef make():\n    return np.eye(30)\n")
    for source in ("mine.py:make", "./mine.py:make", "mine:make"):
        with (
            allowing(["other", "other.py", "mine_too"]),
            pytest.raises(NotAllowedError, match="only if this call names"),
        ):
            data.load(source)
    assert not Path("imported").exists()
    with allowing("./mine.py"):
        assert data.load(f"{Path.cwd()}/mine.py:make").event_shape == (30,)
    with pytest.raises(ValueError, match="allow must name modules, such as my_module, my_package.parts or my_data.py"):
        allowing("mine.txt/x").__enter__()


def test_later_commands_on_a_run_name_the_function_again(written, capsys):
    written("mine.py", "def make():\n    return np.arange(300.0).reshape(100, 3)\n")
    assert main(["train", "--data", "mine.py:make", "--out", "r", *TRAIN]) == 0
    assert "pyro-vae evaluate r --allow mine.py " in capsys.readouterr().out
    assert yaml.safe_load(Path("r/config.yaml").read_text())["data"] == f"{Path.cwd()}/mine.py:make"
    Path("mine.py").write_text("open('imported', 'w').close()\n" + Path("mine.py").read_text())
    for command in (["evaluate", "r"], ["train", "--resume", "r"], ["train", "--config", "r/config.yaml"]):
        assert main(command) == 2
        assert f"If you trust it, add --allow {Path.cwd()}/mine.py" in capsys.readouterr().err
    assert not Path("imported").exists()
    assert main(["evaluate", "r", "--allow", "mine.py"]) == 0
    assert Path("imported").exists()
    assert main(["evaluate", "r", "--data", "mine.py:make"]) == 0
