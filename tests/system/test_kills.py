"""Runs that are killed at random moments, again and again, end in the same bits as runs that were let alone.

`make test-slow` kills 50 times, spread over training (one model and three members), distillation, writing a store and a
search of settings; `LIMBECK_KILLS=500` kills as often as it says.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launcher import finished, launch
from left_behind import content
from tiny_runs import tiny_arrays

from limbeck.training.checkpoint import load_tensors

KILLS = int(os.environ.get("LIMBECK_KILLS", "50"))
# A checkpoint every 60 ms, so that kills come between, in and right after them.
SETTINGS = ("--batch-size", 16, "--precision", "float32", "--quiet", "--dropout", 0.2, "--checkpoint-minutes", 0.001)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    x, y = tiny_arrays(400)
    np.savez(folder / "data.npz", x=x, y=y)
    words = (
        "train",
        "--data",
        folder / "data.npz",
        "--hidden",
        12,
        "--epochs",
        2,
        *SETTINGS,
        "--out",
        folder / "teacher",
    )
    assert finished(launch(folder / "log", *words)) == 0, (folder / "log").read_text()
    return folder


def command(job: str, place: Path, out: Path) -> tuple[object, ...]:
    """What each job does; every one has stages or shards to be killed between."""
    data = ("--data", place / "data.npz", "--out", out)
    return {
        "train": ("train", *data, "--hidden", 16, "--shift", 1, "--epochs", 12, "--patience", 9, *SETTINGS),
        "members": ("train", *data, "--hidden", 8, "--members", 3, "--epochs", 4, *SETTINGS),
        "distill": ("distill", *data, "--teacher", place / "teacher", "--hidden", 8, "--epochs", 6, *SETTINGS),
        "soften": (
            "soften",
            *data,
            "--teacher",
            place / "teacher",
            "--shift",
            1,
            "--views",
            60,
            "--precision",
            "float32",  # one that is measured may come out otherwise in another chain
        ),
        # Trials that learn from those before, of which some are stopped early and all may be killed.
        "tune": (
            "tune",
            *data,
            "--teacher",
            place / "teacher",
            "--hidden",
            4,
            "--trials",
            14,
            "--epochs",
            4,
            "--temperatures",
            1,
            8,
            "--learning-rates",
            1e-5,
            0.1,
            *SETTINGS[:-2],
        ),
    }[job]


def start(job: str, place: Path, out: Path) -> Any:
    again = ("--resume",) if job != "soften" else ()
    return launch(out.with_suffix(".log"), *command(job, place, out), *again, SHARD_BYTES="300")


def kill_and_compare(job: str, place: Path, folder: Path, kills: int, seed: int) -> int:
    """Kill until it has been done often enough, compare each time a run has come to its end; returns the ends."""
    moments = random.Random(seed)
    began = time.monotonic()
    whole = start(job, place, folder / "whole")
    assert finished(whole) == 0, whole.said
    length = time.monotonic() - began
    expected = content(folder / "whole")
    killed = ends = 0
    while killed < kills or not ends:
        out = folder / f"run-{ends}"
        # A chain of processes, each going on where the one before was killed, until one ends by itself.
        while True:
            process = start(job, place, out)
            process.process.join(moments.uniform(0, 0.7 * length) if killed < kills else 120)
            if process.process.exitcode is None:
                process.kill()
                killed += 1
                continue
            assert process.process.exitcode == 0, process.said
            break
        assert content(out) == expected, f"{job}: run {ends} after {killed} kills, seed {seed}"
        ends += 1
    return ends


@pytest.mark.parametrize("job", ["train", "distill", "soften"])
def test_a_killed_run_ends_in_the_same_bits(place, tmp_path, job):
    assert kill_and_compare(job, place, tmp_path, 2, seed=1) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "share"), [("train", 0.24), ("members", 0.16), ("distill", 0.24), ("soften", 0.16), ("tune", 0.2)]
)
def test_many_kills_at_random_moments(place, tmp_path, job, share):
    ends = kill_and_compare(job, place, tmp_path, round(KILLS * share), seed=KILLS)
    print(f"{job}: {round(KILLS * share)} kills, {ends} runs ended, each in the same bits")  # noqa: T201


HUNGRY = """
import os
import torch


class Hungry(torch.nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(inputs, classes))
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if os.environ.get("HUNGRY") and self.steps > 30:
            # As much as there may be, and more: the system says no, and the process is gone.
            try:
                hoard = [bytearray(64 << 20) for _ in range(10_000)]
            except MemoryError:
                os.kill(os.getpid(), 9)
        return self.layers(x)


def net(input_shape, classes):
    return Hungry(64, classes)
"""


def test_out_of_memory_within_an_epoch_loses_no_more_than_the_minutes_between_checkpoints(place, tmp_path):
    """Under a limit of address space; it dies amid an epoch, and what was saved last is from amid that epoch too."""
    (tmp_path / "hungry_net.py").write_text(HUNGRY)
    words = ("train", "--data", place / "data.npz", "--model", "hungry_net:net", "--epochs", 2, "--batch-size", 16,
             "--precision", "float32", "--quiet", "--checkpoint-minutes", 1e-6)  # fmt: skip
    own = {"PYTHONPATH": str(tmp_path), "MODULES": str(tmp_path)}
    whole = launch(tmp_path / "log", *words, "--out", tmp_path / "whole", **own)
    assert finished(whole) == 0, whole.said
    dying = launch(tmp_path / "log", *words, "--out", tmp_path / "run", HUNGRY="1", MORE_BYTES=str(1 << 30), **own)
    assert finished(dying) == -9, dying.said
    _, state = load_tensors(tmp_path / "run" / "checkpoints" / "latest.safetensors")
    steps = -(-324 // 16)
    # With a checkpoint after every step no more is lost than the step that was under way: 30 steps were made.
    assert state["epoch"] * steps + state["step"] == 30 and 0 < state["step"] < steps
    again = launch(tmp_path / "log", *words, "--out", tmp_path / "run", "--resume", **own)
    assert finished(again) == 0, again.said
    assert content(tmp_path / "run") == content(tmp_path / "whole")
