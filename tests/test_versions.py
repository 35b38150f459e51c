"""Versions: the lowest that are tested are the lowest that pyproject.toml allows; the library's own has one place."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

import pyro_vae

SOURCE = Path(__file__).parents[1]


def test_every_floor_is_tested():
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    tested = [name for name in extras if name not in ("bench", "docs")]
    needed = [
        Requirement(line) for line in (*project["dependencies"], *(line for name in tested for line in extras[name]))
    ]
    floors = {r.name.lower(): Version(str(r.specifier).removeprefix(">=")) for r in needed if r.specifier}
    lines = (SOURCE / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.lower().split("==") for line in lines if not line.startswith("#")]
    pinned = {name: Version(version) for name, version in pins}
    assert "torch" in floors
    assert {name: pinned.get(name) for name in floors} == floors


def test_the_readme_says_which_python():
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = project["requires-python"].removeprefix(">=")
    assert f"With Python {lowest} or newer" in (SOURCE / "README.md").read_text(encoding="utf-8")


def test_the_changelog_has_the_version():
    assert f"\n## [{pyro_vae.__version__}] - " in (SOURCE / "CHANGELOG.md").read_text(encoding="utf-8")
