"""Settings that change nothing beside others are told by name, and what cannot be is refused."""

import pytest
import torch
from torch import nn

import limbeck
from limbeck import Examples, LimbeckWarning
from limbeck.errors import DataError
from limbeck.lowrank import RankPlan
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.options import Augmentation, RankRule
from limbeck.system.callbacks import Callback

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0.5).long()
QUICK = {"epochs": 1, "precision": "float32", "device": "cpu", "batch_size": 40}


class Heard(Callback):
    def __init__(self):
        self.warned = []

    def on_warning(self, text):
        self.warned.append(text)


def names_of(heard):
    return [text.split()[0] for text in heard.warned if "has no effect" in text]


def net():
    return MLP(MLPConfig(input_shape=(6,), classes=2, hidden=(4,)))


@pytest.mark.parametrize(
    "given, told",
    [
        ({}, []),
        ({"method": "logits", "temperature": 3.0}, ["temperature"]),
        ({"hard_weight": 1.0, "temperature": 3.0}, ["temperature"]),
        ({"baseline": False, "baseline_learning_rate": 0.1}, ["baseline_learning_rate"]),
        ({"baseline": False, "searched": "both"}, ["searched"]),
        ({"baseline_learning_rate": 0.1, "label_smoothing": 0.1, "hard_weight": 0.0}, []),
        ({"baseline": False, "label_smoothing": 0.1, "hard_weight": 0.0}, ["label_smoothing"]),
        ({"patience": 3, "checkpoint_minutes": 1.0}, ["patience", "checkpoint_minutes"]),
        ({"augmentation": Augmentation(views=3), "baseline": False, "jobs": 2}, ["jobs", "views"]),
    ],
)  # fmt: skip
def test_distilling_tells_what_changes_nothing(given, told):
    heard = Heard()
    limbeck.distill(net(), net(), (X, Y), callbacks=heard, **{**QUICK, **given})
    assert names_of(heard) == told


@pytest.mark.parametrize(
    "given, told",
    [({"mean": "geometric", "members": 2}, []), ({"mean": "geometric", "view_seed": 1}, ["view_seed", "mean"])],
)
def test_training_tells_what_changes_nothing(given, told):
    heard, seed = Heard(), given.pop("view_seed", 0)
    limbeck.train(
        lambda seed: net(), (X, Y), callbacks=heard, augmentation=Augmentation(view_seed=seed), **QUICK, **given
    )
    assert names_of(heard) == told


def test_compressing_tells_what_changes_nothing():
    heard = Heard()
    big = MLP(MLPConfig(input_shape=(6,), classes=2, hidden=(40, 40)))
    given = {"metric": "outputs", "calibration": 20, "placement": "split"}
    limbeck.compress(big, (X, Y), (X, Y), int8=True, callbacks=heard, convolutions="channels", **given)
    assert names_of(heard) == ["metric", "calibration", "placement", "convolutions"]
    heard = Heard()
    units = {"by": "units", "rule": RankRule(parameters=0.5), "convolutions": "channels"}
    limbeck.compress(big, (X, Y), (X, Y), callbacks=heard, **units)
    assert names_of(heard) == ["convolutions"]
    heard = Heard()
    run = limbeck.compress(big, (X, Y), (X, Y), rule=RankRule(rank=(5,)), callbacks=heard, **given)
    assert not names_of(heard) and isinstance(run.plan, RankPlan)
    limbeck.compress(big, (X, Y), (X, Y), rule=RankRule(energy=0.9), calibration=20, callbacks=heard)
    assert names_of(heard) == ["calibration"]  # this rule looks at weights alone
    heard = Heard()
    limbeck.compress(big, (X, Y), (X, Y), plan=(run.plan, run.spectrum), callbacks=heard, **given)
    assert names_of(heard) == ["metric", "calibration", "placement"]


@pytest.mark.parametrize(
    "model, right",
    [
        (net(), 2),
        (CNN(CNNConfig(input_shape=(1, 8, 8), classes=5, channels=(2,), hidden=(4,))), 5),
        (nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(6, 4))), 4),
        (nn.Sequential(nn.Linear(6, 1)), 2),  # one logit is that of two classes
    ],
)
def test_a_model_is_saved_with_one_name_for_each_class(tmp_path, model, right):
    limbeck.save_model(tmp_path / "good", model, classes=list("abcdefg"[:right]))
    with pytest.raises(DataError, match=rf"classes has {right + 1} names \(a, .*the model has"):
        limbeck.save_model(tmp_path / "bad", model, classes=list("abcdefg"[: right + 1]))
    with pytest.raises(DataError, match="classes has 'a' twice"):
        limbeck.save_model(tmp_path / "bad", model, classes=["a"] * right)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    "labels, index, told",
    [
        (Y, None, "index of Examples.*is None: Examples.of"),
        (Y[:3], torch.arange(40), r"labels of Examples.*a tensor of 40 .*is torch.int64 of shape \(3,\)"),
        (Y.float(), torch.arange(40), "is torch.float32"),
        (list(range(40)), torch.arange(40), "is a list"),
        (None, torch.arange(40)[:, None], r"index.*shape \(40, 1\)"),
    ],
)
def test_examples_are_checked_where_they_are_made_by_hand(labels, index, told):
    with pytest.raises(DataError, match=told):
        Examples(X, labels, index)


def test_warnings_are_python_warnings_where_nobody_listens():
    with pytest.warns(LimbeckWarning, match="metric is 'outputs', and has no effect: there is no rank rule"):
        limbeck.compress(MLP(MLPConfig(input_shape=(6,), classes=2, hidden=(4,))), (X, Y), (X, Y), int8=True,
                         metric="outputs")  # fmt: skip
