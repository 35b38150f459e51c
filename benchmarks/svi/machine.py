"""The machine of a measurement, in one line."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

__all__ = ["machine"]

_LIBRARIES = ("torch", "pyro-ppl", "jax", "numpyro", "pythae")


def machine(threads: int) -> str:
    """Return processor, threads, versions, and the environment variables that change the speed."""
    versions = []
    for library in _LIBRARIES:
        try:
            versions.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].split(":")[1].strip() if models else platform.machine()
    settings = [f"{k}={v}" for k, v in os.environ.items() if k.startswith(("MALLOC_", "OMP_WAIT", "LD_PRELOAD"))]
    cores = f"{processor}, {os.cpu_count()} cores, {threads} threads each, float32"
    return "; ".join([cores, f"Python {platform.python_version()}, {', '.join(versions)}", *settings])
