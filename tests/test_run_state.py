"""The state of a run: what is kept as the best, and the way back to it."""

import torch
from torch import nn

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.devices import Device
from limbeck.options import Training
from limbeck.run_state import RunState


def made():
    feed = Feed(Examples.of(torch.rand(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])), batch_size=2, seed=0)
    torch.manual_seed(0)
    return RunState(nn.Linear(3, 2), feed, Training(epochs=2), Device(torch.device("cpu"), "float32"))


def step(state, gradient=1.0):
    for parameter in state.model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    state.optimizer.step()


def test_the_way_back_has_the_best_weights_and_none_of_the_averages_that_led_away():
    state = made()
    step(state)
    state.keep_best((3.0, 1.0))
    best = state.model.weight.detach().clone()
    step(state)
    state.keep_best((3.0, 1.0))  # as good as before: the earlier one stays
    assert not torch.equal(state.model.weight, best)
    state.go_back()
    assert torch.equal(state.model.weight, best)
    step(state, -0.3)
    after = state.model.weight.detach().clone()
    fresh = made()
    fresh.model.load_state_dict(state.best)
    step(fresh, -0.3)
    assert torch.equal(after, fresh.model.weight), "the next step is the first of a new optimiser"


def test_place_in_words():
    state = made()
    assert state.place == "the end of epoch 0"
    state.step = 2
    assert state.place == "epoch 1, step 2"
