"""How long the quickstart will take: timed steps times their number."""

from types import SimpleNamespace

import pytest
import torch

from limbeck.options import DataOptions, ModelOptions, Training
from limbeck.recipes import quickstart
from limbeck.recipes.quickstart import Quickstart, expected_seconds
from limbeck.system.devices import Device

SMALL = Quickstart(
    data=DataOptions(data="mnist", validation=100, train_examples=500),
    teacher=ModelOptions(model="mlp", hidden=(16,)),
    teacher_training=Training(epochs=3, batch_size=100, device="cpu", precision="float32"),
    student=ModelOptions(model="mlp", hidden=(8,)),
    student_training=Training(epochs=2, batch_size=64, device="cpu", precision="float32"),
)


@pytest.mark.parametrize(
    ("threads", "place", "together", "rest"), [(1, "cpu", 2, 27), (2, "cpu", 1.2, 27), (2, "meta", 2, 11)]
)
def test_the_estimate_is_the_time_of_a_step_times_their_number(monkeypatch, threads, place, together, rest):
    seen = []

    def fit(model, objective, feed, training, device):
        teaches = feed.batch_size == 100
        seen.append((teaches, feed.augmentation.shift, torch.get_num_threads()))
        return SimpleNamespace(timings=[{"seconds": feed.steps * (0.5 if teaches else 0.25)}])

    monkeypatch.setattr(quickstart, "fit", fit)
    monkeypatch.setattr(quickstart, "find_device", lambda *_: Device(torch.device(place), "float32"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    teacher = 3 * 5 * 0.5
    pair = 2 * 8 * 0.25  # eight batches, the last of 52
    assert expected_seconds(SMALL) == pytest.approx(teacher + pair * together + rest)
    assert {(teaches, shift) for teaches, shift, _ in seen} == {(True, 2), (False, 0)}, "only the teacher sees shifts"


def test_the_estimate_trains_and_leaves_the_threads_alone():
    before = torch.get_num_threads()
    assert 27 < expected_seconds(SMALL) < 60
    assert torch.get_num_threads() == before
