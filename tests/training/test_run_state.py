"""The state of a run: what is kept as the best, and the way back to it."""

import dataclasses

import pytest
import torch
from torch import nn

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.errors import LimbeckError
from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.training.checkpoint import load_tensors, save_tensors
from limbeck.training.run_state import RunState


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


def another(optimizer):
    feed = Feed(Examples.of(torch.arange(18.0).view(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])), batch_size=2, seed=0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    return RunState(net, feed, Training(epochs=2, optimizer=optimizer), Device(torch.device("cpu"), "float32"))


ODD = {
    "empty": lambda value: value.flatten()[:0],
    "longer": lambda value: torch.cat([value.flatten(), value.flatten()[:1]]),
    "a dimension more": lambda value: value[None],
    "float64": lambda value: value.double() if value.dtype != torch.float64 else value.float(),
    "int8": lambda value: value.to(torch.int8),
    "bool": lambda value: value.bool(),
    "complex": lambda value: value.to(torch.complex64),
    "float8": lambda value: value.float().to(torch.float8_e4m3fn),
    "uint16": lambda value: value.to(torch.int16).view(torch.uint16),
    "gone": lambda value: None,
}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_no_tensor_of_another_shape_or_type_is_taken_from_a_checkpoint_with_a_good_checksum(tmp_path, optimizer, every):
    torch.manual_seed(1)
    state = another(optimizer)
    step(state)
    state.keep_best((3.0, 1.0))
    step(state)
    state.save(tmp_path)
    path = tmp_path / "latest.safetensors"
    tensors, noted = load_tensors(path)
    assert {name.split(".")[0] for name in tensors} == {"model", "best", "optimizer", "random"}
    fresh = another(optimizer)
    fresh.restore(tmp_path)
    assert all(torch.equal(fresh.best[name], value) for name, value in state.best.items())
    kinds = list(ODD.items())
    for number, (name, value) in enumerate(tensors.items()):
        # All of all: `make test-slow`. Here each tensor has some, and each kind comes with some tensors.
        for kind, change in kinds if every else kinds[number % 4 :: 4]:
            if name.endswith(".step") and kind == "float64":  # where that is the default type
                continue
            odd = change(value)
            others = {other: tensor for other, tensor in tensors.items() if other != name}
            save_tensors(path, others if odd is None else {**others, name: odd}, noted)
            with pytest.raises(LimbeckError) as told:
                another(optimizer).restore(tmp_path)
            assert str(tmp_path) in str(told.value) and "\n" not in str(told.value), (name, kind)
            assert name in str(told.value) or name == "random", (name, kind, str(told.value))


def test_a_checkpoint_that_lists_no_tensors_is_one_of_an_earlier_version(tmp_path):
    state = another("adamw")
    step(state)
    state.save(tmp_path)
    path = tmp_path / "latest.safetensors"
    tensors, noted = load_tensors(path)
    del noted["tensors"]
    save_tensors(path, tensors, noted)
    fresh = another("adamw")
    assert fresh.restore(tmp_path) is None
    assert torch.equal(fresh.model[0].weight, state.model[0].weight)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_nan_in_a_checkpoint_with_a_good_checksum_is_refused_by_name(tmp_path, optimizer):
    state = another(optimizer)
    step(state)
    state.keep_best((3.0, 1.0))
    state.save(tmp_path)
    path = tmp_path / "latest.safetensors"
    tensors, noted = load_tensors(path)
    names = [name for name in tensors if name != "random" and "running" not in name and "num_batches" not in name]
    assert {name.split(".")[0] for name in names} == {"model", "best", "optimizer"}
    for name in names:
        odd = tensors[name].clone()
        odd.view(-1)[-1] = torch.nan
        save_tensors(path, {**tensors, name: odd}, noted)
        with pytest.raises(LimbeckError, match=rf"{tmp_path}.*{name} holds NaN"):
            another(optimizer).restore(tmp_path)
    # A module's own constants are its own.
    save_tensors(path, {**tensors, "model.1.running_mean": torch.full((2,), torch.nan)}, noted)
    another(optimizer).restore(tmp_path)


def test_a_run_is_not_continued_in_another_precision(tmp_path):
    state = another("adamw")
    step(state)
    state.save(tmp_path)
    other = another("adamw")
    other.device = Device(torch.device("cpu"), "bf16")
    with pytest.raises(LimbeckError, match="precision = float32, and now it is bf16"):
        other.restore(tmp_path)


def test_a_run_that_resumes_must_agree_in_every_setting_but_its_length_and_what_changes_no_bit(tmp_path):
    free = {
        "device",
        "epochs",
        "patience",
        "checkpoint_minutes",
        "skip_nonfinite",
        "workers",
        "compile",
        "cuda_graphs",
    } | {"side_by_side"}
    state = another("adamw")
    assert {field.name for field in dataclasses.fields(Training)} - set(state.fingerprint()) == free
    step(state)
    state.save(tmp_path)
    other = another("adamw")
    other.training = dataclasses.replace(other.training, seed=1)
    with pytest.raises(LimbeckError, match="seed = 0, and now it is 1"):
        other.restore(tmp_path)
