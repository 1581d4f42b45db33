"""The run-time check of the objective: known mistakes are caught at every temperature, and what is right passes."""

import math
import random

import pytest
import torch
from torch import nn

import limbeck.methods.logits
from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, DataError, SelfCheckError
from limbeck.losses import hard_target_loss, logit_matching_loss, soft_target_loss, softened
from limbeck.methods import Method, Output, targets_at
from limbeck.methods.kd import KD
from limbeck.options import Training
from limbeck.protocols import Batch, Loss
from limbeck.system.devices import Device
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective, check_objective

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


def teacher_softened_twice(z, p, *, temperature=1.0):
    return soft_target_loss(z, softened(p, temperature), temperature=temperature)


def the_other_way_round(z, p, *, temperature=1.0):
    q = softened(z, temperature)
    return temperature**2 * (q.exp() * (q - p)).sum(-1)


def probabilities_taken_for_logarithms(z, p, *, temperature=1.0):
    return soft_target_loss(z, p.exp(), temperature=temperature)


MISTAKES = [forgotten_square, mean_over_classes, student_not_softened]
MORE_MISTAKES = [*MISTAKES, teacher_softened_twice, the_other_way_round, probabilities_taken_for_logarithms]


class Own(KD):
    """The method with a soft term of somebody's own, of the targets as they are given."""

    soft = staticmethod(soft_target_loss)

    def forward(self, student, teacher, batch):
        return type(self).soft(student.logits, targets_at(teacher, self.temperature), temperature=self.temperature)

    with_labels = Method.with_labels


def with_soft_term(loss):
    kind = type("Changed", (Own,), {"soft": staticmethod(loss)})
    return lambda teacher, *, temperature, hard_weight: DistillationObjective(
        teacher, method=kind(temperature=temperature), hard_weight=hard_weight
    )


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
            guide, temperature=4.0, hard_weight=hard_weight, label_smoothing=smoothing, method="logits"
        )
        check_objective(objective, batch, CLASSES)


def test_matched_logits_teach_what_very_hot_targets_teach(batch, teacher):
    scores = torch.randn(40, CLASSES, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    warm = {"hard_weight": 0.25, "temperature": 100.0}
    hot = DistillationObjective(teacher, **warm)(scores, batch).per_example
    ours = DistillationObjective(teacher, **warm, method="logits")(scores, batch).per_example
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
    monkeypatch.setattr(limbeck.methods.logits, "logit_matching_loss", mistake)
    objective = DistillationObjective(teacher, temperature=4.0, hard_weight=hard_weight, method="logits")
    with pytest.raises(SelfCheckError, match="nothing was trained"):
        check_objective(objective, batch, CLASSES)


def test_scores_that_are_not_known_are_not_matched(teacher):
    two = [teacher, nn.Linear(5, CLASSES)]
    fixed = StoredTargets(torch.zeros(3, CLASSES).log_softmax(-1), torch.arange(3), temperature=2.0)
    for guide in (Ensemble(two), fixed):
        with pytest.raises(ConfigError, match="logits are not known for every class"):
            DistillationObjective(guide, temperature=2.0, hard_weight=0.0, method="logits")
    DistillationObjective(Ensemble(two[:1]), temperature=2.0, hard_weight=0.0, method="logits")


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("hard_weight", [0.0, 0.5])
def test_each_mistake_is_caught_before_anything_is_trained(batch, teacher, mistake, hard_weight):
    objective = with_soft_term(mistake)(teacher, temperature=4.0, hard_weight=hard_weight)
    student = nn.Linear(5, CLASSES)
    before = student.weight.detach().clone()
    feed = Feed(Examples.of(batch.inputs, batch.labels), batch_size=8, seed=0)
    with pytest.raises(SelfCheckError, match="nothing was trained") as caught:
        fit(student, objective, feed, Training(epochs=1), Device(torch.device("cpu"), "float32"))
    assert caught.value.exit_code == 1
    assert torch.equal(student.weight, before)


@pytest.mark.parametrize("mistake", MORE_MISTAKES)
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.3, 2.0, 30.0, 40.0, 500.0, 1e4, 1e8])
def test_each_mistake_is_caught_at_every_temperature(batch, teacher, mistake, temperature):
    for hard_weight in (0.0, 0.9):
        objective = with_soft_term(mistake)(teacher, temperature=temperature, hard_weight=hard_weight)
        with pytest.raises(SelfCheckError, match="nothing was trained"):
            check_objective(objective, batch, CLASSES)
        # The same with the right term is let through.
        check_objective(
            with_soft_term(soft_target_loss)(teacher, temperature=temperature, hard_weight=hard_weight), batch, CLASSES
        )


