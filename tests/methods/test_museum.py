"""Published mistakes in losses of distillation: each stops a run before its first step (docs/common-mistakes.md)."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples, Feed
from limbeck.errors import DataError, LimbeckError, MismatchError, SelfCheckError
from limbeck.losses import softened
from limbeck.methods import Method, Output, labels_of, targets_at
from limbeck.methods.dist import DIST
from limbeck.methods.dkd import DKD
from limbeck.methods.kd import KD
from limbeck.methods.nkd import NKD
from limbeck.methods.standardised import Standardised
from limbeck.methods.ttm import TTM
from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.teachers import ModelTeacher
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective

CLASSES = 5
PAGE = Path(__file__).parents[2] / "docs" / "common-mistakes.md"


class Wrong(KD):
    """kd as somebody wrote it: ``loss(student_logits, teacher_log_probs_at_T, T)``."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.name = cls.__name__

    with_labels = Method.with_labels

    def forward(self, student, teacher, batch):
        return self.loss(student.logits, targets_at(teacher, self.temperature), self.temperature)


def kl(p, log_p, log_q):
    return p * (log_p - log_q)


class MeanOverClasses(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, softened(z, T)).mean(-1)


class MeanOverTheBatchTwice(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, softened(z, T)).sum(-1) / len(z)


class ForgottenSquare(Wrong):
    def loss(self, z, log_p, T):
        return kl(log_p.exp(), log_p, softened(z, T)).sum(-1)


class SquaredTwice(Wrong):
    def loss(self, z, log_p, T):
        return T**4 * kl(log_p.exp(), log_p, softened(z, T)).sum(-1)


class StudentNotSoftened(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, softened(z, 1.0)).sum(-1)


class TeacherNotSoftened(Wrong):
    def loss(self, z, log_p, T):
        sharp = (T * log_p).log_softmax(-1)
        return T * kl(sharp.exp(), sharp, softened(z, T)).sum(-1)


class ProbabilitiesInThePlaceOfLogarithms(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, (z / T).softmax(-1)).sum(-1)


class LogarithmsInThePlaceOfProbabilities(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p, log_p.clamp_min(-50), softened(z, T)).sum(-1)


class SoftmaxOfASoftmax(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, softened(z.softmax(-1), T)).sum(-1)


class TeachersSoftmaxOfASoftmax(Wrong):
    def loss(self, z, log_p, T):
        twice = log_p.exp().log_softmax(-1)
        return T**2 * kl(twice.exp(), twice, softened(z, T)).sum(-1)


class LogarithmsDividedByTheTemperature(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, z.log_softmax(-1) / T).sum(-1)


class ReversedDivergence(Wrong):
    def loss(self, z, log_p, T):
        log_q = softened(z, T)
        return T**2 * kl(log_q.exp(), log_q, log_p).sum(-1)


class TeacherOnBothSides(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, log_p).sum(-1) + 0 * z.sum(-1)


class LogarithmOfASoftmax(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * torch.where(log_p > -700, kl(log_p.exp(), log_p, (z / T).softmax(-1).log()), 0.0).sum(-1)


class MaskTimesAScalar(Wrong):
    def loss(self, z, log_p, T):
        mask = (torch.arange(len(z), device=z.device) % 2).to(z)
        return T**2 * kl(log_p.exp(), log_p, softened(z, T)).sum(-1).mean() * mask


class OneNumberForTheBatch(Wrong):
    def loss(self, z, log_p, T):
        return T**2 * kl(log_p.exp(), log_p, softened(z, T)).sum(-1).mean()


class LabelsSoftenedToo(KD):
    def with_labels(self, student, teacher, batch, hard_weight, label_smoothing):
        soft = self(student, teacher, batch)
        hard = nn.functional.cross_entropy(student.logits / self.temperature, labels_of(batch), reduction="none")
        return (1 - hard_weight) * soft + hard_weight * hard

    def forward(self, student, teacher, batch):
        return KD.with_labels(self, student, teacher, batch, 0.0, 0.0)


class TargetsWithAGradient(Wrong):
    def __init__(self, *, temperature: float = 4.0):
        super().__init__(temperature=temperature)
        object.__setattr__(self, "trained", nn.Linear(1, 1))  # a teacher whose weights are not frozen

    def loss(self, z, log_p, T):
        log_p = log_p + 0 * self.trained.weight.sum().to(z)
        return T**2 * kl(log_p.exp(), log_p, softened(z, T)).sum(-1)


class ParametersThatAreNotTrained(KD):
    """A scale of its own in a plain list, which no optimiser sees."""

    def __init__(self, *, temperature: float = 4.0):
        super().__init__(temperature=temperature)
        self.scales = [torch.zeros((), requires_grad=True)]

    def with_labels(self, student, teacher, batch, hard_weight, label_smoothing):
        scale = self.scales[0].exp().to(student.logits)
        return scale * super().with_labels(student, teacher, batch, hard_weight, label_smoothing)


class AlphaForBeta(DKD):
    def forward(self, student, teacher, batch):
        swapped = DKD(temperature=self.temperature, alpha=self.beta, beta=self.alpha)
        return swapped(student, teacher, batch)


class MaskOfMinusThousand(DKD):
    def forward(self, student, teacher, batch):
        T, mask = self.temperature, nn.functional.one_hot(labels_of(batch), student.logits.shape[1])
        z, v = student.logits / T, targets_at(teacher, T)
        log_q, log_p = (each - 1000.0 * mask for each in (z, v))
        log_q, log_p = log_q.log_softmax(-1), log_p.log_softmax(-1)
        rest = T**2 * kl(log_p.exp(), log_p, log_q).sum(-1)
        alone = DKD(temperature=T, alpha=self.alpha, beta=0.0)
        return alone(student, teacher, batch) + self.beta * rest


class OthersNotRenormalised(NKD):
    def forward(self, student, teacher, batch):
        T, rows = self.temperature, labels_of(batch)[:, None]
        q, log_p = targets_at(teacher, T).exp(), softened(student.logits, T)
        rest = -(q * log_p).scatter(-1, rows, 0.0).sum(-1)
        label = targets_at(teacher, 1.0).exp().gather(1, rows) * softened(student.logits).gather(1, rows)
        return self.gamma * T**2 * rest - label.squeeze(1)


class CorrelationOfLogits(DIST):
    def forward(self, student, teacher, batch):
        away = [each - each.mean(-1, keepdim=True) for each in (student.logits, teacher.logits)]
        return self.temperature**2 * (1 - nn.functional.cosine_similarity(*away, dim=-1))


class StudentAloneStandardised(Standardised):
    def forward(self, student, teacher, batch):
        z = student.logits
        z = (z - z.mean(-1, keepdim=True)) / z.std(-1, keepdim=True)
        log_p = softened(teacher.logits, self.temperature)
        return self.temperature**2 * kl(log_p.exp(), log_p, softened(z, self.temperature)).sum(-1)


class BothSoftened(TTM):
    def forward(self, student, teacher, batch):
        return super().forward(Output(student.logits / self.temperature), teacher, batch)


MISTAKES = [
    kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Method) and kind.__module__ == __name__ and kind is not Wrong
]


