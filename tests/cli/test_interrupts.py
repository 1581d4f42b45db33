"""A real process that is stopped says how to go on, and goes on to the same bits."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest


def command(folder, name, *flags):
    words = [
        "train", "--data", str(folder / "data.npz"), "--hidden", "64", "--dropout", "0.2", "--shift", "1",
        "--epochs", "60", "--batch-size", "8", "--precision", "float32", "--out", str(folder / name), *flags,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", "from limbeck.cli import main; main()", *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_continues_to_the_same_bits(tmp_path, number):
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=generator.integers(0, 256, (400, 8, 8)).astype(np.uint8), y=np.arange(400) % 2)
    whole = command(tmp_path, "whole")
    _, errors = whole.communicate(timeout=120)
    assert whole.returncode == 0, errors

    process = command(tmp_path, "parts")
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts" / "checkpoints" / "latest.safetensors").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "--resume continues" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "parts" / "model").exists()

    again = command(tmp_path, "parts", "--resume")
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    for name in ("model/model.safetensors", "history.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
