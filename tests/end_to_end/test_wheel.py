"""What is built of the source is whole: it is installed somewhere else, and trains there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]


def run(*command, cwd, **environment):
    """What a command prints; it needs no network."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(target, source, into):
    """The one file that hatchling makes."""
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", into, cwd=source)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build("sdist", SOURCE, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the source distribution, which must have all that is needed."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = SOURCE / "pyro_vae"
    expected = {p.relative_to(SOURCE).as_posix() for p in package.rglob("*") if p.suffix in (".py", ".typed")}
    assert "pyro_vae/py.typed" in expected
    assert names == expected


def test_the_source_distribution_holds_what_tests_it(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CONTRIBUTING.md", "pyproject.toml", ".ci/run", ".ci/lowest.txt"} <= names
    assert {p.relative_to(SOURCE).as_posix() for p in (SOURCE / "tests").rglob("*.py")} <= names


def test_a_wheel_installed_elsewhere_trains(wheel, tmp_path):
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=here)
    path = {"PYTHONPATH": str(site)}  # before the source, which may be installed too
    where = run(sys.executable, "-c", "import pyro_vae; print(pyro_vae.__file__)", cwd=here, **path)
    assert Path(where.strip()) == site / "pyro_vae" / "__init__.py"
    options = ["--epochs", "1", "--hidden", "[4]", "--latent_dim", "2", "--batch_size", "500"]
    said = run(site / "bin" / "pyro-vae", "train", *options, cwd=here, **path)
    (folder,) = (here / "runs").iterdir()
    assert str(Path("runs") / folder.name) in said
    assert {"config.yaml", "history.jsonl", "last.safetensors"} <= {file.name for file in folder.iterdir()}
