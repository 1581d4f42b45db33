"""The speech recipe runs on a small part of the corpus, goes on where it was, and its page says what was found."""

import dataclasses
from pathlib import Path

import pytest

from limbeck.options import DataOptions
from limbeck.recipes.speech import Row, Speech, quick, speech, to_markdown
from limbeck.runs.measure import speed_of
from limbeck.watcher import Watcher

SO762 = Path(__file__).parent.parent / "fixtures" / "kaldi" / "so762"


def options():
    return DataOptions(
        data=str(SO762 / "train"),
        ali=str(SO762 / "ali_train"),
        validation_data=str(SO762 / "dev"),
        validation_ali=str(SO762 / "ali_dev"),
        test_data=str(SO762 / "test"),
        test_ali=str(SO762 / "ali_test"),
    )


class Listening(Watcher):
    def __init__(self):
        self.epochs = 0

    def epoch(self, row):
        self.epochs += 1


@pytest.fixture
def unhurried(monkeypatch):
    monkeypatch.setitem(speed_of.__kwdefaults__, "seconds", 0.005)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.slow
def test_the_recipe_runs_and_is_not_run_twice(tmp_path):
    settings, first, second = quick(options()), Listening(), Listening()
    rows = speech(tmp_path, settings, watch=lambda _: first)
    # Two teachers, a pair of students, one of the same size, and a pair on a share: two epochs each.
    assert first.epochs == 14
    assert speech(tmp_path, settings, resume=True, watch=lambda _: second) == rows
    assert second.epochs == 0
    assert [row.name for row in rows][3:] == [
        "student, labels",
        "student, soft targets",
        "student, labels, 20% of the training data",
        "student, soft targets, 20% of the training data",
    ]
    assert rows[2].parameters == rows[0].parameters and rows[1].parameters == 2 * rows[0].parameters
    assert all(0 <= row.accuracy <= 1 and row.nll > 0 for row in rows)
    page = to_markdown(rows, settings, seconds=60.0)
    assert page.count("\n| ") == len(rows) + 1 and "1 minutes" in page


def test_the_page_reckons_shares_as_the_paper_does():
    names = [
        "a",
        "b",
        "c",
        "student, labels",
        "student, soft targets",
        "student, labels, 3%",
        "student, soft targets, 3%",
    ]
    values = [0.589, 0.611, 0.608, 0.394, 0.4, 0.276, 0.372]
    rows = [Row(name, 1, value, 1.0) for name, value in zip(names, values, strict=True)]
    page = to_markdown(rows, dataclasses.replace(Speech(options())))
    assert "2.20 points above" in page and "86% of the gain" in page
    assert "close 81% of the gap" in page
