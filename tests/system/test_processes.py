"""One run in two processes is the run of one; only the first writes; what goes wrong in one is told once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from launcher import finished, free_port, launch, launch_several
from safetensors.torch import load_file
from tiny_runs import tiny_arrays

from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError
from limbeck.models import Dropout
from limbeck.models.dropout import draw_for
from limbeck.system.processes import World, world
from limbeck.training.checkpoint import load_tensors

SETTINGS = ("--batch-size", 32, "--precision", "float32", "--learning-rate", 0.01, "--quiet")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """203 examples: batches, shards and shares that do not come out even."""
    path = tmp_path_factory.mktemp("data") / "data.npz"
    x, y = tiny_arrays(203)
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture(scope="module")
def teacher(data):
    out = data.parent / "teacher"
    words = ("--epochs", 2, "--hidden", 12, *SETTINGS, "--out", out)
    assert finished(launch(data.parent / "teacher.log", "train", "--data", data, *words)) == 0
    return out


def rows(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def alike(left, right, tolerance=1e-5):
    """All losses of two histories agree."""
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), name


def all_well(launched):
    for process in launched:
        assert finished(process) == 0, process.said


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_training_is_that_of_one_process(data, tmp_path, count):
    """Dropout and augmented views too: every mask and picture is that of the whole batch. 32 is not 3 times
    anything."""
    words = ("train", "--data", data, "--hidden", 16, "--dropout", 0.2, "--shift", 1, "--epochs", 4, *SETTINGS)
    assert finished(launch(tmp_path / "log", *words, "--out", tmp_path / "one")) == 0
    several = launch_several(tmp_path / "logs", count, *words, "--out", tmp_path / "many")
    all_well(several)
    alike(rows(tmp_path / "one"), rows(tmp_path / "many"))
    one, _ = load_tensors(tmp_path / "one" / "checkpoints" / "latest.safetensors")
    many, _ = load_tensors(tmp_path / "many" / "checkpoints" / "latest.safetensors")
    for name in one:
        if name.startswith("model."):
            assert torch.allclose(one[name], many[name], atol=1e-5), name
    assert torch.equal(one["random"], many["random"])
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "many").iterdir()}
    assert "errors" in several[0].said and not several[1].said


def test_distilling_is_that_of_one_process(data, teacher, tmp_path):
    words = (
        "distill",
        "--data",
        data,
        "--teacher",
        teacher,
        "--hidden",
        8,
        "--epochs",
        3,
        "--clip-norm",
        0.5,
        *SETTINGS,
    )
    assert finished(launch(tmp_path / "log", *words, "--out", tmp_path / "one")) == 0
    all_well(launch_several(tmp_path / "logs", 2, *words, "--out", tmp_path / "two"))
    for stage in ("", "baseline"):
        alike(rows(tmp_path / "one" / stage), rows(tmp_path / "two" / stage))


@pytest.mark.parametrize("encoding", [(), ("--encoding", "topk", "--k", 1), ("--encoding", "sampled", "--draws", 3)])
def test_a_store_of_two_processes_is_that_of_one(data, teacher, tmp_path, encoding):
    # A precision that is measured may come out otherwise on a busy machine.
    settings = ("--shift", 1, "--views", 3, "--precision", "float32", *encoding)
    words = ("soften", "--data", data, "--teacher", teacher, *settings)
    assert finished(launch(tmp_path / "log", *words, "--out", tmp_path / "one", SHARD_BYTES="300")) == 0
    all_well(launch_several(tmp_path / "logs", 2, *words, "--out", tmp_path / "two", SHARD_BYTES="300"))
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.name != ".lock"}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) > 6  # shards of several sizes, and three files about them


def test_a_signal_to_one_of_two_stops_both_and_the_run_goes_on_in_one(data, tmp_path):
    """They agree on the step; what they saved is continued by any number of processes."""
    words = ("train", "--data", data, "--hidden", 16, "--epochs", 20, *SETTINGS)
    both = launch_several(tmp_path / "logs", 2, *words, "--out", tmp_path / "run")
    wait_for(tmp_path / "run" / "checkpoints" / "latest.safetensors", both)
    os.kill(both[1].process.pid, signal.SIGTERM)
    assert [finished(process) for process in both] == [128 + signal.SIGTERM] * 2, both[0].said
    assert "--resume continues" in both[0].said and not both[1].said
    assert finished(launch(tmp_path / "log", *words, "--out", tmp_path / "run", "--resume")) == 0
    assert finished(launch(tmp_path / "log", *words, "--out", tmp_path / "whole")) == 0
    alike(rows(tmp_path / "run"), rows(tmp_path / "whole"), 1e-4)
    again = launch_several(tmp_path / "logs", 2, *words, "--out", tmp_path / "run", "--resume")
    all_well(again)


def wait_for(path, launched):
    deadline = time.monotonic() + 60
    while not path.exists():
        for process in launched:
            assert process.process.is_alive() and time.monotonic() < deadline, process.said
        time.sleep(0.01)


def test_a_mistake_is_told_once_and_ends_all(data, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    both = launch_several(tmp_path / "logs", 2, "train", "--data", data, *SETTINGS, "--out", tmp_path / "taken")
    assert [finished(process) for process in both] == [2, 2]
    assert "exists already" in both[0].said and not both[1].said


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "words",
    [
        ("--model", "cnn", "--batch-norm", "--channels", 3, "--hidden", 6, "--dropout", 0.2, "--epochs", 2),
        pytest.param(("--model", "timm:test_resnet", "--epochs", 1), marks=pytest.mark.slow),
    ],
)
def test_batch_normalisation_is_that_of_one_process(data, tmp_path, count, words):
    """203 examples in batches of 67 end in one of 2, which a third process has no row of."""
    settings = [word for word in SETTINGS if word not in {"--batch-size", 32}]
    words = ("train", "--data", data, *words, *settings, "--batch-size", 67, "--optimizer", "sgd")
    assert finished(launch(tmp_path / "log", *words, "--out", tmp_path / "one")) == 0
    all_well(launch_several(tmp_path / "logs", count, *words, "--out", tmp_path / "many"))
    alike(rows(tmp_path / "one"), rows(tmp_path / "many"))
    one, many = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "many"))
    assert one.keys() == many.keys() and any("running_var" in name for name in one)
    for name, value in one.items():
        assert torch.allclose(value.float(), many[name].float(), rtol=1e-5, atol=1e-5), name


def test_parts_of_a_batch_in_two_processes_are_the_batch_of_one(data, tmp_path):
    """Batches of 32, 4 parts in each of two processes; of the last batch of 11 some parts are empty in one."""
    words = ("train", "--data", data, "--hidden", 16, "--dropout", 0.2, "--epochs", 2, "--class-weight", "balanced",
             "--clip-norm", 0.1, *SETTINGS)  # fmt: skip
    assert finished(launch(tmp_path / "log", *words, "--out", tmp_path / "one")) == 0
    all_well(launch_several(tmp_path / "logs", 2, *words, "--accumulate", 9, "--out", tmp_path / "two"))
    alike(rows(tmp_path / "one"), rows(tmp_path / "two"))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_of_a_batch_are_the_batch(count):
    """Every example of every batch is in one share; a share without any gets a stand-in that counts for nothing."""
    examples = Examples.of(torch.arange(26.0)[:, None], torch.arange(26) % 2)
    place = torch.device("cpu")
    feeds = [Feed(examples, batch_size=8, seed=1, world=World(rank, count, place)) for rank in range(count)]
    whole = Feed(examples, batch_size=8, seed=1)
    for step, batches in enumerate(zip(whole.batches(2), *(feed.batches(2) for feed in feeds), strict=True)):
        found = []
        for feed, batch in zip(feeds, batches[1:], strict=True):
            own, size = feed.own_rows(0, step)
            assert size == len(batches[0].index) and len(batch.index) == max(1, own.stop - own.start)
            found += batch.index.tolist()[: own.stop - own.start]
        assert found == batches[0].index.tolist()


def test_dropout_of_a_share_is_that_of_the_whole():
    layer, x = Dropout(0.4), torch.rand(10, 3, 5)
    torch.manual_seed(3)
    whole = layer(x)
    state = torch.get_rng_state()
    try:
        for first, last in ((0, 4), (4, 5), (5, 10)):
            torch.manual_seed(3)
            draw_for((first, 10))
            assert torch.equal(layer(x[first:last]), whole[first:last])
            assert torch.equal(torch.get_rng_state(), state)
    finally:
        draw_for(None)


def test_one_that_accelerate_started_alone_is_told(monkeypatch):
    """`accelerate launch --cpu --num_processes 2` starts one process, which would train without the other."""
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_MIXED_PRECISION": "no"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RANK", raising=False)
    world.cache_clear()
    with pytest.raises(ConfigError, match="started this one alone.*--multi_gpu"):
        world()
    monkeypatch.delenv("MASTER_PORT")
    assert world() == World(0, 1, torch.device("cpu"))


OWN = """
import os
import torch


