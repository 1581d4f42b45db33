"""Who hears of progress and of what is odd: Python's warnings and logging by default, a callback where there is one."""

import io
import logging
import warnings

import job_tasks
import pytest
import torch
from torch import nn

import limbeck
from limbeck.cli import main
from limbeck.system.callbacks import Callback, Callbacks, warn_user
from limbeck.system.jobs import run_jobs

X = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
W = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
Y = (X @ W).argmax(1)


class Notes(Callback):
    def __init__(self):
        self.notes, self.warnings = [], []

    def on_note(self, text):
        self.notes.append(text)

    def on_warning(self, text):
        self.warnings.append(text)


@pytest.fixture
def logged():
    """What Python's logging is told, from INFO on."""
    stream, logger = io.StringIO(), logging.getLogger("limbeck")
    handler, level = logging.StreamHandler(stream), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.setLevel(level)
    logger.removeHandler(handler)


def shuffled_teacher():
    teacher = nn.Linear(8, 4)
    teacher.weight.data = W.T[[1, 2, 3, 0]].clone()
    teacher.bias.data.zero_()
    return teacher


def distil(**more):
    return limbeck.distill(
        shuffled_teacher(), nn.Linear(8, 4), (X[:300], Y[:300]), (X[300:], Y[300:]), epochs=2, **more
    )


def test_an_odd_teacher_is_heard_without_a_callback_at_the_caller_s_line(logged):
    with pytest.warns(limbeck.LimbeckWarning, match="right on .* of 300") as heard:
        distil()
    assert [warning.filename for warning in heard if "right on" in str(warning.message)] == [__file__]
    assert "answers 300 examples once" in logged.getvalue() and "2 of 2" not in logged.getvalue()
    assert issubclass(limbeck.LimbeckWarning, UserWarning)


def test_a_callback_hears_it_instead():
    callback = Notes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distil(callbacks=callback)
    assert any("right on" in text for text in callback.warnings) and any("once" in text for text in callback.notes)


def test_several_callbacks_tell_those_that_show_it_and_warn_once_where_none_does(logged):
    notes = Notes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Callbacks(Callback(), notes).on_warning("odd thing")
    assert notes.warnings == ["odd thing"]
    with pytest.warns(limbeck.LimbeckWarning, match="odd thing") as heard:
        Callbacks(Callback(), Callback()).on_warning("odd thing")
        Callbacks(Callback(), Callback()).on_note("a step")
    assert len(heard) == 1 and logged.getvalue().count("a step") == 1


def test_warnings_of_other_processes_come_back():
    with pytest.warns(limbeck.LimbeckWarning, match="something is odd") as heard:
        assert run_jobs([job_tasks.warns, job_tasks.warns], jobs=2) == [3, 3]
    assert len(heard) == 2


def test_the_command_line_shows_them_in_one_line(monkeypatch, capsys):
    from limbeck.cli.application import app

    def command(*_, **__):
        warn_user("two\nlines")

    monkeypatch.setattr(type(app), "__call__", command)
    main(["data"])
    assert capsys.readouterr().err == "odd: two lines\n"
