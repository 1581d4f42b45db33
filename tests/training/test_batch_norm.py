"""Batch normalisation of a divided batch is that of the whole: outputs, gradients and running statistics."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from limbeck.errors import ConfigError
from limbeck.system.processes import World
from limbeck.training.batch_norm import over_all, refuse_unshared


class Meeting:
    """Threads in the place of processes: each waits for the others and gets the sum of what they brought."""

    def __init__(self, size):
        self.barrier, self.brought = threading.Barrier(size), [None] * size

    def add_up(self, rank, tensors):
        self.brought[rank] = [tensor.clone() for tensor in tensors]
        self.barrier.wait(20)
        for place, tensor in enumerate(tensors):
            tensor.copy_(sum(each[place] for each in self.brought))
        self.barrier.wait(20)


class Threaded(World):
    def add_up(self, tensors):
        self.meeting.add_up(self.rank, tensors)


def worlds(size):
    meeting = Meeting(size)
    for rank in range(size):
        here = Threaded(rank, size, torch.device("cpu"))
        object.__setattr__(here, "meeting", meeting)
        yield here


class Activated(nn.BatchNorm2d):
    """A layer with more in it than normalisation, as timm's."""

    def forward(self, x):
        return super().forward(x).relu()


def nets():
    torch.manual_seed(0)
    image = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), Activated(4, momentum=None))
    flat = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 3))
    return [(image, torch.rand(7, 1, 6, 6)), (flat, torch.rand(7, 6) + 100)]


def loss(net, x, rows, size):
    """Squares with a weight for each row, so that no gradient is zero by symmetry."""
    y = net(x).flatten(1)
    return (y.square() * torch.arange(1.0, size + 1)[rows, None]).sum() / size


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("bounds", [(0, 3, 7), (0, 1, 6, 7), (0, 7, 7)])
def test_a_divided_batch_is_normalised_as_the_whole(which, bounds):
    """(0, 7, 7): the second has no row of its own, computes with the first and counts for nothing."""
    net, x = nets()[which]
    whole, parts = copy.deepcopy(net).double(), [copy.deepcopy(net).double() for _ in bounds[1:]]
    x = x.double()
    for _ in range(2):
        loss(whole, x, slice(0, 7), 7).backward()
    there = worlds(len(parts))

    def work(world):
        first, last = bounds[world.rank], bounds[world.rank + 1]
        rows = slice(first, last) if last > first else slice(0, 1)
        for _ in range(2):
            with over_all(world, own=last - first):
                value = loss(parts[world.rank], x[rows], rows, 7)
                (value if last > first else 0 * value).backward()

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, there))
    for name, weight in whole.named_parameters():
        found = sum(dict(part.named_parameters())[name].grad for part in parts)
        assert torch.allclose(found, weight.grad, rtol=1e-9, atol=1e-9), name
    for part in parts:
        for (name, found), value in zip(part.named_buffers(), whole.buffers(), strict=True):
            assert torch.allclose(found.double(), value.double(), rtol=1e-9, atol=1e-12), name


def test_evaluation_is_left_alone():
    net, x = nets()[0]
    net.eval()
    with over_all(World(0, 2, torch.device("cpu")), own=7):  # would wait for another process
        found = net(x)
    assert torch.equal(found, net(x))


def test_what_cannot_be_shared_is_refused():
    refuse_unshared(nets()[0][0])
    with pytest.raises(ConfigError, match="1 is batch normalisation without running statistics"):
        refuse_unshared(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)))
