"""Whole runs whose trainings are made side by side."""

import pytest
import torch
from tests.runs.test_distilling import Knowing, noisy, rings, student

import limbeck
from limbeck.runs import stages

SETTINGS = {"epochs": 4, "batch_size": 32, "learning_rate": 0.02, "precision": "float32", "progress": False}


def distil(**more):
    given = {"seeds": 2, "temperature": 2.0, "hard_weight": 0.3, **SETTINGS, **more}
    return limbeck.distill(Knowing(), student, noisy(150, 0), rings(100, 5), test=rings(300, 9), **given)


def weights(run):
    return [value for model in (run.student, run.baseline) for value in model.state_dict().values()]


def test_seeds_side_by_side_are_those_one_after_the_other(groups):
    alone, together = distil(side_by_side=False), distil()
    assert groups == [(4, 4)]
    for one, other in zip(weights(together), weights(alone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    for row, beside in zip(together.history, alone.history, strict=True):
        for name in ("train_loss", "validation_nll", "learning_rate"):
            assert row[name] == pytest.approx(beside[name], rel=1e-4)
    for row, beside in zip(together.metrics["seeds"], alone.metrics["seeds"], strict=True):
        assert row["student_accuracy"] == pytest.approx(beside["student_accuracy"], abs=0.01)
    assert distil(seeds=1).metrics and groups == [(4, 4)], "two trainings are made one after the other"


def test_members_of_an_ensemble_side_by_side(groups, tmp_path):
    given = (student, noisy(150, 0), rings(100, 5))
    alone = limbeck.train(*given, members=5, side_by_side=False, **SETTINGS)
    together = limbeck.train(*given, members=5, out=tmp_path / "run", **SETTINGS)
    assert groups == [(5, 5)]
    for one, other in zip(together.model.members, alone.model.members, strict=True):
        for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    assert limbeck.open_run(tmp_path / "run").metrics == together.metrics
    again = limbeck.train(*given, members=5, out=tmp_path / "run", resume=True, **SETTINGS)
    assert groups == [(5, 5)] and again.history == together.history


class Heard(limbeck.Callback):
    """Keeps what it is told, and stops a run."""

    def __init__(self, stop=None):
        self.told, self.stop, self.notes = [], stop, []

    def on_start(self, name, epochs, steps, epoch):
        self.told.append(name)

    def on_epoch(self, row):
        self.told.append(row["epoch"])
        if row["epoch"] == self.stop:
            raise KeyboardInterrupt

    def on_end(self):
        self.told.append("end")

    def on_note(self, text):
        self.notes.append(text)


def test_loggers_are_told_each_training_as_one():
    heard = Heard()
    distil(epochs=2, callbacks=heard)
    names = ("baseline", "student", "seeds/2/baseline", "seeds/2")
    assert heard.told == [each for name in names for each in (name, 1, 2, "end")]
    assert "4 trainings are made side by side" in heard.notes


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path, groups):
    whole = distil(out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        distil(out=tmp_path / "cut", callbacks=Heard(stop=2))
    resumed = distil(out=tmp_path / "cut", resume=True)
    assert all(map(torch.equal, weights(resumed), weights(whole)))
    assert [row["train_loss"] for row in resumed.history] == [row["train_loss"] for row in whole.history]


def test_finished_trainings_are_loaded_and_the_others_end_as_among_all(tmp_path, groups, monkeypatch):
    whole = distil(out=tmp_path / "whole")
    original = stages.Stage._kept
    kept = []

    def dies(self, model, fitted):
        if len(kept) == 2:
            raise KeyboardInterrupt
        kept.append(self.name)
        return original(self, model, fitted)

    with monkeypatch.context() as patch:
        patch.setattr(stages.Stage, "_kept", dies)
        with pytest.raises(KeyboardInterrupt):
            distil(out=tmp_path / "cut")
    # The two that were not kept have lost their last checkpoints too.
    for name in ("seeds/2/baseline", "seeds/2"):
        for path in sorted((tmp_path / "cut" / name / "checkpoints").iterdir()):
            path.unlink()
    groups.clear()
    resumed = distil(out=tmp_path / "cut", resume=True)
    assert kept == ["baseline", "student"] and groups == [(2, 4)]
    assert all(map(torch.equal, weights(resumed), weights(whole)))
    assert resumed.metrics["seeds"] == whole.metrics["seeds"]
