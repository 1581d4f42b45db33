"""A real process that is stopped says how to go on, and goes on to the same bits."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from launcher import finished, launch


def command(folder, name, *flags):
    words = [
        "train", "--data", str(folder / "data.npz"), "--hidden", "64", "--dropout", "0.2", "--shift", "1",
        "--epochs", "24", "--batch-size", "8", "--precision", "float32", "--out", str(folder / name), *flags,
    ]  # fmt: skip
    return launch(folder / "log", *words)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody stopped, beside its data."""
    folder, generator = tmp_path_factory.mktemp("whole"), np.random.default_rng(0)
    np.savez(folder / "data.npz", x=generator.integers(0, 256, (400, 8, 8)).astype(np.uint8), y=np.arange(400) % 2)
    run = command(folder, "run")
    assert finished(run) == 0, run.said
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_continues_to_the_same_bits(tmp_path, whole, number):
    shutil.copy(whole / "data.npz", tmp_path)
    stopped = command(tmp_path, "parts")
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts" / "checkpoints" / "latest.safetensors").exists():
        assert stopped.process.is_alive() and time.monotonic() < deadline, stopped.said
        time.sleep(0.01)
    os.kill(stopped.process.pid, number)
    assert finished(stopped) == 128 + number, stopped.said
    assert "--resume continues" in stopped.said
    assert "Traceback" not in stopped.said
    assert not (tmp_path / "parts" / "model").exists()

    again = command(tmp_path, "parts", "--resume")
    assert finished(again) == 0, again.said
    for name in ("model/model.safetensors", "history.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (whole / "run" / name).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("words", "place", "how"),
    [
        ("compare-methods --teacher no", "runs.early_refusals.refuse_early", "the same with --resume continues"),
        ("train", "runs.early_refusals.refuse_early", "the same with --resume continues"),
        ("train --resume", "runs.early_refusals.refuse_early", "the same command continues"),
        ("soften --teacher no", "system.devices.find_device", "the same command continues"),
        ("report", "cli.report.Path.exists", ""),
    ],
)
def test_a_signal_outside_a_training_is_told_with_how_to_continue(limbeck, monkeypatch, number, words, place, how):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(f"limbeck.{place}", lambda *_, **__: os.kill(os.getpid(), number))
    done = limbeck(*words.split(), *(["new"] if words == "report" else ["--out", "new"]))
    kept = f"; what was finished is kept, {how}" if how else ""
    assert done.code == 128 + number and not done.out
    assert done.err == f"limbeck: stopped by {number.name}{kept}\n"
    assert signal.getsignal(signal.SIGTERM) is before
