"""The progress of a training: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from pyro_vae.training.history import Epoch

__all__ = ["Reporter", "report"]

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_DISPLAYS = 0.2  # each is a message to the notebook
_NARROW = 110  # characters of a terminal; below, the terms leave no room for a bar and the steps per second
_WIDTH = 110  # characters of the bar in a notebook


class Reporter(Protocol):
    """Shows the progress of a training."""

    def step(self, epoch: int, recon: float | None = None, kl: float | None = None) -> None:
        """Show that a step was taken. The terms, if wanted, are means over the epoch so far."""

    def epoch(self, record: Epoch) -> None:
        """Show a finished epoch."""

    def say(self, what: str) -> None:
        """Show what takes a while before the first step."""

    @property
    def wants_terms(self) -> bool:
        """True if the terms of this step are shown. Reading them from a GPU takes time."""
        ...


@contextlib.contextmanager
def report(epochs: int, steps: int, start: int, enabled: bool) -> Iterator[Reporter]:
    """Give a reporter of a training.

    Args:
        epochs: how many there are.
        steps: in an epoch, 0 if unknown.
        start: epochs that are finished already.
        enabled: show anything at all.
    """
    console = Console()
    if not enabled:
        yield _Silent()
    elif console.is_jupyter:
        notebook = _NotebookBar(epochs, steps, start)
        try:
            yield notebook
        finally:
            notebook.show()
    elif console.is_terminal:
        bar = _Bar(console, epochs, steps, start)
        with bar.progress:
            yield bar
    else:
        yield _Lines(epochs)


class _Silent:
    wants_terms = False

    def step(self, epoch: int, recon: float | None = None, kl: float | None = None) -> None:
        """Show nothing."""

    def epoch(self, record: Epoch) -> None:
        """Show nothing."""

    def say(self, what: str) -> None:
        """Show nothing."""


class _Lines:
    """One line per epoch, at most one every few seconds."""

    wants_terms = False

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.last = -float("inf")

    def step(self, epoch: int, recon: float | None = None, kl: float | None = None) -> None:
        """Show nothing before the epoch is finished."""

    def epoch(self, record: Epoch) -> None:
        """Print the line."""
        now = time.monotonic()
        if now - self.last >= _SECONDS_BETWEEN_LINES or record.epoch == self.epochs:
            self.last = now
            width = len(str(self.epochs))
            print(
                f"epoch {record.epoch:{width}}/{self.epochs}  {_terms(record.recon, record.kl)}{_others(record)}"
                f"  {record.seconds:.1f} s",
                flush=True,
            )

    def say(self, what: str) -> None:
        """Print it."""
        print(what, flush=True)


class _Bar:
    """A bar over all steps, with the terms beside it; on a narrow terminal the terms alone."""

    def __init__(self, console: Console, epochs: int, steps: int, start: int) -> None:
        self.narrow = console.width < _NARROW
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}", table_column=Column(no_wrap=True)),
            *([] if self.narrow else [BarColumn(bar_width=None), _StepRate()]),
            TextColumn("{task.fields[terms]}", table_column=Column(overflow="ellipsis", no_wrap=True)),
            TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
            console=console,
        )
        self.steps = steps
        self.start = start
        self.others = ""
        self.shown = -float("inf")
        total = steps * (epochs - start) or None
        self.task = self.progress.add_task("", total=total, epoch=start + 1, epochs=epochs, terms="")

    @property
    def wants_terms(self) -> bool:
        """True ten times a second."""
        return time.monotonic() - self.shown > 0.1

    def step(self, epoch: int, recon: float | None = None, kl: float | None = None) -> None:
        """Move the bar."""
        if recon is not None and kl is not None:
            self.shown = time.monotonic()
            self.progress.update(self.task, epoch=epoch, terms=self._numbers(recon, kl))
        self.progress.advance(self.task)

    def epoch(self, record: Epoch) -> None:
        """Show the validation elbo and the terms of the objective from now on."""
        self.others = _others(record)
        done = self.steps * (record.epoch - self.start) if self.steps else None
        terms = self._numbers(record.recon, record.kl)
        self.progress.update(self.task, epoch=record.epoch, completed=done, terms=terms)

    def _numbers(self, recon: float, kl: float) -> str:
        """Return the terms and what the last epoch adds; on a narrow terminal without recon, which is elbo + kl."""
        if self.narrow:
            return f"elbo {recon - kl:.2f}{self.others}  kl {kl:.2f}"
        return _terms(recon, kl) + self.others

    def say(self, what: str) -> None:
        """Show it until there are terms to show."""
        self.progress.update(self.task, terms=what, refresh=True)


class _NotebookBar(_Bar):
    """The same bar as text, which replaces itself in the output of a notebook's cell.

    Rich's own bar needs ipywidgets in a notebook.
    """

    def __init__(self, epochs: int, steps: int, start: int) -> None:
        from IPython.display import display  # a notebook has it

        super().__init__(Console(file=io.StringIO(), force_jupyter=False, width=_WIDTH), epochs, steps, start)
        self.displayed = -float("inf")
        self.place: Any = display(self.text(), raw=True, display_id=True)

    def text(self) -> dict[str, str]:
        """Return the bar as IPython displays it."""
        console = Console(file=io.StringIO(), force_jupyter=False, width=_WIDTH, record=True)
        console.print(self.progress.get_renderable())
        return {"text/plain": console.export_text().rstrip()}

    def show(self) -> None:
        """Show the bar as it is now."""
        self.displayed = time.monotonic()
        self.place.update(self.text(), raw=True)

    def step(self, epoch: int, recon: float | None = None, kl: float | None = None) -> None:
        """Move the bar."""
        super().step(epoch, recon, kl)
        if time.monotonic() - self.displayed > _SECONDS_BETWEEN_DISPLAYS:
            self.show()

    def say(self, what: str) -> None:
        """Show it until there are terms to show."""
        super().say(what)
        self.show()


class _StepRate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return the steps per second."""
        return Text(f"{task.speed:.0f} steps/s" if task.speed else "", style="progress.data.speed")


def _terms(recon: float, kl: float) -> str:
    return f"elbo {recon - kl:.2f} = recon {recon:.2f} - kl {kl:.2f}"


def _others(record: Epoch) -> str:
    """Return the numbers that only a finished epoch has."""
    valid = "" if record.valid_elbo is None else f"  valid elbo {record.valid_elbo:.2f}"
    return valid + "".join(f"  {name} {value:.4g}" for name, value in record.terms.items())
