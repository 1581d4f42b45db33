"""Trainings side by side against each alone."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from limbeck.data import Examples
from limbeck.data.feed import Feed
from limbeck.errors import InterruptedRun, NonFiniteError
from limbeck.models import MLP, MLPConfig
from limbeck.options import Training
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.teachers import as_teacher
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective
from limbeck.training.side_by_side import fit_side_by_side
from limbeck.training.stackable import Member, suit

HERE = Device(torch.device("cpu"), "float32")
DRAWN = torch.Generator().manual_seed(0)
X = torch.randn(150, 6, generator=DRAWN)
Y = (X[:, 0] + X[:, 1] ** 2 > 0.7).long() + (X[:, 2] > 1).long()
TRAIN, VALIDATION = Examples.of(X[:110], Y[:110]), Examples.of(X[110:], Y[110:])
TEACHER = as_teacher(nn.Linear(6, 3).requires_grad_(False))


def net(seed, hidden=7):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, hidden), nn.LayerNorm(hidden), nn.Tanh(), nn.Linear(hidden, 3))


def members(training, folder=None, models=net):
    """Two seeds, labels and soft targets at several temperatures and weights, and several learning rates."""
    losses = [
        LabelObjective(training.label_smoothing),
        *(
            DistillationObjective(TEACHER, temperature=t, hard_weight=w, label_smoothing=training.label_smoothing)
            for t, w in ((1.0, 0.0), (4.0, 0.3), (20.0, 0.9), (2.0, 1.0))
        ),
    ]
    found = []
    for number, loss in enumerate([*losses, *losses]):
        seed = number // len(losses)
        own = replace(training, seed=seed, learning_rate=training.peak_learning_rate * (1 + number % 3))
        feed = Feed(TRAIN, batch_size=own.batch_size, seed=seed)
        place = None if folder is None else folder / str(number)
        found.append(Member(models(seed), loss, feed, own, VALIDATION, place, name=str(number)))
    return found


def alone(member, **more):
    model = copy.deepcopy(member.model)
    fitted = fit(
        model, member.objective, Feed(TRAIN, batch_size=member.training.batch_size, seed=member.training.seed),
        member.training, HERE, validation=member.validation, **more,
    )  # fmt: skip
    return model, fitted


SETTINGS = [
    Training(epochs=3, batch_size=32, precision="float32"),
    Training(epochs=3, batch_size=40, precision="float32", weight_decay=0.1, clip_norm=0.05, label_smoothing=0.1),
    Training(epochs=3, batch_size=32, precision="float32", optimizer="sgd", learning_rate=0.02, weight_decay=0.01),
    Training(epochs=2, batch_size=32, precision="float32", optimizer="sgd", nesterov=False, keep="last"),
    Training(epochs=2, batch_size=32, precision="float32", optimizer="sgd", momentum=0.0, schedule="exponential"),
    Training(epochs=6, batch_size=32, precision="float32", schedule="plateau", plateau_patience=1, patience=2),
]


@pytest.mark.parametrize("training", SETTINGS, ids=lambda each: f"{each.optimizer}, {each.schedule}")
def test_each_equals_its_training_alone(training):
    together = members(training)
    expected = [alone(each) for each in together]
    assert suit(together, HERE)
    found = fit_side_by_side(together, HERE)
    for each, (model, fitted), beside in zip(together, expected, found, strict=True):
        assert len(beside.history) == len(fitted.history) and beside.best_epoch == fitted.best_epoch
        for mine, theirs in zip(beside.history, fitted.history, strict=True):
            assert mine == pytest.approx(theirs, rel=2e-4, abs=1e-6)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(each.model.state_dict()[name], value, rtol=1e-3, atol=2e-5)
            torch.testing.assert_close(beside.last[name], fitted.last[name], rtol=1e-3, atol=2e-5)
        assert all(weight.untyped_storage().nbytes() == 4 * weight.numel() for weight in each.model.parameters())


class Stops(Callback):
    """Raises at a place."""

    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_epoch(self, row):
        if row["epoch"] == self.epoch:
            raise self.error


def test_what_a_callback_raises_ends_one_training_alone():
    training = SETTINGS[0]
    whole, cut = members(training), members(training)
    expected = fit_side_by_side(whole, HERE)
    stop = ValueError("enough")
    cut[3] = replace(cut[3], callback=Stops(2, stop))
    found = fit_side_by_side(cut, HERE)
    assert found[3] is stop
    for number in (0, 4, 9):
        assert found[number].history == expected[number].history
        for one, other in zip(cut[number].model.parameters(), whole[number].model.parameters(), strict=True):
            assert torch.equal(one, other)


def test_one_that_is_not_finite_is_left_out_and_named():
    training = SETTINGS[2]
    some = members(training)
    some[1] = replace(some[1], training=replace(some[1].training, learning_rate=1e30))
    good = members(training)
    expected, found = fit_side_by_side(good, HERE), fit_side_by_side(some, HERE)
    assert isinstance(found[1], NonFiniteError) and "became NaN or infinite at epoch 1, step" in str(found[1])
    assert found[0].history == expected[0].history and found[9].history == expected[9].history
    assert all(weight.isfinite().all() for weight in some[9].model.parameters())


def bits(some):
    return [[value.clone() for value in each.model.state_dict().values()] for each in some]


def test_a_resumed_group_ends_in_the_same_bits(tmp_path):
    training = replace(SETTINGS[1], checkpoint_minutes=None, epochs=4)
    whole = members(training, tmp_path / "whole")
    fitted = fit_side_by_side(whole, HERE)
    cut = members(training, tmp_path / "cut")
    for number, epoch in ((2, 2), (7, 3)):  # two fall behind the others
        cut[number] = replace(cut[number], callback=Stops(epoch, ValueError()))
    fit_side_by_side(cut[:3] + cut[5:], HERE, places=(0, 1, 2, 5, 6, 7, 8, 9), width=10)  # and two have not begun
    again = members(training, tmp_path / "cut")
    found = fit_side_by_side(again, HERE, resume=True)
    assert [each.history for each in found] == [each.history for each in fitted]
    for one, other in zip(bits(again), bits(whole), strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("places", [(0, 9), (3, 4), (7,), (1, 2, 6, 8)])
def test_what_is_left_of_a_group_ends_in_the_bits_of_the_group(places):
    whole, some = members(SETTINGS[1]), members(SETTINGS[1])
    expected = fit_side_by_side(whole, HERE)
    left = [some[place] for place in places]
    found = fit_side_by_side(left, HERE, places=places, width=10)
    assert [each.history for each in found] == [expected[place].history for place in places]
    for one, other in zip(bits(left), [bits(whole)[place] for place in places], strict=True):
        assert all(map(torch.equal, one, other))


class Signals(Callback):
    """Pretends that a signal came, within an epoch."""

    def __init__(self, caught):
        self.caught = caught

    def on_step(self, *_):
        self.caught.append(15)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_signal_within_an_epoch_saves_all(tmp_path, monkeypatch, steps):
    from limbeck.training import side_by_side

    monkeypatch.setattr(side_by_side, "LOOK_EVERY", steps)
    training = replace(SETTINGS[0], batch_size=20)
    whole = members(training, tmp_path / "whole")
    fit_side_by_side(whole, HERE)
    caught = []
    import contextlib

    with monkeypatch.context() as patched:
        patched.setattr(side_by_side, "collect_signals", lambda **_: contextlib.nullcontext(caught))
        cut = members(training, tmp_path / "cut")
        cut[0] = replace(cut[0], callback=Signals(caught))
        with pytest.raises(InterruptedRun, match=f"after step {steps} of epoch 1"):
            fit_side_by_side(cut, HERE)
    again = members(training, tmp_path / "cut")
    fit_side_by_side(again, HERE, resume=True)
    for one, other in zip(bits(again), bits(whole), strict=True):
        assert all(map(torch.equal, one, other))


def test_a_checkpoint_of_a_group_is_one_of_a_training_alone(tmp_path):
    training = replace(SETTINGS[2], epochs=4)
    some = members(training, tmp_path)
    some = [replace(each, callback=Stops(2, ValueError())) for each in some]
    fit_side_by_side(some, HERE)
    model, fitted = alone(replace(members(training)[6]), folder=tmp_path / "6", resume=True)
    expected, straight = alone(members(training)[6])
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3, 4]
    for row, other in zip(fitted.history, straight.history, strict=True):
        assert row == pytest.approx(other, rel=2e-4)
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)


class Random(nn.Module):
    """Draws in its forward pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) + torch.rand(1)


