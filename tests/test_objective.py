"""The run-time check of the objective: three known mistakes are caught, and correct objectives pass."""

import pytest
import torch
from torch import nn

import limbeck.losses
import limbeck.objective
from limbeck.data import Examples, Feed
from limbeck.devices import Device
from limbeck.engine import fit
from limbeck.errors import ConfigError, DataError, SelfCheckError
from limbeck.losses import hard_target_loss, softened
from limbeck.objective import DistillationObjective, LabelObjective, check_objective
from limbeck.options import Training
from limbeck.protocols import Batch, Loss
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets

CLASSES = 7


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 5, generator=generator)
    return Batch(torch.arange(40), 0, inputs, torch.arange(40) % CLASSES)


@pytest.fixture
def teacher():
    torch.manual_seed(4)
    return ModelTeacher(nn.Linear(5, CLASSES))


def forgotten_square(z, p, *, temperature=1.0):
    return (p.exp() * (p - softened(z, temperature))).sum(-1)


def mean_over_classes(z, p, *, temperature=1.0):
    return temperature**2 * (p.exp() * (p - softened(z, temperature))).mean(-1)


def student_not_softened(z, p, *, temperature=1.0):
    return temperature**2 * (p.exp() * (p - softened(z, 1.0))).sum(-1)


MISTAKES = [forgotten_square, mean_over_classes, student_not_softened]


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("hard_weight", [0.0, 0.1, 1.0])
def test_correct_objectives_pass(batch, teacher, temperature, hard_weight):
    check_objective(DistillationObjective(teacher, temperature=temperature, hard_weight=hard_weight), batch, CLASSES)
    both = Ensemble([teacher, nn.Linear(5, CLASSES)])
    check_objective(DistillationObjective(both, temperature=temperature, hard_weight=hard_weight), batch, CLASSES)
    smoothed = DistillationObjective(teacher, temperature=temperature, hard_weight=hard_weight, label_smoothing=0.2)
    check_objective(smoothed, batch, CLASSES)
    check_objective(LabelObjective(), batch, CLASSES)
    check_objective(LabelObjective(0.1), batch, CLASSES)


