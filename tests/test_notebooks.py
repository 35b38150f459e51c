"""What a notebook shows: pictures without a magic command, a bar that moves, tables."""

from __future__ import annotations

import io
import sys
from types import ModuleType

import pytest
import torch
from PIL import Image
from rich.console import Console

from pyro_vae import build, check, fit, plots
from pyro_vae.training import Epoch, History


class Display:
    """The place of an output, as ``IPython.display.display(..., display_id=True)`` returns it."""

    def __init__(self):
        self.shown = []

    def __call__(self, content, *, raw, display_id):
        assert raw
        assert display_id
        self.update(content, raw=raw)
        return self

    def update(self, content, *, raw):
        assert raw
        self.shown.append(content["text/plain"])


@pytest.fixture
def notebook(monkeypatch):
    """Makes rich believe that it runs in a notebook, and returns what is displayed."""
    display, module = Display(), ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    return display.shown


def test_a_bar_moves_in_one_place(notebook, capsys):
    fit(build(4, 2, hidden=(3,)), torch.rand(20, 4).round(), epochs=3, batch_size=5)
    assert notebook[0].startswith("epoch 1/3")
    assert notebook[-1].startswith("epoch 3/3 ━")
    assert " = recon " in notebook[-1]
    assert notebook[-1].endswith("0:00:00")
    assert all("\n" not in line and "\x1b" not in line for line in notebook)
    assert capsys.readouterr().out == ""  # no lines beside it


def test_the_bar_stays_where_a_training_stopped(notebook):
    def stop(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build(4, 2, hidden=(3,)), torch.rand(20, 4).round(), epochs=3, batch_size=5, on_epoch=stop)
    assert notebook[-1].startswith("epoch 1/3 ━")


def test_nothing_is_shown_without_progress(notebook):
    fit(build(4, 2, hidden=(3,)), torch.rand(20, 4).round(), epochs=1, progress=False)
    assert notebook == []


def test_no_widgets_are_asked_for(notebook, recwarn):
    assert Console().is_jupyter
    fit(build(4, 2, hidden=(3,)), torch.rand(20, 4).round(), epochs=1)
    assert not [w for w in recwarn if "ipywidgets" in str(w.message)]


def test_a_figure_is_a_picture():
    x, file = torch.rand(4, 1, 8, 8), io.BytesIO()
    png, size = plots.samples(x)._repr_png_()
    plots.samples(x).savefig(file)
    picture, expected = Image.open(io.BytesIO(png)), Image.open(file)
    assert picture.tobytes() == expected.tobytes()
    assert picture.size[0] / size["width"] == pytest.approx(150 / 96, rel=0.01)


def test_results_are_tables():
    history = History([Epoch(1, 100.0, -100.0, -90.0, 10.0, None, 0.5)])
    assert "<td>-100.00</td>" in history._repr_html_()
    report = check(build(4, 2, hidden=(3,)), torch.ones(8, 4), only=["shapes"], progress=False)
    assert "shapes" in report._repr_html_()
