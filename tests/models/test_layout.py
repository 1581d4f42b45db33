"""Networks of depthwise convolutions are trained channels last on a processor, and lie as before afterwards."""

import copy

import pytest
import torch
from torch import nn

from limbeck.data import Examples
from limbeck.data.feed import Feed
from limbeck.errors import InterruptedRun
from limbeck.models.layout import Layout
from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective

CPU = torch.device("cpu")
IMAGES, LABELS = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(5)), torch.arange(24) % 3


class Deep(nn.Sequential):
    """A small network with a depthwise convolution."""

    def __init__(self, *end):
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 8, 3, groups=8),
            nn.Conv2d(8, 4, 1, stride=1 if end else 2), *(end or (nn.AdaptiveAvgPool2d(1), nn.Flatten())),
            nn.LazyLinear(3),
        )  # fmt: skip
        self.eval()(IMAGES[:1])


class Viewed(nn.Module):
    """What convolutions of most implementations end in."""

    def forward(self, x):
        return x.view(len(x), -1)


def lies_last(weight):
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_only_networks_with_depthwise_convolutions_on_a_processor_lie_otherwise():
    deep, plain = Deep(), nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(1, 4, 3))
    for model, device in ((plain, CPU), (deep, torch.device("meta")), (nn.Linear(2, 2), CPU)):
        with Layout(model, device) as layout:
            assert not layout.changed
    before = copy.deepcopy(deep.state_dict())
    with Layout(deep, CPU):
        assert lies_last(deep[0].weight)
        assert lies_last(deep[4].weight) or deep[4].weight.is_contiguous()  # one pixel lies either way
    after = deep.state_dict()
    assert all(torch.equal(after[name], value) and after[name].is_contiguous() for name, value in before.items())
    with pytest.raises(RuntimeError), Layout(deep, CPU):
        raise RuntimeError
    assert deep[0].weight.is_contiguous()


def test_gradients_are_those_of_float64():
    exact, deep = Deep().double(), Deep()
    exact.train()(IMAGES.double()).square().sum().backward()
    with Layout(deep, CPU):
        deep.train()(IMAGES).square().sum().backward()
        assert lies_last(deep[0].weight.grad)
    for one, other in zip(deep.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-4)


def trained(model, folder, *, stop=None, resume=False):
    """A training of four epochs, and how a weight lay after each."""
    examples, settings, lay = Examples.of(IMAGES, LABELS), Training(epochs=4, batch_size=8, seed=1), []

    def look(epoch, model):
        lay.append(lies_last(model[0].weight))
        if epoch == stop:
            raise InterruptedRun("stopped", 2)

    feed = Feed(examples, batch_size=8, seed=1)
    fit(model, LabelObjective(), feed, settings, Device(CPU, "float32"), validation=examples, folder=folder,
        resume=resume, after_epoch=look)  # fmt: skip
    return model.state_dict(), lay


def test_a_training_lies_last_and_its_result_does_not(tmp_path):
    whole, lay = trained(Deep(), tmp_path / "whole")
    assert lay == [True] * 4 and all(each.is_contiguous() for each in whole.values())
    model = Deep()
    with pytest.raises(InterruptedRun):
        trained(model, tmp_path / "stopped", stop=2)
    assert model[0].weight.is_contiguous()
    again, lay = trained(Deep(), tmp_path / "stopped", resume=True)
    assert lay == [True, True] and all(torch.equal(again[name], value) for name, value in whole.items())


def test_a_network_that_views_what_lies_so_is_trained_as_it_is(tmp_path):
    model = Deep(Viewed())
    with Layout(model, CPU) as layout:
        with pytest.raises(RuntimeError, match="view"):
            model(IMAGES)
        layout.keep_if(lambda: IMAGES[:2])
        assert not layout.changed and model(IMAGES).shape == (24, 3)
    _, lay = trained(model, tmp_path)
    assert lay == [False] * 4