@pytest.mark.parametrize("temperature", [1e-6, 0.3, 4.0, 40.0, 500.0, 1e4, 1e9])
def test_mistakes_in_the_hard_term_are_caught_at_every_temperature(batch, teacher, temperature):
    class Softened(Own):
        """Softens the hard term too."""

        def with_labels(self, student, teacher, batch, hard_weight, label_smoothing):
            soft = self(student, teacher, batch)
            return 0.5 * soft + 0.5 * hard_target_loss(student.logits / 2, batch.labels)

    with pytest.raises(SelfCheckError, match="differs from its formula"):
        method = Softened(temperature=temperature)
        check_objective(DistillationObjective(teacher, method=method, hard_weight=0.5), batch, CLASSES)


def some_teacher(draw, count, classes, generator):
    """A teacher in one of the ways in which right ones come, with logits of some size."""
    size = 10 ** draw.uniform(-3, 6)
    logits = size * torch.randn(count, classes, generator=generator)
    kind = draw.choice(["plain", "saturated", "even", "excluded", "half", "arithmetic", "geometric"])
    if kind == "saturated":
        logits[:, 0] += 1e9
    if kind == "even":
        logits.zero_()
    if kind == "excluded":
        logits[:, 1:][torch.rand(count, classes - 1, generator=generator) < 0.5] = -math.inf
    index = torch.arange(count)
    if kind == "half":

        class Half:
            classes = None
            every_temperature = draw.random() < 0.5

            def log_probs(self, batch, temperature):
                return softened(logits[batch.index], temperature).to(torch.bfloat16)

        return Half()
    stored = StoredTargets(logits.log_softmax(-1), index)
    if kind in {"arithmetic", "geometric"}:
        other = StoredTargets(torch.randn(count, classes, generator=generator).log_softmax(-1), index)
        return Ensemble([stored, other], mean=kind, weights=draw.choice([None, [1e308, 1e308], [1, 0]]))
    return stored