class Own(nn.Module):
    """A user's own module, with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.scale = nn.Linear(6, 5), nn.Linear(5, 3), nn.Parameter(torch.ones(5))

    def forward(self, x):
        return self.outer(self.scale * torch.relu(self.inner(x)))


def test_what_does_not_suit_is_known():
    base = members(SETTINGS[0])
    assert suit(base, HERE) and not suit(base[:3], HERE)
    assert not suit(base, Device(torch.device("cpu"), "bf16"))
    for other in ("newbob", "skip", "balanced", "off", "accumulate"):
        changed = {
            "newbob": {"schedule": "newbob"}, "skip": {"skip_nonfinite": True}, "off": {"side_by_side": False},
            "balanced": {"class_weight": "balanced"}, "accumulate": {"accumulate": 2},
        }[other]  # fmt: skip
        assert not suit(members(replace(SETTINGS[0], **changed)), HERE), other
    drops = [nn.Sequential(net(seed), nn.Dropout(0.5)) for seed in (0, 1)]
    for models in (
        drops.__getitem__,
        lambda seed: net(seed, hidden=7 + seed),
        lambda seed: net(seed, hidden=30_000),
        lambda seed: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)),
        lambda seed: Random(),
        lambda seed: MLP(MLPConfig(input_shape=(6,), classes=3, hidden=(5,), max_norm=1.0)),
        lambda seed: net(seed).requires_grad_(False),
        lambda seed: net(seed).double(),
    ):
        assert not suit(members(SETTINGS[0], models=models), HERE)
    for models in (
        lambda seed: Own(),
        lambda seed: MLP(MLPConfig(input_shape=(6,), classes=3, hidden=(5,), activation="maxout", input_mean=0.5)),
    ):
        assert suit(members(SETTINGS[0], models=models), HERE)
    dkd = DistillationObjective(TEACHER, method="dkd", hard_weight=0.5)
    assert not suit([*base, replace(base[0], objective=dkd)], HERE)
    few = Feed(TRAIN.take(torch.arange(100)), batch_size=32, seed=0)
    assert not suit([*base, replace(base[0], feed=few)], HERE)


class Scaled(nn.Module):
    """A network with a constant that its weights do not show."""

    def __init__(self, scale):
        super().__init__()
        self.layers, self.scale = nn.Sequential(nn.Linear(6, 3)), scale

    def forward(self, x):
        return self.scale * self.layers(x)


def test_networks_that_answer_otherwise_when_stacked_are_trained_alone():
    assert suit(members(SETTINGS[0], models=lambda seed: Scaled(2.0)), HERE)
    assert not suit(members(SETTINGS[0], models=lambda seed: Scaled(2.0 + seed)), HERE)
