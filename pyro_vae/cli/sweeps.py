"""Trainings over the values of options, each in its own process; finished trainings are not repeated."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pyro_vae.checkpoints import BEST, CONFIG, DATA, LAST
from pyro_vae.cli.options import Value
from pyro_vae.cli.words import as_word
from pyro_vae.files import CheckpointError, folder_in, is_there, read_json, read_yaml, write_text

__all__ = ["Member", "Sweep", "combinations", "parse_vary"]

_DEFINITION = "sweep.yaml"
_HOME = str(Path(__file__).resolve().parents[2])  # where this package is, if it is not installed
_START = f"import sys; sys.path.append({_HOME!r}); from pyro_vae.cli import worker; sys.exit(worker.run())"
_LOGS = ".logs"  # hidden: SWEEP/* matches runs only


def parse_vary(given: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of each option in ``NAME=VALUE,VALUE,...``.

    Raises:
        ValueError: for words that are not of this form, and for an option that is named twice.
    """
    found: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        try:
            read = yaml.safe_load(f"[{values}]") if equals and name else None
        except yaml.YAMLError:
            read = None
        if not isinstance(read, list) or not read:
            raise ValueError(f"vary must be NAME=VALUE,VALUE,..., such as objective.beta=0.5,1,2; got {text!r}")
        if name in found:
            raise ValueError(f"vary names {name} twice; give all its values at once")
        found[name] = [_plain(value) for value in read]
    return found


def _plain(value: Value) -> Value:
    """Return a value as plain data: YAML 1.1 reads 1e-3, which has no point, as a word, and 2026-01-01 as a date."""
    value = json.loads(json.dumps(value, default=str))
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def combinations(vary: Mapping[str, Sequence[Any]], together: bool) -> list[dict[str, Any]]:
    """Return all combinations of values, or the first values together, then the second, and so on.

    Raises:
        ValueError: if options whose values go together have different numbers of values.
    """
    lengths = {name: len(values) for name, values in vary.items()}
    if together and len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"together needs as many values of each option; {counts}")
    rows = zip(*vary.values(), strict=True) if together else itertools.product(*vary.values())
    return [dict(zip(vary, row, strict=True)) for row in rows]


@dataclass
class Member:
    """One training of a sweep.

    Args:
        folder: run folder.
        values: values of the options that vary.
        error: what it said when it failed; empty if it did not fail or has not run.
    """

    folder: Path
    values: dict[str, Any]
    error: str = ""

    @property
    def name(self) -> str:
        """The name of the folder, made from the values."""
        return self.folder.name