@pytest.mark.parametrize("hard_weight", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_matched_logits_pass(batch, teacher, hard_weight, smoothing):
    geometric = Ensemble([teacher, nn.Linear(5, CLASSES)], mean="geometric")
    for guide in (teacher, geometric):
        objective = DistillationObjective(
            guide, temperature=4.0, hard_weight=hard_weight, label_smoothing=smoothing, loss="logits"
        )
        check_objective(objective, batch, CLASSES)


def test_matched_logits_teach_what_very_hot_targets_teach(batch, teacher):
    scores = torch.randn(40, CLASSES, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    warm = {"hard_weight": 0.25, "temperature": 100.0}
    hot = DistillationObjective(teacher, **warm)(scores, batch).per_example
    ours = DistillationObjective(teacher, **warm, loss="logits")(scores, batch).per_example
    torch.testing.assert_close(ours, hot, rtol=5e-2, atol=5e-3)


def summed_over_classes(z, v):
    away = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    return away.square().sum(-1) / 2


def not_zero_meaned(z, v):
    return (z - v).square().mean(-1) / 2


def student_scaled(z, v):
    away = 2 * (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    return away.square().mean(-1) / 2


@pytest.mark.parametrize("mistake", [summed_over_classes, not_zero_meaned, student_scaled])
@pytest.mark.parametrize("hard_weight", [0.0, 0.5])
def test_each_mistake_in_matching_logits_is_caught(monkeypatch, batch, teacher, mistake, hard_weight):
    monkeypatch.setattr(limbeck.objective, "logit_matching_loss", mistake)
    objective = DistillationObjective(teacher, temperature=4.0, hard_weight=hard_weight, loss="logits")
    with pytest.raises(SelfCheckError, match="nothing was trained"):
        check_objective(objective, batch, CLASSES)


def test_scores_that_are_not_known_are_not_matched(teacher):
    two = [teacher, nn.Linear(5, CLASSES)]
    fixed = StoredTargets(torch.zeros(3, CLASSES), torch.arange(3), temperature=2.0)
    for guide in (Ensemble(two), fixed):
        with pytest.raises(ConfigError, match="logits are not known for every class"):
            DistillationObjective(guide, temperature=2.0, hard_weight=0.0, loss="logits")
    DistillationObjective(Ensemble(two[:1]), temperature=2.0, hard_weight=0.0, loss="logits")


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("hard_weight", [0.0, 0.5])
def test_each_mistake_is_caught_before_anything_is_trained(monkeypatch, batch, teacher, mistake, hard_weight):
    monkeypatch.setattr(limbeck.losses, "soft_target_loss", mistake)
    monkeypatch.setattr(limbeck.objective, "soft_target_loss", mistake)

    def mixture(z, p, labels, temperature, weight):
        return (1 - weight) * mistake(z, p, temperature=temperature) + weight * hard_target_loss(z, labels)

    monkeypatch.setattr(limbeck.losses, "_mixture", mixture)
    objective = DistillationObjective(teacher, temperature=4.0, hard_weight=hard_weight)
    student = nn.Linear(5, CLASSES)
    before = student.weight.detach().clone()
    feed = Feed(Examples.of(batch.inputs, batch.labels), batch_size=8, seed=0)
    with pytest.raises(SelfCheckError, match="nothing was trained") as caught:
        fit(student, objective, feed, Training(epochs=1), Device(torch.device("cpu"), "float32"))
    assert caught.value.exit_code == 1
    assert torch.equal(student.weight, before)


def test_a_student_softened_otherwise_than_the_teacher_is_caught_by_the_zero_alone(monkeypatch, batch, teacher):
    # The gradient's reference is made as wrong as the loss, so that only the zero at the teacher can tell.
    monkeypatch.setattr(limbeck.losses, "soft_target_loss", student_not_softened)
    monkeypatch.setattr(limbeck.objective, "soft_target_loss", student_not_softened)
    objective = DistillationObjective(teacher, temperature=4.0, hard_weight=0.0)

    def as_wrong(logits, batch):
        return 16 * (logits.double().softmax(-1) - objective.targets(batch).double().exp())

    objective.reference_gradient = as_wrong
    with pytest.raises(SelfCheckError, match="not softened alike"):
        check_objective(objective, batch, CLASSES)


class Wrong(torch.autograd.Function):
    """A value that is not what its gradient belongs to."""

    @staticmethod
    def forward(ctx, value, z):
        return value * 2

    @staticmethod
    def backward(ctx, upstream):
        return upstream, None


class Strange(LabelObjective):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def __call__(self, logits, batch):
        return Loss(self.change(super().__call__(logits, batch).per_example, logits))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loss, z: loss.mean(), "one finite value an example"),
        (lambda loss, z: loss * torch.nan, "not finite"),
        (lambda loss, z: loss + z.sum(-1).detach(), "adding a constant"),
        (lambda loss, z: loss * 1.01, "differs from its formula"),
        (Wrong.apply, "value and gradient do not belong together"),
    ],
)
def test_other_mistakes_are_caught(batch, change, message):
    with pytest.raises(SelfCheckError, match=message):
        check_objective(Strange(change), batch, CLASSES)


def test_labels_are_asked_for_only_where_they_count(batch, teacher):
    unlabelled = Batch(batch.index, 0, batch.inputs, None)
    check_objective(DistillationObjective(teacher, temperature=2.0, hard_weight=0.0), unlabelled, CLASSES)
    with pytest.raises(DataError, match="set hard_weight to 0"):
        check_objective(DistillationObjective(teacher, temperature=2.0, hard_weight=0.1), unlabelled, CLASSES)
    with pytest.raises(DataError, match="labels"):
        check_objective(LabelObjective(), unlabelled, CLASSES)
