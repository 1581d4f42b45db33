"""The steps of stacked optimisers against PyTorch's, for gradients of any size."""

import copy

import pytest
import torch
from torch import nn

from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.training.optimizers import make_optimizer
from limbeck.training.stacked import Stack

HERE = Device(torch.device("cpu"), "float32")


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e3])
@pytest.mark.parametrize("clip", [None, 0.5, 1e6])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_steps_are_those_of_each_optimizer(optimizer, clip, size):
    torch.manual_seed(0)
    training = Training(optimizer=optimizer, clip_norm=clip, weight_decay=0.01)
    nets = [nn.Linear(3, 2) for _ in range(3)]
    alone = [copy.deepcopy(net) for net in nets]
    theirs = [make_optimizer(net, training, HERE) for net in alone]
    stack = Stack(nets, [make_optimizer(net, training, HERE) for net in nets], training, [0, 2, 3], 5)
    rates = [0.1, 0.01, 0.001]
    for _ in range(4):
        for weight in stack.weights.values():
            weight.grad = size * torch.randn(weight.shape)
        for place, net, own, rate in zip(stack.places, alone, theirs, rates, strict=True):
            for name, parameter in net.named_parameters():
                parameter.grad = stack.weights[name].grad[place].clone()
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            for group in own.param_groups:
                group["lr"] = rate
            own.step()
        stack.update(rates, stack.norms())
        for net, other in zip(nets, alone, strict=True):
            for mine, parameter in zip(net.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(mine, parameter, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.0}])
@pytest.mark.parametrize("rates", [(0.1, 0.1, 0.1), (0.1, 0.01, 0.1)])
def test_nothing_is_rounded_otherwise_for_what_the_others_are(settings, rates):
    """To the bit each network's steps are those of its own optimiser, whatever the others' learning rates."""
    torch.manual_seed(0)
    training = Training(weight_decay=0.01, **settings)
    nets = [nn.Linear(5, 3) for _ in range(3)]
    alone = [copy.deepcopy(net) for net in nets]
    theirs = [make_optimizer(net, training, HERE) for net in alone]
    stack = Stack(nets, [make_optimizer(net, training, HERE) for net in nets], training)
    for _ in range(3):
        for weight in stack.weights.values():
            weight.grad = torch.randn(weight.shape)
        for place, (net, own, rate) in enumerate(zip(alone, theirs, rates, strict=True)):
            for name, parameter in net.named_parameters():
                parameter.grad = stack.weights[name].grad[place].clone()
            for group in own.param_groups:
                group["lr"] = rate
            own.step()
        stack.update(rates, stack.norms())
    for net, other in zip(nets, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
