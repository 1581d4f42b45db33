"""The losses against autograd in float64, slow sums, and the limits that the paper derives."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from limbeck.errors import DataError
from limbeck.losses import distillation_loss, hard_target_loss, logit_matching_loss, soft_target_loss, softened

sizes = st.tuples(st.integers(1, 6), st.integers(2, 8), st.integers(0, 10_000))
temperatures = st.floats(0.3, 30)


def scores(rows, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(2, rows, classes, dtype=torch.float64, generator=generator)).unbind()


def slow_soft(student, teacher, temperature):
    """Sums and logarithms as they stand in the formula."""
    values = []
    for z, v in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(x / temperature) for x in v]
        q = [math.exp(x / temperature) for x in z]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        values.append(temperature**2 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
    return torch.tensor(values, dtype=torch.float64)


@given(sizes, temperatures)
def test_soft_term_is_the_formula(size, temperature):
    student, teacher = scores(*size)
    found = soft_target_loss(student, softened(teacher, temperature), temperature=temperature)
    assert torch.allclose(found, slow_soft(student, teacher, temperature), atol=1e-9)


@given(sizes, temperatures)
def test_soft_term_gradient_is_the_papers(size, temperature):
    student, teacher = scores(*size)
    student.requires_grad_()
    soft_target_loss(student, softened(teacher, temperature), temperature=temperature).sum().backward()
    # Equation 2 of the paper, times T squared.
    expected = temperature * ((student / temperature).softmax(-1) - (teacher / temperature).softmax(-1))
    assert torch.allclose(student.grad, expected.detach(), atol=1e-10)


@given(sizes, temperatures)
def test_soft_term_is_zero_exactly_at_the_teacher(size, temperature):
    _, teacher = scores(*size)
    same = soft_target_loss(teacher + 7.0, softened(teacher, temperature), temperature=temperature)
    assert same.abs().max() < 1e-9 * temperature**2
    other = soft_target_loss(
        teacher + torch.linspace(0, 1, size[1], dtype=torch.float64),
        softened(teacher, temperature),
        temperature=temperature,
    )
    assert other.min() > 0


@given(sizes)
def test_hot_limit_is_logit_matching(size):
    # Section 2.1: for T large against the logits, the soft term becomes the distance of zero-meaned logits.
    student, teacher = scores(*size)
    hot = soft_target_loss(student, softened(teacher, 1e4), temperature=1e4)
    assert torch.allclose(hot, logit_matching_loss(student, teacher), rtol=1e-2, atol=1e-6)


@given(sizes)
def test_the_gradient_of_matched_logits_is_the_hot_limits(size):
    student, teacher = (each.requires_grad_() for each in scores(*size))
    (ours,) = torch.autograd.grad(logit_matching_loss(student, teacher).sum(), student)
    # Equation 4 of the paper, times T squared, with logits zero-meaned example by example.
    centred = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    assert torch.allclose(ours, centred.detach() / size[1], atol=1e-12)
    errors = []
    for temperature in (1e2, 1e3, 1e4):
        loss = soft_target_loss(student, softened(teacher, temperature), temperature=temperature).sum()
        (hot,) = torch.autograd.grad(loss, student)
        errors.append(float((hot - ours).detach().abs().max()))
    # The next term of the expansion goes as 1 / T.
    assert errors[1] < 0.2 * errors[0] + 1e-12 and errors[2] < 0.2 * errors[1] + 1e-8


@given(sizes)
def test_matched_logits_are_zero_exactly_at_the_teacher(size):
    student, teacher = scores(*size)
    assert logit_matching_loss(teacher + 7.0, teacher.log_softmax(-1)).abs().max() < 1e-20
    away = student + torch.linspace(0, 1, size[1], dtype=torch.float64)
    assert logit_matching_loss(away, student).min() > 0


@given(sizes)
def test_hard_term_is_cross_entropy(size):
    student, _ = scores(*size)
    labels = torch.arange(size[0]) % size[1]
    for smoothing in (0.0, 0.1):
        expected = functional.cross_entropy(student, labels, reduction="none", label_smoothing=smoothing)
        assert torch.allclose(hard_target_loss(student, labels, label_smoothing=smoothing), expected)


@given(sizes, temperatures, st.floats(0, 1))
def test_weights_share_the_terms(size, temperature, weight):
    student, teacher = scores(*size)
    labels = torch.arange(size[0]) % size[1]
    targets = softened(teacher, temperature)
    expected = weight * hard_target_loss(student, labels)
    expected += (1 - weight) * soft_target_loss(student, targets, temperature=temperature)
    found = distillation_loss(student, targets, labels, temperature=temperature, hard_weight=weight)
    assert torch.allclose(found, expected)


@given(sizes, temperatures, st.floats(0.01, 0.99))
def test_the_mixtures_own_gradient_is_that_of_its_value(size, temperature, weight):
    student, teacher = scores(*size)
    labels = torch.arange(size[0]) % size[1]
    targets = softened(teacher, temperature)

    def mixed(z):
        return distillation_loss(z, targets, labels, temperature=temperature, hard_weight=weight)

    assert torch.autograd.gradcheck(mixed, student.requires_grad_())
    # And it is the gradient that autograd makes of the two terms by themselves.
    apart = weight * hard_target_loss(student, labels)
    apart = apart + (1 - weight) * soft_target_loss(student, targets, temperature=temperature)
    expected = torch.autograd.grad(apart.sum(), student)[0]
    assert torch.allclose(torch.autograd.grad(mixed(student).sum(), student)[0], expected, atol=1e-10)


@given(sizes, temperatures, st.floats(0, 1))
def test_the_older_formulation_with_twice_the_outputs_is_the_same_objective(size, temperature, weight):
    """A student with outputs [softmax(z), softmax(z / T)], trained on targets [one-hot, teacher's logits].

    The older code softened the second half of the targets inside its loss and added two cross-entropies, the soft
    one times T squared. Cross-entropy and divergence differ by the teacher's entropy, which no weight changes.
    """
    student, teacher = scores(*size)
    rows, classes, _ = size
    labels = torch.arange(rows) % classes
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()

    outputs = torch.cat([theirs.softmax(-1), (theirs / temperature).softmax(-1)], -1)
    targets = torch.cat([functional.one_hot(labels, classes).double(), teacher], -1)
    assert outputs.shape == targets.shape == (rows, 2 * classes)
    soft_targets = (targets[:, classes:] / temperature).softmax(-1)
    hard = -(targets[:, :classes] * outputs[:, :classes].log()).sum(-1)
    soft = -(soft_targets * outputs[:, classes:].log()).sum(-1)
    older = weight * hard + (1 - weight) * temperature**2 * soft

    now = distillation_loss(ours, softened(teacher, temperature), labels, temperature=temperature, hard_weight=weight)
    older.sum().backward()
    now.sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-9)
    entropy = -(soft_targets * soft_targets.log()).sum(-1)
    assert torch.allclose(now, older - (1 - weight) * temperature**2 * entropy, atol=1e-8)


def test_a_class_without_mass_costs_nothing_and_leaves_no_nan():
    student = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[0.5, 0.5, 0.0]]).log()
    loss = soft_target_loss(student, targets)
    loss.sum().backward()
    q = student.detach().softmax(-1)[0]
    assert loss.item() == pytest.approx(0.5 * math.log(0.5 / q[0]) + 0.5 * math.log(0.5 / q[1]))
    assert torch.isfinite(student.grad).all()


def test_large_scores_stay_finite():
    student = torch.tensor([[1000.0, -1000.0]], requires_grad=True)
    loss = soft_target_loss(student, softened(torch.tensor([[-1000.0, 1000.0]]), 2.0), temperature=2.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(student.grad).all()


def test_one_value_an_example():
    student, targets = torch.zeros(2, 3, 5), softened(torch.zeros(2, 3, 5))
    labels = torch.zeros(2, 3, dtype=torch.int64)
    assert soft_target_loss(student, targets).shape == (2, 3)
    assert hard_target_loss(student, labels).shape == (2, 3)
    assert distillation_loss(student, targets, labels, temperature=2.0, hard_weight=0.3).shape == (2, 3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(DataError, match="temperature must be positive"):
        soft_target_loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)


def test_mismatches_are_refused():
    with pytest.raises(DataError, match=r"\(2, 3\).*\(2, 4\)"):
        soft_target_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match=r"\(2, 3\).*\(2, 4\)"):
        logit_matching_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="one label an example"):
        hard_target_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="no labels: set hard_weight to 0"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=1.0, hard_weight=0.5)
    with pytest.raises(DataError, match="hard_weight must be in"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=1.0, hard_weight=1.5)
    with pytest.raises(DataError, match="label_smoothing must be in"):
        hard_target_loss(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), label_smoothing=1.0)
