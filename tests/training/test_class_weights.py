"""Class weights: scikit-learn's rule, on the whole loss, proven by the self-check, for student and baseline alike."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

import limbeck
from limbeck.data import DataSet, Examples, Feed
from limbeck.errors import ConfigError, DataError, RunError, SelfCheckError
from limbeck.evaluation.metrics import balanced_accuracy
from limbeck.options import Training
from limbeck.protocols import MixedLabels
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.teachers import ModelTeacher
from limbeck.training.class_weights import Weighted, balanced_weights, weighted
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective, check_objective

CPU = Device(torch.device("cpu"), "float32")
BALANCED = Training(class_weight="balanced")


def long_tail(count=200, seed=0):
    """Three classes of 80, 15 and 5 %, that overlap."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.multinomial(torch.tensor([0.8, 0.15, 0.05]), count, replacement=True, generator=generator)
    return torch.randn(count, 3, generator=generator) + 1.5 * nn.functional.one_hot(y, 3), y


X, Y = long_tail()
COUNTS = torch.bincount(Y, minlength=3).tolist()


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 3))


class Heard(Callback):
    def __init__(self):
        self.warned = []

    def on_warning(self, text):
        self.warned.append(text)


def test_the_weights_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    for classes in (2, 5, 40):
        y = random.choice(classes, 500, p=random.dirichlet(np.ones(classes)))
        there = np.unique(y)
        found = np.array(balanced_weights(np.bincount(y, minlength=classes + 1).tolist()))
        assert np.allclose(found[there], compute_class_weight("balanced", classes=there, y=y), rtol=1e-12)
        assert found[y].mean() == pytest.approx(1) and found[classes] == 1
    with pytest.raises(DataError, match="needs labels to count"):
        balanced_weights([0, 0])


def objectives(labels=True):
    teacher = ModelTeacher(net(1))
    yield LabelObjective(0.1)
    for temperature in (0.5, 4.0, 1000.0):
        yield DistillationObjective(teacher, temperature=temperature, hard_weight=0.3)
    yield DistillationObjective(teacher, temperature=2.0, hard_weight=0.0)


def batch(count=60):
    return next(Feed(Examples.of(X, Y), batch_size=count, seed=0).batches(0))