@dataclass
class Sweep:
    """Trainings that differ only in the options that vary.

    Args:
        folder: folder of the sweep, with a run folder for each training.
        options: options of ``pyro-vae train`` that all trainings share.
        vary: values of options, by dotted names.
        together: see :func:`combinations`.
        evaluation: options of ``pyro-vae evaluate`` after each training.
        root: folder of the data, if given.
        allow: the user's modules that the trainings may import.
    """

    folder: Path
    options: dict[str, Any]
    vary: dict[str, list[Any]]
    together: bool
    evaluation: dict[str, Any]
    root: str | None = None
    allow: Sequence[str] = ()
    members: list[Member] = field(init=False)

    def __post_init__(self) -> None:
        rows = combinations(self.vary, self.together)
        self.members = [Member(self.folder / _name(row), row) for row in rows]
        names = [member.name.casefold() for member in self.members]  # on some file systems A and a are the same name
        if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
            raise ValueError(f"two trainings would have the same folder, {twice}; vary other values")

    def arguments(self, member: Member) -> list[str]:
        """Return the command line of a training; its --config holds the options themselves instead of a file name."""
        varied = [word for name, value in member.values.items() for word in (f"--{name}", as_word(value))]
        return ["train", "--config", json.dumps(self.options), *varied, "--out", str(member.folder), *self._again()]

    def _again(self) -> list[str]:
        """Return the options that every command needs and that no run folder holds."""
        root = [] if self.root is None else ["--root", self.root]
        return [*root, *(word for module in self.allow for word in ("--allow", module))]

    def _commands(self, member: Member) -> list[list[str]]:
        chosen = [word for name, value in self.evaluation.items() for word in (f"--{name}", as_word(value))]
        evaluate = ["evaluate", str(member.folder), *chosen, *self._again()]
        if any(member.folder.glob("evaluation-*.json")):
            return [evaluate]  # another evaluation was done: the training is finished
        if is_there(member.folder / LAST):
            return [["train", "--resume", str(member.folder), *self._again()], evaluate]
        for name in (CONFIG, DATA, BEST):  # left by a training that was killed before it saved its first epoch
            for path in member.folder.glob(f"{name}*"):
                path.unlink()
        return [self.arguments(member), evaluate]

    def done(self, member: Member) -> bool:
        """Return True if a training is finished and evaluated as this sweep wants it."""
        path = member.folder / f"evaluation-{self.evaluation['split']}.json"
        if not is_there(path):
            return False
        found = read_json(path)
        if not isinstance(found, dict):
            raise CheckpointError(f"{path} must hold what pyro-vae evaluate wrote; got a {type(found).__name__}")
        log_prob = found.get("log_prob") or {}
        wanted = self.evaluation["importance_particles"]
        return not wanted or (isinstance(log_prob, dict) and log_prob.get("num_particles") == wanted)

    def open(self) -> None:
        """Write the definition of the sweep, or check that the folder holds the same one.

        Raises:
            ValueError: if the folder holds another sweep or something else.
        """
        for member in self.members:
            if member.folder.is_symlink():
                raise CheckpointError(f"{member.folder} is a link, into which nothing is written. Remove it")
        path = self.folder / _DEFINITION
        if self.folder.is_dir() and is_there(path):
            definition = read_yaml(path)
            for name in ("vary", "options"):
                if not isinstance(definition.get(name), dict):
                    raise CheckpointError(f"{path} must hold a mapping under {name}. Was it edited by hand?")
            if [*definition["vary"]] != [*self.vary]:
                raise ValueError(
                    f"the sweep in {self.folder} varies {', '.join(definition['vary'])}; got {', '.join(self.vary)}. "
                    "Vary the same, or choose another folder"
                )
            before = definition["options"]
            for name in {*before, *self.options}:
                if before.get(name) != self.options.get(name):
                    raise ValueError(
                        f"the sweep in {self.folder} was made with {name} = {before.get(name)}; got "
                        f"{self.options.get(name)}. Go on with the same, or choose another folder. You may add "
                        "values to the options that vary"
                    )
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} is not empty and holds no sweep; choose another folder")
        folder_in(self.folder, _LOGS)
        definition = {"vary": self.vary, "together": self.together, "options": self.options}
        write_text(path, yaml.safe_dump(definition, sort_keys=False))

    def run(self, workers: int, started: Callable[[list[str]], None]) -> Iterator[tuple[Member, float]]:
        """Run the members that are not done, and yield each when it ends, with its time in seconds.

        Args:
            workers: number of members at a time.
            started: called with the names of the running members whenever these change.
        """
        waiting = [member for member in self.members if not self.done(member)]
        under_way: list[str] = []
        processes: set[subprocess.Popen[bytes]] = set()
        lock = threading.Lock()
        stopped = threading.Event()

        def one(member: Member) -> float:
            begin = time.monotonic()
            with lock:
                if stopped.is_set():
                    return 0.0
                under_way.append(member.name)
                started(under_way)
                process = self._start(member, workers)
                processes.add(process)
            code = process.wait()
            with lock:
                processes.discard(process)
                under_way.remove(member.name)
                started(under_way)
            member.error = _last_line(self._log(member)) if code else ""
            return time.monotonic() - begin

        with ThreadPoolExecutor(workers) as pool:
            futures = {pool.submit(one, member): member for member in waiting}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                with lock:
                    stopped.set()
                    for process in processes:
                        if process.stdin is not None:
                            process.stdin.close()  # ends it: see worker.py

    def _log(self, member: Member) -> Path:
        return self.folder / _LOGS / f"{member.name}.log"

    def _start(self, member: Member, workers: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # the last thing said is then the last line of the log
        if workers > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
        path = self._log(member)
        is_there(path)  # refuses a link
        with path.open("ab") as log:
            return subprocess.Popen(
                # -P: without it, modules in the working directory come before all packages.
                [sys.executable, "-P", "-c", _START, json.dumps(self._commands(member))],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches it only through its standard input, and once
            )


def _name(values: Mapping[str, Any]) -> str:
    """Return the name of the folder for values of options."""
    last = [name.rpartition(".")[2] for name in values]
    short = [part if last.count(part) == 1 else name for name, part in zip(values, last, strict=True)]
    text = ",".join(f"{name}={as_word(value)}" for name, value in zip(short, values.values(), strict=True))
    return "".join(c if c.isalnum() or c in "=,.+-_" else "_" for c in text)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a message"
