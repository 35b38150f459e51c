"""A process per contender, which sleeps between its turns: thread pools that share a process slow one another.

Only one process runs at a time, so a thread pool that spins while it waits does not affect the figures of others.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["FailedError", "Pause", "Worker", "limit_threads"]

Pause = Callable[[Any], Any]
"""Sends a result to the parent, sleeps until it answers, and returns the answer."""


class FailedError(RuntimeError):
    """An error in a worker, with its traceback."""


def limit_threads(threads: int) -> None:
    """Set the number of threads and cores for later workers, for any library."""
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise ValueError(f"--threads must be at most the number of cores, {len(cores)}; got {threads}")
    os.sched_setaffinity(0, cores[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "PJRT_NPROC"):
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"


class Worker:
    """Runs ``target(pause, *arguments)`` in a new process; ``target`` is ``"module:name"``."""

    def __init__(self, target: str, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, target, arguments), daemon=True)
        self._process.start()
        there.close()

    def result(self) -> Any:
        """Wait for the next result of the worker; raise FailedError if it fails."""
        try:
            kind, value = self._here.recv()
        except EOFError:
            self._process.join()
            raise FailedError(f"the process ended with exit code {self._process.exitcode}") from None
        if kind == "error":
            raise FailedError(value)
        return value

    def ask(self, message: Any) -> Any:
        """Wake the worker with a message, and wait for its next result."""
        self._here.send(message)
        return self.result()

    def stop(self) -> None:
        """End the process."""
        self._here.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


class _Stopped(BaseException):
    """The parent has closed the pipe."""


def _serve(pipe: Connection, target: str, arguments: tuple[Any, ...]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)  # progress bars and logs of twelve libraries
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())

    def pause(result: Any) -> Any:
        pipe.send(("result", result))
        try:
            return pipe.recv()
        except EOFError:
            raise _Stopped from None

    try:
        pkgutil.resolve_name(target)(pause, *arguments)
    except _Stopped:
        pass
    except BaseException:
        pipe.send(("error", traceback.format_exc()))
