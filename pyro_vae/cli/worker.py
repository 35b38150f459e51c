"""Runs commands one after the other, in a process that stops when its parent is gone.

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
    os.read(0, 1)  # waits until the other end is closed, when the parent closes it or ends
    _thread.interrupt_main()  # like Ctrl-C: a training keeps its last epoch


def work(commands: list[list[str]]) -> int:
    """Run commands until one fails, and return its exit code."""
    return next((code for command in commands if (code := main(command))), 0)


def run() -> int:
    """Run the commands that the process was given as JSON."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script has the processes in its background ignore it
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    return work(json.loads(sys.argv[1]))
