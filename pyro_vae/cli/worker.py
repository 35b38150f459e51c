"""Commands, one after the other, in a process that stops when the one that started it is gone.

python -c 'from pyro_vae.cli import worker; worker.run()' '[["train", "--out", "run"], ["evaluate", "run"]]'
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading

from pyro_vae.cli.parser import main


def _stop_with_parent() -> None:
    os.read(0, 1)  # nothing comes; it waits until the other end is closed, by whatever ends the parent
    _thread.interrupt_main()  # as Ctrl-C would, so that a training keeps its last epoch


def work(commands: list[list[str]]) -> int:
    """Runs commands until one fails, and returns its exit code."""
    return next((code for command in commands if (code := main(command))), 0)


def run() -> int:
    """Runs the commands that the process was given, as JSON."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script runs in the background
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    return work(json.loads(sys.argv[1]))