def check_some_right_objective(seed):
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    classes = draw.choice([2, 3, 10, 100, 1000, *([100_000] if seed % 100 == 0 else [])])
    count = draw.choice([1, 2, 40])
    teacher = some_teacher(draw, count, classes, generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    batch = Batch(torch.arange(count), 0, torch.zeros(count, 1), labels)
    settings = {
        "temperature": 10 ** draw.choice([draw.uniform(-3, 2), draw.uniform(-6, 30), 0.0]),
        "hard_weight": draw.choice([0.0, 0.1, draw.random(), 1.0]),
        "label_smoothing": draw.choice([0.0, draw.random()]),
        "method": draw.choice(["kd", "kd", "logits"]),
    }
    try:
        objective = draw.choice([DistillationObjective, DistillationObjective, LabelObjective])
        made = objective(0.1) if objective is LabelObjective else objective(teacher, **settings)
        check_objective(made, batch, classes)
    except (ConfigError, DataError) as error:
        # Limits that are named; each has a test of its own.
        named = ("float32 can", "logits are not known", "use kd", "lower temperature")
        assert any(words in str(error) for words in named), (settings, error)


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_what_is_right_raises_no_alarm(first):
    for seed in range(first, first + 10):
        check_some_right_objective(seed)


@pytest.mark.slow
def test_what_is_right_raises_no_alarm_in_a_thousand_cases():
    for seed in range(100, 1100):
        check_some_right_objective(seed)


@pytest.mark.parametrize("temperature", [500.0, 1e4, 1e6, 1e15, 1e30])
def test_a_hot_objective_is_its_limit_and_learns_it(temperature, batch):
    """Above T = 32 nothing may cancel: value and gradient are those of matched logits, up to the order of 1 / T."""
    generator = torch.Generator().manual_seed(1)
    teacher = StoredTargets(torch.randn(40, 1000, generator=generator).log_softmax(-1), batch.index)
    scores = torch.randn(40, 1000, generator=generator).requires_grad_()
    hot = DistillationObjective(teacher, temperature=temperature, hard_weight=0.0)(scores, batch).per_example
    (slope,) = torch.autograd.grad(hot.sum(), scores)
    limit = logit_matching_loss(scores, teacher.values[0])
    (expected,) = torch.autograd.grad(limit.sum(), scores)
    torch.testing.assert_close(hot, limit, rtol=10 / temperature + 1e-5, atol=0)
    torch.testing.assert_close(slope, expected, rtol=0, atol=float(expected.abs().max()) * (20 / temperature + 1e-5))


def test_temperatures_that_float32_cannot_carry_are_named(teacher):
    several = Ensemble([teacher, nn.Linear(5, CLASSES)])
    for guide, temperature in ((several, 1e5), (teacher, 1e31), (teacher, 1e-9), (several, 1e-9)):
        with pytest.raises(ConfigError, match=r"temperature is .*float32 (cannot carry|carries)"):
            DistillationObjective(guide, temperature=temperature, hard_weight=0.5)
        # Where the teacher is not asked its temperature does not matter.
        DistillationObjective(guide, temperature=temperature, hard_weight=1.0)
    DistillationObjective(several, temperature=1e4, hard_weight=0.0)


class Counting:
    """A teacher that counts how often it is asked."""

    classes = None

    def __init__(self, answers):
        self.answers, self.asked = answers, 0

    def log_probs(self, batch, temperature):
        self.asked += 1
        return self.answers[batch.index]


def test_no_teacher_is_asked_where_labels_have_all_the_weight(batch):
    teacher = Counting(torch.full((40, CLASSES), math.nan))
    feed = Feed(Examples.of(batch.inputs, batch.labels), batch_size=8, seed=0)
    student, alone = nn.Linear(5, CLASSES), nn.Linear(5, CLASSES)
    alone.load_state_dict(student.state_dict())
    device, training = Device(torch.device("cpu"), "float32"), Training(epochs=2, batch_size=8)
    for method in ("kd", "logits"):
        teacher.every_temperature = True
        objective = DistillationObjective(teacher, temperature=4.0, hard_weight=1.0, label_smoothing=0.1, method=method)
        check_objective(objective, batch, CLASSES)
    fit(student, objective, feed, training, device)
    assert teacher.asked == 0
    fit(alone, LabelObjective(0.1), feed, training, device)
    assert torch.equal(student.weight, alone.weight)


def test_an_objective_whose_targets_carry_a_gradient_is_caught(batch):
    weight = torch.zeros(CLASSES, requires_grad=True)

    class Carrying(Own):
        def forward(self, student, teacher, batch):
            return soft_target_loss(student.logits, softened(teacher.logits + weight), temperature=self.temperature)

    teacher = Counting(torch.randn(40, CLASSES).log_softmax(-1))
    with pytest.raises(SelfCheckError, match="detach its targets"):
        check_objective(
            DistillationObjective(teacher, method=Carrying(temperature=1.0), hard_weight=0.0), batch, CLASSES
        )
    # A teacher that forgets no_grad is none of the student's business.
    trained = Counting(torch.randn(40, CLASSES, requires_grad=True).log_softmax(-1))
    check_objective(DistillationObjective(trained, temperature=1.0, hard_weight=0.5), batch, CLASSES)


@pytest.mark.parametrize(
    ("answer", "method", "words"),
    [
        (math.nan, "kd", "holds NaN"),
        (math.inf, "kd", "holds NaN or plus infinity"),
        (math.nan, "logits", "holds NaN"),
        (-math.inf, "logits", "cannot be matched by method logits: use kd"),
        (3.0, "kd", "sum to .* and not to 1: it must answer with log-probabilities"),
    ],
)
def test_answers_that_are_not_log_probabilities_are_the_teachers_fault(batch, answer, method, words):
    answers = torch.full((40, CLASSES), 1 / CLASSES).log()
    answers[17, 2] = answer
    teacher = Counting(answers)
    teacher.every_temperature = True
    objective = DistillationObjective(teacher, temperature=2.0, hard_weight=0.1, method=method)
    with pytest.raises(DataError, match=f"the teacher's answer to example 17 .*{words}"):
        check_objective(objective, batch, CLASSES)


def test_a_student_softened_otherwise_than_the_teacher_is_caught_by_the_zero_alone(batch, teacher):
    # The gradient's reference is made as wrong as the loss, so that only the zero at the teacher can tell.
    class Both(Own):
        soft = staticmethod(student_not_softened)

        def reference_gradient(self, student, teacher, batch):
            return Output(16 * (student.logits.softmax(-1) - teacher.logits.exp()))

    with pytest.raises(SelfCheckError, match="not softened alike"):
        check_objective(DistillationObjective(teacher, method=Both(temperature=4.0), hard_weight=0.0), batch, CLASSES)


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
        (lambda loss, z: loss.mean(), "one finite value per example"),
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
