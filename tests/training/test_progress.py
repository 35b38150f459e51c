"""What training prints, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from pyro_vae import fit
from pyro_vae.training import Epoch, progress
from tests.conftest import make_vae, make_x


class Terminal(io.StringIO):
    def isatty(self):
        return True


def record(epoch):
    return Epoch(epoch, 3.0, -3.0, -2.0, 1.0, -3.5, 0.25)


def test_plain_lines_elsewhere_than_on_a_terminal(capsys):
    fit(make_vae(), make_x(n=20), valid=make_x(), epochs=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/3  elbo -")
    assert lines[-1].startswith("epoch 3/3  elbo -")
    assert all(word in lines[0] for word in ("recon", "kl", "valid elbo"))
    assert "\x1b" not in "".join(lines)


def test_not_more_than_a_line_every_few_seconds(capsys, monkeypatch):
    times = iter([0.0, 1.0, 2.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with progress.report(6, 1, 0, enabled=True) as reporter:
        for epoch in range(1, 7):
            reporter.epoch(record(epoch))
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1/6", "4/6", "6/6"]


def test_a_bar_on_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    for name, value in {"TERM": "xterm", "COLUMNS": "140"}.items():
        monkeypatch.setenv(name, value)
    fit(make_vae(), make_x(n=20), valid=make_x(), epochs=3, batch_size=5)
    text = screen.getvalue()
    assert "epoch 3/3" in text
    assert "valid elbo" in text
    assert "recon" in text


@pytest.mark.parametrize(
    ("width", "shown"), [(80, "epoch 117/1980 elbo -1246.90  valid elbo -1240.22  kl 12.34"), (120, "recon -1234.56")]
)
def test_the_numbers_are_whole_on_a_terminal_of_any_width(width, shown):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bar = progress._Bar(console, 1980, 100, 0)
    bar.epoch(Epoch(117, 1246.9, -1246.9, -1234.56, 12.34, -1240.22, 0.25))
    console.print(bar.progress.get_renderable())
    (line,) = console.file.getvalue().splitlines()
    assert shown in line
    assert len(line) <= width
    assert "…" not in line


def test_silence(capsys):
    fit(make_vae(), make_x(n=20), epochs=2, progress=False)
    assert capsys.readouterr() == ("", "")
