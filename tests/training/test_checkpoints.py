"""Checkpoints within an epoch, by the clock; what stays when the disk, the folder or a file fails."""

import errno
import os
import shutil

import pytest
import torch

import limbeck.system.files
import limbeck.training.checkpoint
from limbeck.data import Examples, Feed
from limbeck.errors import FormatError, LimbeckError, RunError
from limbeck.options import Training
from limbeck.runs import train
from limbeck.runs.folder import RunFolder
from limbeck.system.devices import Device
from limbeck.training.checkpoint import load_latest, load_tensors, save_rotating
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective

CPU = Device(torch.device("cpu"), "float32")


def some(count=64):
    inputs = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
    return Examples.of(inputs, (inputs[:, 0] > 0.5).long())


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


class Clock:
    """A minute passes at each reading."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 60.0
        return self.now


class Places:
    """Where checkpoints were written."""

    def __init__(self, monkeypatch):
        self.found = []

        def save(folder, tensors, state):
            self.found.append((state["epoch"], state["step"]))
            save_rotating(folder, tensors, state)

        monkeypatch.setattr("limbeck.training.run_state.save_rotating", save)


def test_a_checkpoint_comes_when_its_minutes_are_over_and_at_every_end_of_an_epoch(tmp_path, monkeypatch):
    places = Places(monkeypatch)
    training = Training(epochs=2, batch_size=8, checkpoint_minutes=3)
    fit(net(), LabelObjective(), Feed(some(), batch_size=8, seed=0), training, CPU, folder=tmp_path, clock=Clock())
    # The clock is read once a step, and once when a checkpoint is written.
    assert places.found == [(0, 3), (0, 6), (1, 0), (1, 3), (1, 6), (2, 0)]
    places.found.clear()
    training = Training(epochs=2, batch_size=8, checkpoint_minutes=None)
    fit(net(), LabelObjective(), Feed(some(), batch_size=8, seed=0), training, CPU, folder=tmp_path, clock=Clock())
    assert places.found == [(1, 0), (2, 0)]


@pytest.mark.parametrize("dies_at", [2, 5, 7, 8, 11])
def test_a_run_goes_on_from_within_an_epoch_to_the_same_bits(tmp_path, dies_at):
    """What a kill does: the step that was begun never ends, and nothing is saved any more."""

    class Killed(Exception):
        pass

    class Dying(LabelObjective):
        steps = 0

        def __call__(self, logits, batch):
            self.steps += logits.requires_grad and len(batch.index) == 8
            if self.steps > dies_at + 2:  # the objective's own check asks a few times
                raise Killed
            return super().__call__(logits, batch)

    feed = Feed(some(), batch_size=8, seed=3)
    training = Training(epochs=2, batch_size=8, checkpoint_minutes=2, learning_rate=0.05)
    whole = net()
    expected = fit(whole, LabelObjective(), feed, training, CPU)
    with pytest.raises(Killed):
        fit(net(), Dying(), feed, training, CPU, folder=tmp_path, clock=Clock())
    _, state, _ = load_latest(tmp_path)
    assert 0 <= dies_at - (8 * state["epoch"] + state["step"]) <= 3
    again = net()
    found = fit(again, LabelObjective(), feed, training, CPU, folder=tmp_path, resume=True)
    assert torch.equal(weights(again), weights(whole))
    assert found.history == expected.history


def test_the_disk_holds_a_file_before_its_name_does(tmp_path, monkeypatch):
    """Bytes, then their name, then the folder: each is flushed before the next."""
    done = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(handle):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        real_sync(handle)

    def replace(source, target, **named):
        done.append("name")
        real_replace(source, target, **named)

    monkeypatch.setattr(limbeck.system.files.os, "fsync", sync)
    monkeypatch.setattr(limbeck.system.files.os, "replace", replace)
    save_rotating(tmp_path, {"a": torch.ones(2)}, 1)
    assert done == ["file", "name", "folder", "name", "folder"]


def test_a_kill_between_any_two_renames_loses_nothing(tmp_path, monkeypatch):
    """Every system call of the third save fails in turn; the second state, or the third, is read back each time."""

    class Killed(BaseException):
        pass

    for dies_at in range(6):
        folder = tmp_path / str(dies_at)
        folder.mkdir()
        for number in (1, 2):
            save_rotating(folder, {"a": torch.full((2,), float(number))}, number)
        calls = [0]

        def dying(real, calls=calls, dies_at=dies_at):
            def call(*given, **named):
                calls[0] += 1
                if calls[0] > dies_at:
                    raise Killed
                return real(*given, **named)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dying(os.replace))
            patch.setattr(os, "fsync", dying(os.fsync))
            with pytest.raises(Killed):
                save_rotating(folder, {"a": torch.full((2,), 3.0)}, 3)
        tensors, state, warning = load_latest(folder)
        assert state in {2, 3} and warning is None
        assert tensors["a"].tolist() == [state] * 2


def disk_full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def read_only(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(("failure", "words"), [(disk_full, "make room on the disk"), (read_only, "Read-only file")])
def test_a_full_or_read_only_disk_gives_one_line_and_leaves_the_old_state(tmp_path, monkeypatch, failure, words):
    save_rotating(tmp_path, {"a": torch.ones(2)}, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(limbeck.system.files.os, "fsync", failure)
    with pytest.raises(RunError, match=words):
        save_rotating(tmp_path, {"a": torch.zeros(2)}, 2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_vanishes_is_told_and_not_made_again(tmp_path):
    """Somebody removes the run's folder between two epochs: the lock went with it, so nothing is written there."""
    x = torch.rand(64, 4)

    class Remover(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 2)
            self.calls = 0

        def forward(self, inputs):
            self.calls += self.training
            if self.calls == 12 and self.training:
                shutil.rmtree(tmp_path / "run")
            return self.inner(inputs)

    with pytest.raises(RunError, match=r"vanished"):
        train(Remover(), (x, (x[:, 0] > 0.5).long()), epochs=4, batch_size=8, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    folder = RunFolder(tmp_path / "gone")
    with pytest.raises(RunError, match="gone was deleted"):
        folder.sub("members/1")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_torn_newest_checkpoint_falls_back_and_says_so(tmp_path, cut):
    for number in (1, 2):
        save_rotating(tmp_path, {"a": torch.full((9,), float(number))}, number)
    path = tmp_path / "latest.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FormatError):
        load_tensors(path)
    tensors, state, warning = load_latest(tmp_path)
    assert state == 1 and tensors["a"][0] == 1
    assert "latest.safetensors" in warning and "the checkpoint before it" in warning


def test_another_run_in_the_folder_is_told(tmp_path):
    with RunFolder(tmp_path / "run").open("train", {}, resume=False):
        with pytest.raises(LimbeckError, match="in use by"):
            with RunFolder(tmp_path / "run").open("train", {}, resume=True):
                pytest.fail("two at once")


def test_the_same_state_is_the_same_bytes(tmp_path):
    """Found by killing runs: safetensors keeps its notes in a table without order."""
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.int64)}
    made = []
    for number in range(12):
        limbeck.training.checkpoint.save_tensors(tmp_path / str(number), tensors, {"näme": number - number})
        made.append((tmp_path / str(number)).read_bytes())
    assert len(set(made)) == 1
    found, state = load_tensors(tmp_path / "0")
    assert state == {"näme": 0} and all(torch.equal(found[name], value) for name, value in tensors.items())