def some_data():
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    return Examples.of(inputs, torch.arange(64) % CLASSES)


def run(method, hard_weight=0.5):
    torch.manual_seed(0)
    teacher, student = nn.Linear(6, CLASSES), nn.Linear(6, CLASSES)
    objective = DistillationObjective(ModelTeacher(teacher), method=method, hard_weight=hard_weight)
    before = student.weight.detach().clone()
    try:
        feed = Feed(some_data(), batch_size=16, seed=0)
        fit(student, objective, feed, Training(epochs=1), Device(torch.device("cpu"), "float32"))
    finally:
        moved = not torch.equal(student.weight, before)
    return moved


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda kind: kind.__name__)
def test_each_mistake_stops_the_run_before_its_first_step(mistake):
    for hard_weight in (0.5,) if mistake is LabelsSoftenedToo else (0.0, 0.5):
        torch.manual_seed(0)
        with pytest.raises(SelfCheckError, match="nothing was trained") as caught:
            run(mistake(), hard_weight)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [KD, DKD, NKD, DIST, Standardised, TTM])
def test_what_they_are_mistakes_of_is_trained(kind):
    assert run(kind())


def test_mistakes_of_teachers_and_data_are_stopped_too():
    data = some_data()
    pairs = (data.inputs, data.labels)
    short = {"epochs": 1, "baseline": False, "device": "cpu", "precision": "float32"}

    class Raw:
        """Logits in the place of log-probabilities."""

        classes, temperature = None, 4.0

        def log_probs(self, batch, temperature):
            return 3 * batch.inputs[:, :CLASSES] / temperature

    with pytest.raises(DataError, match="probabilities that sum to .* and not to 1.*nothing was trained"):
        limbeck.distill(Raw(), nn.Linear(6, CLASSES), pairs, **short)

    class Named(nn.Linear):
        """A model as a run's folder gives it back."""

        classes = tuple("edcba")

    with pytest.raises(MismatchError, match="names and order must be the same"):
        limbeck.distill(Named(6, CLASSES), nn.Linear(6, CLASSES), pairs, classes=tuple("abcde"), **short)


def test_stored_answers_of_another_order_are_refused(tmp_path):
    data = some_data()
    limbeck.SoftTargets.write(tmp_path / "store", nn.Linear(6, CLASSES), data, classes=tuple("abcde"))
    store = limbeck.SoftTargets.open(tmp_path / "store")
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    shuffled = Examples.of(data.inputs[order], data.labels[order])
    with pytest.raises(LimbeckError, match="written for other examples"):
        limbeck.distill(store, nn.Linear(6, CLASSES), shuffled, classes=tuple("abcde"), epochs=1, baseline=False)


def test_a_teacher_is_asked_in_evaluation_mode_and_without_gradients():
    model = nn.Sequential(nn.Linear(6, CLASSES), nn.Dropout(0.5)).train()
    teacher, batch = ModelTeacher(model), some_data().batch(torch.arange(8))
    first, again = teacher.log_probs(batch, 2.0), teacher.log_probs(batch, 2.0)
    assert torch.equal(first, again) and not first.requires_grad
    assert model.training and model[0].weight.requires_grad


def test_the_page_names_every_mistake_and_a_source():
    page = PAGE.read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([A-Z]\w+)`", row)}
    assert {kind.__name__ for kind in MISTAKES} <= named
    assert len(re.findall(r"https://github\.com/", page)) >= 15
