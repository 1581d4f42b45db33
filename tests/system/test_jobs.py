"""Trainings side by side are those one after the other, bit for bit; a process that dies is replaced."""

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from job_tasks import dies, dies_once, errs
from launcher import finished, launch
from tiny_runs import tiny_arrays

from limbeck.errors import ConfigError, LimbeckError, MissingExtraError, RunError
from limbeck.runs import distill, train
from limbeck.system.callbacks import Callback
from limbeck.system.jobs import run_jobs
from limbeck.system.processes import World

SETTINGS = (
    "--batch-size",
    32,
    "--precision",
    "float32",
    "--learning-rate",
    0.01,
    "--hidden",
    8,
    "--dropout",
    0.1,
    "--quiet",
)
TIMES = {"SHA256SUMS", "timings.jsonl", "metrics.json", "config.toml", ".lock"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    x, y = tiny_arrays(120)
    np.savez(path, x=x, y=y)
    return path


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in TIMES and "checkpoints" not in path.parts
    }


def compare(place, words, *, serial, parallel):
    done = launch(place / "log", *words, "--out", place / "serial", *serial)
    assert finished(done) == 0, done.said
    done = launch(place / "log", *words, "--out", place / "parallel", *parallel)
    assert finished(done) == 0, done.said
    found = content(place / "parallel")
    assert found == content(place / "serial") and sum("model.safetensors" in name for name in found) > 1
    return done.said


def test_members_in_two_processes_are_those_in_one(tmp_path):
    """Everything in the folder but times, and the same through Python."""
    x, y = tiny_arrays(120)
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3)
    settings = {"members": 2, "epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    runs = [
        train(torch.nn.Sequential(torch.nn.Flatten(), *layers), (x, y), jobs=jobs, out=tmp_path / name, **settings)
        for name, jobs in (("serial", 1), ("parallel", 2))
    ]
    serial, parallel = (content(run.folder) for run in runs)
    assert serial == parallel and sum("model.safetensors" in name for name in serial) == 2
    assert not torch.equal(*(member.model[1].weight for member in runs[0].model.members))


class Heard(Callback):
    """What a callback is told."""

    def __init__(self):
        self.epochs, self.total, self.open = [], 0, False

    def on_start(self, name, epochs, steps, epoch):
        self.total, self.open = epochs * steps, True

    def on_epoch(self, row):
        self.epochs.append((row["epoch"], row["train_loss"]))

    def on_end(self):
        self.open = False


def test_a_student_beside_its_baseline_is_the_one_after_it_and_is_heard_of(tmp_path):
    x, y = tiny_arrays(120)
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    settings = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01}
    serial, parallel = Heard(), Heard()
    for name, jobs, callback in (("serial", 1, serial), ("parallel", 2, parallel)):
        out = tmp_path / name
        run = distill(teacher, student, (x, y), (x, y), jobs=jobs, out=out, callbacks=callback, **settings)
        assert run.baseline is not None and not torch.equal(run.baseline[1].weight, run.student[1].weight)
    assert content(tmp_path / "serial") == content(tmp_path / "parallel")
    assert [number for number, _ in parallel.epochs] == [1, 2, 3, 4, 5, 6] and parallel.total == 6
    assert not parallel.open and sorted(loss for _, loss in parallel.epochs) == sorted(
        loss for _, loss in serial.epochs
    )


@pytest.mark.slow
def test_members_by_the_command_line(data, tmp_path):
    words = ("train", "--data", data, "--members", 3, "--epochs", 2, *SETTINGS)
    said = compare(tmp_path, words, serial=(), parallel=("--jobs", 2))
    assert "3 of 3 members are trained" in said


@pytest.mark.slow
def test_pairs_of_several_seeds_in_two_processes_are_those_in_one(data, tmp_path):
    teacher = launch(tmp_path / "log", "train", "--data", data, "--epochs", 2, *SETTINGS, "--out", tmp_path / "teacher")
    assert finished(teacher) == 0, teacher.said
    words = ("distill", "--data", data, "--teacher", tmp_path / "teacher", "--seeds", 2, "--epochs", 2, *SETTINGS)
    compare(tmp_path, words, serial=(), parallel=("--jobs", 2))
    store = launch(
        tmp_path / "log", "soften", "--data", data, "--teacher", tmp_path / "teacher", "--out", tmp_path / "s"
    )
    assert finished(store) == 0, store.said
    (tmp_path / "stored").mkdir()
    words = ("distill", "--data", data, "--teacher-targets", tmp_path / "s", "--seeds", 2, "--epochs", 2, *SETTINGS)
    compare(tmp_path / "stored", words, serial=(), parallel=("--jobs", 2))


