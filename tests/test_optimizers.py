"""Optimisers have the settings that were asked for, from the first step on."""

import pytest
import torch
from torch import nn

from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.training.optimizers import make_optimizer
from limbeck.training.schedules import Schedule

CPU = Device(torch.device("cpu"), "float32")


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("rate", [None, 0.03, 2.0])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_optimiser_begins_with_the_peak_and_the_schedule_reaches_it(optimizer, rate):
    settings = {} if rate is None else {"learning_rate": rate}
    training = Training(optimizer=optimizer, epochs=8, weight_decay=0.1, schedule="constant", **settings)
    peak = rate or {"adamw": 1e-3, "sgd": 0.1}[optimizer]
    made = make_optimizer(net(), training, CPU)
    assert [group["lr"] for group in made.param_groups] == [peak, peak]
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
    assert Schedule(training, 5).rate(0) == peak


def test_momentum_is_that_of_the_settings():
    for momentum, nesterov in ((0.0, True), (0.8, True), (0.8, False)):
        training = Training(optimizer="sgd", momentum=momentum, nesterov=nesterov)
        (group,) = make_optimizer(net(), training, CPU).param_groups
        assert (group["momentum"], group["nesterov"]) == (momentum, nesterov and momentum > 0)


def test_the_plateau_halves_after_its_patience_from_the_peak_and_each_time_anew():
    schedule = Schedule(Training(learning_rate=0.8, schedule="plateau", plateau_patience=2), 3)
    rates = []
    for validation in (5, 4, 4, 4, 4.5, 4.5, 3, 3, 2.9, 3, 3):  # equal is no gain
        schedule.observe(validation)
        rates.append(schedule.rate(0))
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1]


def test_the_plateaus_patience_is_three_where_none_is_given():
    schedule = Schedule(Training(learning_rate=1.0, schedule="plateau"), 1)
    rates = []
    for validation in (1, 1, 1, 1, 1):
        schedule.observe(validation)
        rates.append(schedule.rate(9))
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_optimisers_without_the_compiler_make_the_very_steps_of_pytorch_s(optimizer, decay):
    training = Training(optimizer=optimizer, weight_decay=decay, learning_rate=0.03, momentum=0.9)
    torch.manual_seed(0)
    ours, plain = net(), net()
    plain.load_state_dict(ours.state_dict())
    made = make_optimizer(ours, training, CPU)
    kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
    settings = {} if optimizer == "adamw" else {"momentum": 0.9, "nesterov": True}
    theirs = kind(
        [{"params": [p for p in plain.parameters() if p.ndim >= 2], "weight_decay": decay},
         {"params": [p for p in plain.parameters() if p.ndim < 2], "weight_decay": 0.0}],
        lr=0.03, fused=True, **settings,
    )  # fmt: skip
    assert isinstance(made, kind) and type(made).__name__ == kind.__name__
    for number in range(5):
        for model, steps in ((ours, made), (plain, theirs)):
            steps.zero_grad()
            model(torch.arange(12.0).reshape(4, 3) + number).square().sum().backward()
            steps.step()
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            assert torch.equal(one, other) and one.requires_grad
    state = made.state_dict()
    again = make_optimizer(ours, training, CPU)
    again.load_state_dict(state)
    assert str(again.state_dict()) == str(state) and set(state) == set(theirs.state_dict())
