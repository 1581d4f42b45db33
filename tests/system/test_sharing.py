"""Large tensors go to other processes once, by a file that each maps; what one changes is its own."""

import functools
import pickle

import torch
from torch import nn

from limbeck.system import sharing
from limbeck.system.jobs import run_jobs
from limbeck.system.sharing import Shelf


def networks():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(600, 600), nn.BatchNorm1d(600), nn.Linear(600, 600).bfloat16())
    teacher[2].weight = nn.Parameter(teacher[2].weight.detach().double(), requires_grad=False)
    return teacher, torch.arange(1 << 19)


def test_each_large_tensor_is_written_once_and_comes_back_to_the_bit(tmp_path):
    teacher, examples = networks()
    shelf = Shelf(tmp_path)
    payloads = [shelf.pack((teacher, examples, number)) for number in range(3)]
    assert len(list(tmp_path.iterdir())) == 3 and all(len(payload) < 30_000 for payload in payloads)
    for number, payload in enumerate(payloads):
        again, same, count = pickle.loads(payload)
        assert count == number and torch.equal(same, examples)
        for (name, value), found in zip(teacher.state_dict().items(), again.state_dict().values(), strict=True):
            assert torch.equal(value, found) and value.dtype == found.dtype, name
        assert again[0].weight.requires_grad and not again[2].weight.requires_grad
        with torch.no_grad():
            again[0].weight.fill_(number)  # a copy of its own
            same.zero_()


def test_what_is_shared_inside_stays_shared_and_odd_tensors_are_pickled(tmp_path):
    tied = nn.ModuleList([nn.Linear(600, 600, bias=False), nn.Linear(600, 600, bias=False)])
    tied[1].weight = tied[0].weight
    odd = [torch.rand(600, 600).t(), torch.rand(600, 600).requires_grad_(), torch.rand(600, 600, dtype=torch.cfloat)]
    again, others = pickle.loads(Shelf(tmp_path).pack((tied, odd)))
    assert again[0].weight is again[1].weight
    assert all(torch.equal(one, other) for one, other in zip(odd, others, strict=True))


def test_a_full_disk_is_no_obstacle(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path / "missing")
    values = torch.rand(1 << 19)
    assert torch.equal(pickle.loads(shelf.pack(values)), values)


def test_tasks_are_small_and_their_results_the_same(monkeypatch):
    sent, pack = [], Shelf.pack
    monkeypatch.setattr(Shelf, "pack", lambda self, value: sent.append(pack(self, value)) or sent[-1])
    values = torch.rand(1 << 20)
    tasks = [functools.partial(torch.add, values, number) for number in range(3)]
    for number, found in enumerate(run_jobs(tasks, jobs=2)):
        assert torch.equal(found, values + number)
    assert len(sent) == 3 and max(map(len, sent)) < 5_000
    assert sharing._LARGE <= values.nbytes