@pytest.mark.slow
def test_an_ensemble_of_four_on_a_local_ray_cluster_is_the_serial_one(data, tmp_path):
    pytest.importorskip("ray")
    words = ("train", "--data", data, "--members", 4, "--epochs", 2, *SETTINGS)
    compare(tmp_path, words, serial=(), parallel=("--ray", "local"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_begins_a_task_again_whose_process_died(tmp_path):
    pytest.importorskip("ray")
    tasks = [partial(dies_once, str(tmp_path / str(number))) for number in range(2)]
    assert run_jobs(tasks, ray="local") == [torch.get_num_threads()] * 2
    with pytest.raises(LimbeckError, match="this is odd"):
        run_jobs([errs], ray="local")


def test_a_process_that_dies_is_replaced_and_its_task_begun_again(tmp_path):
    tasks = [partial(dies_once, str(tmp_path / str(number))) for number in range(2)]
    assert run_jobs(tasks, jobs=2) == [torch.get_num_threads()] * 2


@pytest.mark.slow
def test_a_task_that_always_dies_ends_the_run():
    with pytest.raises(RunError, match="died at each of 3 attempts.*--resume"):
        run_jobs([dies, torch.get_num_threads], jobs=2)


def test_an_error_of_ours_comes_back_as_one():
    with pytest.raises(LimbeckError, match="this is odd") as caught:
        run_jobs([errs, torch.get_num_threads], jobs=2)
    assert caught.value.exit_code == 2


def test_settings_that_contradict_each_other_or_cannot_be_sent(monkeypatch):
    with pytest.raises(ConfigError, match="jobs must be at least 1"):
        run_jobs([], jobs=0)
    with pytest.raises(ConfigError, match="one of them"):
        run_jobs([], jobs=2, ray="local")
    with pytest.raises(ConfigError, match="top of a module"):
        run_jobs([lambda: 1, lambda: 2], jobs=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="several processes"):
        run_jobs([], jobs=2)
    assert World(0, 1, torch.device("cpu")).told(3) == 3


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"limbeck\[ray\]"):
        run_jobs([torch.get_num_threads], ray="local")


def test_members_without_a_folder_come_back_whole():
    x = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    given = (torch.nn.Linear(3, 2), (x, (x[:, 0] > 0.5).long()))
    serial, parallel = (train(*given, members=2, epochs=2, batch_size=8, jobs=jobs) for jobs in (1, 2))
    for one, other in zip(serial.model.members, parallel.model.members, strict=True):
        assert torch.equal(one.model.weight, other.model.weight)
    assert [row["train_loss"] for row in serial.history] == [row["train_loss"] for row in parallel.history]


@pytest.mark.slow
def test_a_signal_is_passed_on_and_every_task_saves(data, tmp_path):
    words = (
        "train",
        "--data",
        data,
        "--members",
        2,
        "--epochs",
        2000,
        *SETTINGS,
        "--out",
        tmp_path / "run",
        "--jobs",
        2,
    )
    run = launch(tmp_path / "log", *words)
    deadline = time.monotonic() + 60
    while len([*tmp_path.glob("run/members/*/checkpoints/latest.safetensors")]) < 2:
        assert run.process.is_alive() and time.monotonic() < deadline, run.said
        time.sleep(0.02)
    os.kill(run.process.pid, signal.SIGTERM)
    assert finished(run) == 128 + signal.SIGTERM, run.said
    assert "--resume continues" in run.said and "Traceback" not in run.said


@pytest.mark.slow
def test_the_trainings_of_a_run_that_was_killed_end_with_it(data, tmp_path):
    """Otherwise they would go on in a folder that --resume takes up."""
    words = ("train", "--data", data, "--members", 2, "--epochs", 2000, *SETTINGS, "--out", tmp_path / "run")
    run = launch(tmp_path / "log", *words, "--jobs", 2)
    deadline = time.monotonic() + 60
    while len([*tmp_path.glob("run/members/*/checkpoints/latest.safetensors")]) < 2:
        assert run.process.is_alive() and time.monotonic() < deadline, run.said
        time.sleep(0.02)
    run.kill()
    time.sleep(1)
    moments = []
    for _ in range(2):
        moments.append([path.stat().st_mtime_ns for path in sorted(tmp_path.glob("run/members/*/checkpoints/*"))])
        time.sleep(1)
    assert moments[0] == moments[1]


SCRIPT = """
import torch, limbeck
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
    def forward(self, x):
        return self.layer(x)
def make(seed):
    return Net()
def work():
    x, y = torch.randn(60, 8), torch.arange(60) % 4
    run = limbeck.train({model}, (x, y), epochs=1, members=2, jobs=2, precision="float32")
    print(len(run.model.members), "members")
{begin}
"""


@pytest.mark.parametrize(
    ("model", "begin", "message"),
    [
        ("make", "work()", "imports script.py first and would come to line [0-9]+ again.*__main__"),
        pytest.param("lambda seed: nn.Linear(8, 4)", "work()", "imports script.py first", marks=pytest.mark.slow),
        pytest.param("make", "if __name__ == '__main__':\n    work()", None, marks=pytest.mark.slow),
    ],
)
def test_a_script_without_a_main_guard_is_told_in_one_line(model, begin, message, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(model=model, begin=begin))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    if message is None:
        assert ended.returncode == 0 and "2 members" in ended.stdout, ended.stderr
    else:
        last = ended.stderr.strip().splitlines()[-1]
        assert last.startswith("limbeck.errors.ConfigError: jobs starts processes") and re.search(message, last)
        assert ended.stderr.count("Traceback") == 1, "no process was started"


def test_what_is_defined_on_the_standard_input_is_told_in_one_line():
    program = SCRIPT.format(model="make", begin="work()")
    ended = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, timeout=300)
    last = ended.stderr.strip().splitlines()[-1]
    assert "defined in a notebook or on the standard input" in last and ended.stderr.count("Traceback") == 1


def test_a_task_that_another_process_cannot_import_is_told(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def task(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    (tmp_path / "only_here.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    with pytest.raises(LimbeckError, match="another process cannot import.*only_here"):
        run_jobs([only_here.task] * 2, jobs=2)
