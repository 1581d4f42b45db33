"""Bars are shown in terminals and notebooks, and nowhere else; what they say is where the run is."""

import io
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import limbeck
from limbeck.system import progress
from limbeck.system.progress import counting, place_of_progress

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch, columns=200):
    """Within a test: pytest sets the stream anew after its fixtures."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    return stream


@pytest.fixture
def notebook(monkeypatch):
    """What IPython is in a notebook, as far as it is used."""
    shown = []
    handle = SimpleNamespace(update=lambda page: shown.append(page))
    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: SimpleNamespace(kernel=object())
    module.HTML, module.display = str, lambda page, display_id: shown.append(page) or handle
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress, "_BETWEEN", 0.0)
    return shown


def train(**given):
    return limbeck.train(lambda: nn.Linear(4, 2), (X, Y), epochs=3, batch_size=20, precision="float32", **given)


def test_where_progress_can_be_shown(monkeypatch):
    on_terminal(monkeypatch)
    assert place_of_progress() == "terminal"
    monkeypatch.setenv("TERM", "dumb")
    assert place_of_progress() is None
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("TERM", "xterm")
    assert place_of_progress() is None


def test_a_terminal_has_a_bar_by_default(monkeypatch):
    terminal = on_terminal(monkeypatch)
    train()
    shown = terminal.getvalue()
    assert "model" in shown and "9/9" in shown and "epoch 3" in shown and "loss" in shown


def test_a_bar_fits_the_terminal(monkeypatch):
    """Words are left out from the end where there is no room; none is cut in the middle."""
    for columns in range(60, 131):
        terminal = on_terminal(monkeypatch, columns)
        bar = progress.ProgressBar()
        bar.on_start("student (seed 3)", 30, 860, 0)
        bar.on_step(11, 400, 0.1234, 0.9876, 123456.0)
        bar.on_epoch({"epoch": 12, "train_loss": 0.1, "validation_accuracy": 0.98, "examples_per_second": 123456.0})
        bar.on_end()
        drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).replace("\r", "\n").split("\n")
        (last,) = {line.rstrip() for line in drawn if "10320/25800" in line}
        assert len(last) <= columns and "…" not in last
        assert re.search(r"10320/25800 epoch 12(  loss 0.1000(  validation 98.00%(  123,456/s)?)?)? [0-9-]", last), last
        assert ("loss 0.1000" in last) == (columns >= 67)
        assert ("123,456/s" in last) == (columns >= 97)


def test_no_bar_where_it_is_not_wanted_or_there_is_no_place(monkeypatch, capsys):
    terminal = on_terminal(monkeypatch)
    train(progress=False)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    train()
    assert plain.getvalue() == "" and capsys.readouterr().out == ""


def test_a_notebook_has_one_line_that_is_drawn_anew(notebook):
    train()
    assert len(notebook) > 3 and all(page.startswith("<div>") for page in notebook)
    assert 'value="0" max="9"' in notebook[1] and 'value="9" max="9"' in notebook[-1]
    assert "epoch 3" in notebook[-1] and "9 of 9" in notebook[-1] and 'aria-label="model"' in notebook[-1]
    assert place_of_progress() == "notebook"
    notebook.clear()
    train(progress=False)
    assert notebook == []


def test_a_notebook_is_not_flooded(notebook, monkeypatch):
    monkeypatch.setattr(progress, "_BETWEEN", 3600.0)
    bar = progress.ProgressBar()
    bar.on_start("<student>", 10, 100, 0)
    for step in range(1, 101):
        bar.on_step(0, step, 0.5, None, 1.0)
    bar.on_end()
    assert len(notebook) <= 3 and "&lt;student&gt;" in notebook[0] and "100 of 1,000" in notebook[-1]


def test_work_that_is_counted(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with counting("quick work") as show:
        show(1, 2)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    with counting("long work") as show:
        show(1, 2)
        show(2, 2)
    assert "long work" in terminal.getvalue() and "2/2" in terminal.getvalue()
    heard = []
    with counting("heard", lambda done, total: heard.append((done, total))) as show:
        show(3, 4)
    with counting("no", False) as show:
        show(3, 4)
    assert heard == [(3, 4)] and "no" not in terminal.getvalue().split()


def test_a_run_within_which_something_fails_leaves_no_bar_behind(monkeypatch):
    terminal = on_terminal(monkeypatch)

    class Fails(limbeck.Callback):
        def on_epoch(self, row):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(callbacks=Fails())
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h")  # the cursor comes back
