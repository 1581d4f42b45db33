"""Batches of every kind of input are wholly on the device, and making them reads nothing back from it.

The device here is PyTorch's "meta", whose tensors have shapes and no values: what read one would be refused.
"""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from limbeck.data import Examples
from limbeck.data.conversion import as_examples
from limbeck.data.feed import Feed
from limbeck.data.images import ImageFiles
from limbeck.data.source import Source, Unseen
from limbeck.data.viewing import Viewing
from limbeck.data.workers import ahead
from limbeck.inputs import tensors_of
from limbeck.options import Augmentation, Training
from limbeck.protocols import Teaching
from limbeck.system.devices import Device
from limbeck.teachers import ModelTeacher
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective

META = torch.device("meta")
COUNT = 7


class Pairs(Dataset):
    def __len__(self):
        return COUNT

    def __getitem__(self, row):
        return torch.full((3,), float(row)), row % 2


def labels():
    return torch.arange(COUNT) % 2


def of_files(folder):
    names = [f"{row}.png" for row in range(COUNT)]
    for row, name in enumerate(names):
        Image.fromarray(np.full((9, 9, 3), 30 * row, np.uint8)).save(folder / name)
    return Examples.of(ImageFiles(folder, names), labels())


KINDS = {
    "numbers": lambda _: Examples.of(torch.rand(COUNT, 3), labels()),
    "images": lambda _: Examples.of(torch.zeros(COUNT, 1, 8, 8, dtype=torch.uint8), labels()),
    "columns": lambda _: Examples.of({"a": torch.rand(COUNT, 2), "b": torch.arange(COUNT)[:, None]}, labels()),
    "items": lambda _: as_examples(Pairs()),
    "files": of_files,
    "labels of tables": lambda _: Examples.of_labels(torch.rand(COUNT, 3), torch.eye(COUNT, 2, dtype=torch.int64)),
    "nothing": lambda _: Examples.of(Unseen(COUNT), labels()),
}


def told(batch):
    """Shapes and types of all that a batch has."""
    found = [*tensors_of(batch.inputs), batch.index, batch.labels]
    found += [] if batch.mixed is None else [batch.mixed.labels, batch.mixed.share]
    found += [] if batch.taught is None else [batch.taught.index, *tensors_of(batch.taught.inputs)]
    return found


class There(Source):
    """Rows that are on a device."""

    def __len__(self):
        return COUNT

    shape = property(lambda self: (COUNT, 1))

    def fetch(self, rows, keys, **_):
        return [torch.full((len(rows), 1), float(os.getpid()))]

    def select(self, rows):
        return self


def test_no_process_is_started_for_rows_on_a_device():
    rows = torch.arange(4)
    requests = [(rows, rows)] * 3

    def made_by(asked):
        return {float(made[0][0, 0]) for _, _, made in ahead(There(), asked, 0, None, (None,), 2)}

    assert made_by([(rows.to(META), rows.to(META))] * 3) == {float(os.getpid())}
    assert float(os.getpid()) not in made_by(requests)
    assert not made_by([])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize("name", KINDS)
def test_batches_are_on_the_device(name, mixup, workers, tmp_path):
    examples, augmentation = KINDS[name](tmp_path), Augmentation(mixup=mixup)
    if mixup and name in {"columns", "nothing", "labels of tables"}:
        return  # refused
    count = 0
    for here, there in zip(
        Feed(examples, batch_size=3, seed=0, augmentation=augmentation, workers=workers).batches(1),
        Feed(examples, batch_size=3, seed=0, augmentation=augmentation, workers=workers, device=META).batches(1),
        strict=True,
    ):
        wanted, found = told(here), told(there)
        assert [(each.shape, each.dtype) for each in found] == [(each.shape, each.dtype) for each in wanted]
        assert all(each.device == META for each in found)
        count += len(here.index)
    assert count == len(examples)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize("name", ["numbers", "images", "columns", "items", "files"])
def test_rows_may_be_asked_for_on_the_host(name, mixup, tmp_path):
    examples = KINDS[name](tmp_path)
    if mixup and name == "columns":
        return  # refused
    here, there = (
        Viewing(each, Augmentation(mixup=mixup)).batch(torch.tensor([4, 1]), view=3)
        for each in (examples, examples.to(META))
    )
    assert [(each.shape, each.device) for each in told(there)] == [(each.shape, META) for each in told(here)]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("name", "drawn"), [("images", {"shift": 1}), ("files", {"augment": "standard"})], ids=["images", "files"]
)
def test_a_teachers_own_view_is_on_the_device(name, drawn, live, tmp_path):
    examples, teaching, augmentation = KINDS[name](tmp_path), Teaching("fixed", live), Augmentation(**drawn)

    def batches(device):
        feed = Feed(examples, batch_size=3, seed=0, augmentation=augmentation, teaching=teaching, device=device)
        return feed.batches(0)

    for here, there in zip(batches("cpu"), batches(META), strict=True):
        assert [each.shape for each in told(there)] == [each.shape for each in told(here)]
        assert here.taught is not None and all(each.device == META for each in told(there))


HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def taught(examples, place, workers):
    """The losses of two epochs of a network that is taught by another."""
    torch.manual_seed(0)
    batch = next(Feed(examples, batch_size=COUNT, seed=0).batches(0))
    width = sum(each[0].numel() for each in tensors_of(batch.inputs))
    small, large = (Summing(width) for _ in range(2))
    feed = Feed(examples, batch_size=3, seed=0, workers=workers, device=place)
    teacher = ModelTeacher(large).to(place)
    objective = DistillationObjective(teacher, temperature=2.0, hard_weight=0.5)
    settings = Training(epochs=2, learning_rate=0.01)
    done = fit(small, objective, feed, settings, Device(place, "float32"), validation=examples)
    return [row["train_loss"] for row in done.history]


class Summing(nn.Module):
    """A linear network of all inputs, whatever their names."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, 2)

    def forward(self, x=None, **named):
        given = [x] if x is not None else [named[name] for name in sorted(named)]
        return self.linear(torch.cat([each.flatten(1).float() for each in given], 1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", sorted(set(KINDS) - {"nothing", "labels of tables"}))
def test_a_training_is_the_same_on_the_best_device(name, workers, tmp_path):
    """On a machine without an accelerator both are the processor."""
    examples = KINDS[name](tmp_path)
    assert taught(examples, HERE, workers) == pytest.approx(taught(examples, torch.device("cpu"), 0), rel=1e-4)
