"""Loggers write what a run tells: settings, the numbers of each epoch under its training's name, metrics at the end."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import ConfigError, MissingExtraError
from limbeck.system.callbacks import as_callback
from limbeck.system.tracking import logger_named

X = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
NAMES = {"wandb": limbeck.WandbLogger, "mlflow": limbeck.MLflowLogger, "trackio": limbeck.TrackioLogger}


class Tracker:
    """What the three trackers offer, as far as it is used; it remembers each call."""

    def __init__(self):
        self.calls = []
        self.summary = SimpleNamespace(update=lambda values: self.calls.append(("summary", values)))

    def __getattr__(self, name):
        def call(*args, **given):
            self.calls.append((name, args[0] if args else given, given))
            return self

        return call

    def named(self, name):
        return [call[1] for call in self.calls if call[0] == name]


class Told(limbeck.Callback):
    """The calls of a run, in order."""

    def __init__(self):
        self.calls, self.rows, self.metrics, self.settings = [], {}, None, None

    def on_run_start(self, command, settings):
        self.calls.append(f"run {command}")
        self.settings = settings

    def on_start(self, name, epochs, steps, epoch):
        self.calls.append(f"start {name} {epochs}x{steps} at {epoch}")
        self.name = name

    def on_step(self, epoch, step, loss, accuracy, rate):
        assert step >= 1 and loss > 0 and 0 <= accuracy <= 1 and rate > 0

    def on_epoch(self, row):
        self.rows.setdefault(self.name, []).append(row)

    def on_end(self):
        self.calls.append(f"end {self.name}")

    def on_run_end(self, metrics):
        self.metrics = metrics
        self.calls.append("finished")


def teacher():
    made = nn.Linear(4, 2)
    made.weight.data = torch.tensor([[-3.0, 0, 0, 0], [3.0, 0, 0, 0]])
    return made


def distil(**given):
    return limbeck.distill(
        teacher(), nn.Linear(4, 2), (X[:60], Y[:60]), (X[60:], Y[60:]), epochs=2, batch_size=20,
        precision="float32", **given,
    )  # fmt: skip


def test_a_run_calls_its_callback_in_order():
    told = Told()
    run = distil(callbacks=told)
    assert told.calls == [
        "run distill", "start baseline 2x3 at 0", "end baseline", "start student 2x3 at 0", "end student", "finished",
    ]  # fmt: skip
    assert told.metrics == run.metrics and told.settings["temperature"] == 4.0
    for row, kept in zip(told.rows["student"], run.history, strict=True):
        assert {name: row[name] for name in kept} == dict(kept)


def test_members_and_seeds_have_names_and_other_processes_are_told_as_one(tmp_path):
    told = Told()
    limbeck.train(lambda: nn.Linear(4, 2), (X, Y), members=2, epochs=1, precision="float32", callbacks=[told])
    assert [call for call in told.calls if call.startswith("start")] == [
        "start members/1 1x1 at 0", "start members/2 1x1 at 0",
    ]  # fmt: skip
    told = Told()
    distil(callbacks=[told], seeds=2)
    starts = [call.split()[1] for call in told.calls if call.startswith("start")]
    assert starts == ["baseline", "student", "seeds/2/baseline", "seeds/2"]


@pytest.mark.parametrize("given", [3, [3], [limbeck.Callback], "tensorboard"])
def test_what_is_not_a_callback_is_refused(given):
    with pytest.raises(ConfigError, match="callbacks"):
        distil(callbacks=given)


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_gets_settings_epochs_and_metrics(name, monkeypatch):
    tracker, told = Tracker(), Told()
    monkeypatch.setitem(sys.modules, name, tracker)
    distil(callbacks=[told, NAMES[name]("project")])
    begun = json.dumps([call[1:] for call in tracker.calls if call[0] in {"init", "log_params", "set_experiment"}])
    assert '"temperature": ' in begun and "project" in begun
    rows = [row for row in tracker.named("log_metrics" if name == "mlflow" else "log") if "student/train_loss" in row]
    assert [row["student/train_loss"] for row in rows] == [row["train_loss"] for row in told.rows["student"]]
    ended = {**(tracker.named("summary") or [{}])[-1]}
    ended |= {key.removeprefix("run/"): value for row in tracker.named("log") + tracker.named("log_metrics")
              for key, value in row.items() if key.startswith("run/")}  # fmt: skip
    assert ended["student.nll"] == told.metrics["student"]["nll"] and "student.title" not in ended
    assert [call[0] for call in tracker.calls][-1] == {"mlflow": "end_run"}.get(name, "finish")


@pytest.mark.parametrize("name", [*NAMES, "tensorboard"])
def test_a_tracker_that_is_not_installed_says_how_to_install_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    extra = {"tensorboard": "track"}.get(name, name)
    with pytest.raises(MissingExtraError, match=rf"pip install 'limbeck\[{extra}\]'"):
        logger_named(name, folder="runs/a")


def test_tensorboard_holds_each_training_in_a_folder_of_its_own(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = Told()
    distil(callbacks=[told, logger_named("tensorboard", folder=tmp_path)])
    found = {}
    for name in ("student", "baseline", "run"):
        found[name] = EventAccumulator(str(tmp_path / "tensorboard" / name))
        found[name].Reload()
    for name in ("student", "baseline"):
        for row, event in zip(told.rows[name], found[name].Scalars("train_loss"), strict=True):
            assert (event.step, event.value) == (row["epoch"], pytest.approx(row["train_loss"], rel=1e-6))
    (event,) = found["run"].Scalars("student.nll")
    assert event.value == pytest.approx(told.metrics["student"]["nll"], rel=1e-6)


@pytest.mark.slow
def test_mlflow_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    address = (tmp_path / "mlruns").as_uri()
    told = Told()
    distil(callbacks=[told, limbeck.MLflowLogger("distilling", tracking_uri=address)])
    client = mlflow.MlflowClient(address)
    (run,) = client.search_runs([client.get_experiment_by_name("distilling").experiment_id])
    assert run.data.params["temperature"] == "4.0" and run.info.status == "FINISHED"
    kept = client.get_metric_history(run.info.run_id, "student/train_loss")
    assert [(one.step, one.value) for one in kept] == [
        (row["epoch"], row["train_loss"]) for row in told.rows["student"]
    ]
    assert run.data.metrics["run/student.nll"] == told.metrics["student"]["nll"]


@pytest.mark.parametrize(
    ("spelled", "says"),
    [("tensorbord", "did you mean tensorboard"), ("nothing", "loggers are tensorboard, wandb, mlflow, trackio"),
     ("", "loggers are")],
)  # fmt: skip
def test_a_tracker_that_does_not_exist(spelled, says):
    with pytest.raises(ConfigError, match=says):
        logger_named(spelled, folder="runs/a")


def test_each_logger_is_public_and_found_by_name():
    for name in ("TensorBoardLogger", "WandbLogger", "MLflowLogger", "TrackioLogger", "Callback"):
        assert name in limbeck.__all__ and getattr(limbeck, name).__name__ == name
    assert importlib.import_module("limbeck.system.callbacks").Callback is limbeck.Callback
    assert len(as_callback([limbeck.Callback()], limbeck.Callback()).parts) == 2


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text()
    monkeypatch.chdir(tmp_path)
    data = limbeck.DataSet(
        "few", ("a", "b"), limbeck.Examples.of(X[:60], Y[:60]), None, limbeck.Examples.of(X[60:], Y[60:])
    )
    quick = {"epochs": 1, "precision": "float32"}
    true = limbeck.distill
    monkeypatch.setattr(limbeck, "distill", lambda *a, **k: true(*a, **{**quick, **k}))
    names = {"limbeck": limbeck, "teacher": teacher(), "student": nn.Linear(4, 2), "data": data}
    found = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(found) == 2
    for code in found:
        exec(compile(code, "tracking.md", "exec"), names)
    assert (tmp_path / "runs" / "student" / "tensorboard" / "student").is_dir()
    assert sorted(names["curves"].losses) == ["baseline", "student"]