def net(input_shape, classes):
    with open(os.environ["SEEN"], "a") as file:
        file.write(f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']}\\n")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, classes))
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_the_launchers_people_use(data, tmp_path, launcher):
    """The lines of docs/scale.md; the network itself notes in which process it is made."""
    (tmp_path / "seen_net.py").write_text(OWN)
    words = [
        "-m",
        "limbeck",
        "train",
        "--data",
        data,
        "--model",
        "seen_net:net",
        "--epochs",
        2,
        *SETTINGS,
        "--out",
        tmp_path / "run",
    ]
    port = free_port()
    start = {
        "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", port],
        "accelerate": ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", 2,
                       "--main_process_port", port],
    }[launcher]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *map(str, start), *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "SEEN": str(tmp_path / "seen"),
             "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("The model is in") == 1 and "autograd kernel" not in done.stderr
    assert set((tmp_path / "seen").read_text().splitlines()) == {"0 of 2", "1 of 2"}
    assert Path(tmp_path / "run" / "model" / "model.safetensors").exists()
    own = {"MODULES": str(tmp_path), "SEEN": str(tmp_path / "seen"), "RANK": "0", "WORLD_SIZE": "1"}
    assert finished(launch(tmp_path / "log", *words[2:-1], tmp_path / "one", **own)) == 0
    alike(rows(tmp_path / "one"), rows(tmp_path / "run"))
