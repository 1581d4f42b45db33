"""Judging: where models are for it, and how long timing takes."""

import time

import numpy as np
import pandas
import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples
from limbeck.data.table import Table
from limbeck.data.table_files import examples_of_frame
from limbeck.evaluation.prediction import device_of
from limbeck.evaluation.subjects import subject_of
from limbeck.models import MLP, MLPConfig, to_int8
from limbeck.runs.measure import multiply_adds
from limbeck.runs.speed import placed, speed_of
from limbeck.teachers import Ensemble, ModelTeacher

EXAMPLES = Examples.of(torch.rand(9, 6, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3)


class Slow(nn.Module):
    def __init__(self, seconds, each=0.0, most=None):
        super().__init__()
        self.seconds, self.each, self.most, self.seen = seconds, each, most, []
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        self.seen.append(len(x))
        if self.most is not None and len(x) > self.most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")
        time.sleep(self.seconds + self.each * len(x))
        return self.last(x)


def test_rows_are_encoded_before_a_teacher_is_timed(monkeypatch):
    """Else its time is mostly that of the encoder, and another than the same network has by itself."""
    rows = examples_of_frame(pandas.DataFrame(np.eye(9, 6), columns=list("abcdef")))
    net = nn.Linear(6, 3)
    net.presentation = rows.inputs.presentation
    encoded = []
    fetch = Table.fetch
    monkeypatch.setattr(Table, "fetch", lambda *given, **named: encoded.append(1) or fetch(*given, **named))
    for given in (net, Ensemble([net, net])):
        subject = subject_of(given)
        batch = subject.presented(rows.batch(torch.arange(9)))
        encoded.clear()
        for _ in range(3):
            subject.answer(batch, dtype=None)
        assert not encoded


def test_a_slow_model_is_timed_once_and_a_quick_one_often():
    slow, quick = Slow(1.1), Slow(0.0)
    found = speed_of(slow, EXAMPLES, seconds=0.1)
    assert slow.seen == [1] and found["latency_ms"] >= 1100
    assert found["images_per_second"] == pytest.approx(1000 / found["latency_ms"])
    speed_of(quick, EXAMPLES, seconds=0.1)
    assert quick.seen.count(1) > 3 and quick.seen.count(256) > 3


def test_as_many_are_timed_together_as_fit_into_time_and_memory():
    net = Slow(0.0, each=0.001)
    began = time.perf_counter()
    found = speed_of(net, EXAMPLES, seconds=0.05)
    assert time.perf_counter() - began < 3 and max(net.seen) < 256  # 256 would take a quarter of a second each time
    assert found["images_per_second"] < 1000
    narrow = Slow(0.0, most=70)
    speed_of(narrow, EXAMPLES, seconds=0.1)
    assert narrow.seen.count(256) == 1 and max(size for size in narrow.seen if size <= 70) == 64


def test_judging_leaves_a_model_as_it_was():
    net = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    net.train()
    net[1].eval()
    limbeck.evaluate(net, EXAMPLES, teacher=net, device="cpu")
    speed_of(net, EXAMPLES, seconds=0.01)
    multiply_adds(net, EXAMPLES)
    assert net.training and net[2].training and not net[1].training
    assert int(net[2].num_batches_tracked) == 0


def test_a_subject_is_placed_for_the_time_and_comes_back():
    torch.manual_seed(0)
    meta = torch.device("meta")
    net = MLP(MLPConfig(input_shape=(6,), classes=3, hidden=(4,)))
    kinds = [ModelTeacher(net), Ensemble([net, net])]
    for teacher in kinds:
        with placed(teacher, torch.device("cpu")) as there:
            assert there is teacher
    away = nn.Linear(2, 2, device=meta)
    with placed(away, meta) as there:
        assert there is away
    # Weights that are moved to the meta device are lost: only what is not moved is looked at here.
    rounded = to_int8(net)
    for subject in (rounded, Ensemble([rounded, rounded])):
        with placed(subject, meta) as there:
            assert device_of(there).type == "cpu"


class Elsewhere(nn.Module):
    """A module that writes down where it is sent, and by whom it is then asked."""

    def __init__(self):
        super().__init__()
        self.last, self.went = nn.Linear(6, 3), []

    def to(self, device):
        self.went.append(torch.device(device))
        return self

    def forward(self, x):
        self.went.append("asked")
        return self.last(x)


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_moved_is_moved_back_whatever_happens(fails):
    net = Elsewhere()
    try:
        with placed(net, torch.device("meta")) as there:
            there(torch.ones(1, 6))
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert net.went == [torch.device("meta"), "asked", torch.device("cpu")]