@pytest.mark.parametrize("which", range(5))
def test_each_example_counts_by_its_class_and_the_self_check_proves_it(which):
    inner, some = list(objectives())[which], batch()
    objective = Weighted(inner, COUNTS)
    logits = torch.randn(len(some.index), 3, requires_grad=True)
    weights = torch.tensor(compute_class_weight("balanced", classes=np.arange(3), y=Y.numpy()))[some.labels]
    wanted = (inner(logits, some).per_example.double() * weights).sum()
    found = objective(logits, some).per_example.sum()
    assert torch.allclose(found.double(), wanted, rtol=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    assert torch.allclose(gradient.double(), objective.reference_gradient(logits, some), rtol=1e-3, atol=1e-4)
    check_objective(objective, some, 3)


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("wrong", ["weights", "twice", "inner"])
def test_a_weighted_objective_that_is_wrong_is_refused(which, wrong):
    inner = copy.copy(list(objectives())[which])

    class Twice(Weighted):
        def __call__(self, logits, batch):
            return super().__call__(2 * logits, batch)

    class Rough(type(inner)):
        def reference_gradient(self, logits, batch):
            return 1.01 * super().reference_gradient(logits, batch)

    if wrong == "inner":
        inner.__class__ = Rough
    objective = (Twice if wrong == "twice" else Weighted)(inner, COUNTS)
    if wrong == "weights":
        objective.weights = objective.weights.roll(1)
    with pytest.raises(SelfCheckError, match="nothing was trained|the loss is wrong"):
        check_objective(objective, batch(), 3)


def test_a_mixed_example_has_the_weights_of_both_by_their_shares():
    some, share = batch(8), torch.linspace(0, 1, 8)
    mixed = dataclasses.replace(some, mixed=MixedLabels(some.labels.roll(1), share))
    weights = torch.tensor(balanced_weights(COUNTS))
    found = Weighted(LabelObjective(), COUNTS)(torch.zeros(8, 3), mixed).per_example / np.log(3)
    assert torch.allclose(found, share * weights[some.labels] + (1 - share) * weights[some.labels.roll(1)])
    check_objective(Weighted(LabelObjective(), COUNTS), mixed, 3)


def test_training_is_the_bare_weighted_loop():
    """As with torch's weighted cross-entropy, but for its division by the weights of the batch."""
    training = Training(epochs=2, batch_size=50, optimizer="sgd", learning_rate=0.1, schedule="constant",
                        momentum=0, nesterov=False, class_weight="balanced")  # fmt: skip
    feed, model, bare = Feed(Examples.of(X, Y), batch_size=50, seed=0), net(), net()
    fit(model, weighted(LabelObjective(), training, COUNTS), feed, training, CPU)
    weights = torch.tensor(compute_class_weight("balanced", classes=np.arange(3), y=Y.numpy())).float()
    for epoch in range(2):
        for some in feed.batches(epoch):
            loss = nn.functional.cross_entropy(bare(some.inputs), some.labels, weight=weights, reduction="sum") / 50
            loss.backward()
            with torch.no_grad():
                for value in bare.parameters():
                    value -= 0.1 * value.grad
                    value.grad = None
    assert torch.allclose(model[0].weight, bare[0].weight, atol=1e-6)


def test_distilling_weighs_student_and_baseline_and_reports_balanced_accuracy(tmp_path):
    train, test = (X, Y), long_tail(300, 1)
    settings = {"epochs": 8, "learning_rate": 0.1, "precision": "float32", "test": test}
    plain, evened = (
        limbeck.distill(net(1), net(), train, hard_weight=0.5, class_weight=how, **settings)
        for how in (None, "balanced")
    )
    for role in ("student", "baseline"):
        assert evened.metrics[role]["balanced_accuracy"] != plain.metrics[role]["balanced_accuracy"]
    assert evened.metrics["baseline"]["balanced_accuracy"] > plain.metrics["baseline"]["balanced_accuracy"] + 0.05
    with torch.no_grad():
        predicted = evened.student(test[0]).argmax(1)
    wanted = balanced_accuracy_score(test[1], predicted)
    assert evened.metrics["student"]["balanced_accuracy"] == pytest.approx(wanted)
    assert balanced_accuracy(predicted.numpy(), test[1].numpy()) == pytest.approx(wanted)
    out = {"out": tmp_path / "run", "precision": "float32", "epochs": 1}
    limbeck.train(net(), train, class_weight="balanced", **out)
    assert 'class_weight = "balanced"' in (tmp_path / "run" / "config.toml").read_text()
    with pytest.raises(RunError, match="class_weight = 'balanced', and now it is left out"):
        limbeck.train(net(), train, resume=True, **out)


def test_what_no_weights_are_for_is_told():
    heard = Heard()
    settings = {"epochs": 1, "precision": "float32", "class_weight": "balanced", "callbacks": heard, "batch_size": 200}
    limbeck.distill(net(1), net(), (X, Y), transfer=X + 1, hard_weight=0.0, **settings)
    assert any("weights only the baseline" in text for text in heard.warned)
    data = DataSet("some", ("a", "b", "c", "rare"), Examples.of(X, Y), every_class=False)
    limbeck.train(nn.Linear(3, 4), data, **settings)
    assert "class_weight: there are no training examples of rare, which no weight can make up for" in heard.warned


def test_losses_that_couple_a_batch_are_refused():
    class Coupled(LabelObjective):
        coupled = True

    assert isinstance(weighted(LabelObjective(), BALANCED, COUNTS), Weighted)
    assert isinstance(weighted(Coupled(), Training(), COUNTS), Coupled)
    with pytest.raises(ConfigError, match="class_weight multiplies the loss of each example, and in this method"):
        weighted(Coupled(), BALANCED, COUNTS)
