"""The losses against autograd in float64, slow sums, and the limits that the paper derives."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from limbeck.data import Examples
from limbeck.errors import DataError
from limbeck.losses import distillation_loss, hard_target_loss, logit_matching_loss, soft_target_loss, softened
from limbeck.losses.fused import HOT, fused_loss, label_loss

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


@given(sizes, temperatures, st.sampled_from([0.0, 0.3, 0.99]), st.sampled_from([0.0, 0.2]))
def test_the_training_steps_own_loss_is_the_public_one(size, temperature, weight, smoothing):
    student, teacher = scores(*size)
    labels, student = torch.arange(size[0]) % size[1], student.requires_grad_()
    settings = {"temperature": temperature, "hard_weight": weight, "label_smoothing": smoothing}
    public = distillation_loss(student, softened(teacher, temperature), labels, **settings)
    (slope,) = torch.autograd.grad(public.sum(), student)
    for targets, settings["targets_at_one"] in ((softened(teacher, temperature), False), (softened(teacher), True)):
        if temperature <= HOT and settings["targets_at_one"]:
            continue
        fused = fused_loss(student, targets, labels, **settings)
        assert torch.allclose(fused, public, atol=1e-8)
        assert torch.allclose(torch.autograd.grad(fused.sum(), student)[0], slope, atol=1e-10)
    assert torch.allclose(
        label_loss(student, labels, smoothing), hard_target_loss(student, labels, label_smoothing=smoothing)
    )


@pytest.mark.parametrize("temperature", [0.5, 4.0, 31.0, 33.0, 1e3])
def test_the_training_steps_own_loss_leaves_out_what_both_sides_exclude(temperature):
    student, teacher = (each.float() for each in scores(5, 6, 1))
    student[:, 1], teacher[:, 1], teacher[:, 4] = -math.inf, -math.inf, -math.inf
    student.requires_grad_()
    settings = {"temperature": temperature, "hard_weight": 0.3}
    labels = torch.tensor([0, 2, 3, 5, 0])
    targets = softened(teacher, temperature)
    public = distillation_loss(student.double(), softened(teacher.double(), temperature), labels, **settings)
    (slope,) = torch.autograd.grad(public.sum(), student)
    fused = fused_loss(student, targets, labels, **settings)
    (ours,) = torch.autograd.grad(fused.sum(), student)
    assert torch.allclose(fused.double(), public, rtol=1e-4) and bool(public.isfinite().all())
    assert torch.allclose(ours, slope, rtol=1e-4, atol=1e-4) and bool((ours[:, 1] == 0).all())


def derivatives(function, *given):
    return torch.autograd.gradcheck(function, given) and torch.autograd.gradgradcheck(function, given)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_every_derivative_reaches_logits_and_targets(shape, weight):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, *shape, dtype=torch.float64, generator=generator).unbind()
    labels = torch.zeros(shape[:-1], dtype=torch.int64)

    def mixed(z, v):
        return distillation_loss(z, softened(v, 2.0), labels, temperature=2.0, hard_weight=weight, label_smoothing=0.1)

    student, teacher = student.requires_grad_(), teacher.requires_grad_()
    if weight == 1:  # nothing of the targets is left
        assert derivatives(lambda z: mixed(z, teacher), student)
        return
    assert derivatives(mixed, student, teacher)
    assert derivatives(logit_matching_loss, student, teacher)
    # Not only where the targets are log-probabilities of something.
    assert derivatives(soft_target_loss, student, teacher.detach().log_softmax(-1).requires_grad_())
    expected = torch.autograd.grad(mixed(student, teacher).sum(), (student, teacher))
    assert all(bool((slope != 0).any()) for slope in expected)
    found = torch.func.grad(lambda z, v: mixed(z, v).sum(), argnums=(0, 1))(student.detach(), teacher.detach())
    assert all(torch.allclose(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # PyTorch's own, in forward mode
def test_hessians_and_vmap_are_those_of_the_two_terms():
    student, teacher = scores(4, 3, 5)
    labels = torch.tensor([0, 1, 2, 0])

    def mixed(z, v, y):
        return distillation_loss(z, softened(v, 2.0), y, temperature=2.0, hard_weight=0.3)

    # The softened softmax has the Hessian diag(q) - q q', times T squared over T squared; the hard one likewise.
    def curvature(z):
        q = z.softmax(-1)
        return torch.diag(q) - torch.outer(q, q)

    for z, v, y in zip(student, teacher, labels, strict=True):
        expected = 0.7 * curvature(z / 2) + 0.3 * curvature(z)
        assert torch.allclose(torch.func.hessian(mixed)(z, v, y), expected)
        assert torch.allclose(torch.autograd.functional.hessian(lambda z, v=v, y=y: mixed(z, v, y), z), expected)
    by_row = torch.func.vmap(mixed)(student, teacher, labels)
    assert torch.allclose(by_row, mixed(student, teacher, labels))
    slopes = torch.func.vmap(torch.func.grad(mixed))(student, teacher, labels)
    leaf = student.clone().requires_grad_()
    assert torch.allclose(slopes, torch.autograd.grad(mixed(leaf, teacher, labels).sum(), leaf)[0])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind):
    student = torch.tensor([[6e4, -6e4, 0.0], [1.0, 2.0, 3.0]], dtype=kind).requires_grad_()
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [3.0, 2.0, 1.0]], dtype=kind)
    labels = torch.tensor([1, 0])
    wide, far = student.detach().double().requires_grad_(), teacher.double()
    for temperature in (1.0, 20.0):
        settings = {"temperature": temperature, "hard_weight": 0.5}
        pairs = [
            (softened(student, temperature), softened(wide, temperature)),
            (hard_target_loss(student, labels), hard_target_loss(wide, labels)),
            (logit_matching_loss(student, teacher), logit_matching_loss(wide, far)),
            (
                distillation_loss(student, softened(teacher, temperature), labels, **settings),
                distillation_loss(wide, softened(far, temperature), labels, **settings),
            ),
        ]
        for found, expected in pairs:
            assert found.dtype == torch.float32 and bool(found.isfinite().all())
            torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
            (slope,) = torch.autograd.grad(found.sum(), student, retain_graph=True)
            assert bool(slope.isfinite().all())
    # Targets that were softened in half precision are taken as they are.
    assert soft_target_loss(student, teacher.float().log_softmax(-1).to(kind)).dtype == torch.float32


def test_a_class_excluded_on_both_sides_is_as_if_it_were_not_there():
    student, teacher = scores(4, 5, 3)
    without = [0, 1, 3, 4]
    for z in (student, teacher):
        z[:, 2] = -math.inf
    z, v = student.requires_grad_(), teacher.requires_grad_()
    labels = torch.tensor([0, 1, 3, 4])
    narrow = torch.tensor([0, 1, 2, 3])
    for wide, thin in (
        (soft_target_loss(z, softened(v, 3.0), temperature=3.0),
         soft_target_loss(z[:, without], softened(v[:, without], 3.0), temperature=3.0)),
        (logit_matching_loss(z, v), logit_matching_loss(z[:, without], v[:, without])),
        (hard_target_loss(z, labels), hard_target_loss(z[:, without], narrow)),
    ):  # fmt: skip
        assert torch.allclose(wide, thin)
        slope = torch.autograd.grad(wide.sum(), z, create_graph=True)[0]
        assert bool(slope.isfinite().all()) and bool((slope[:, 2] == 0).all())
        again = torch.autograd.grad(slope.square().sum(), z)[0]
        assert bool(again.isfinite().all())


def test_a_class_excluded_on_one_side_is_infinitely_far():
    student, teacher = scores(2, 3, 3)
    student[0, 1] = -math.inf
    for loss in (soft_target_loss(student, softened(teacher)), logit_matching_loss(student, teacher)):
        assert loss[0] == math.inf and bool(loss[1].isfinite())
    teacher[1, 0] = -math.inf
    assert logit_matching_loss(student, teacher)[1] == math.inf
    # Towards the teacher's own zero the student is only pushed.
    assert bool(soft_target_loss(student, softened(teacher))[1].isfinite())


@pytest.mark.parametrize("label", [-100, -1, 3, 1 << 40])
def test_labels_that_are_no_classes_are_refused_with_their_example(label):
    logits = torch.zeros(2, 3)
    labels, targets = torch.tensor([1, label]), softened(logits)
    for weight in (0.5, 1.0):
        with pytest.raises(DataError, match=rf"label {label} of example 1 is outside the 3 classes \(0 to 2\)"):
            distillation_loss(logits, targets, labels, temperature=2.0, hard_weight=weight)
    with pytest.raises(DataError, match=rf"label {label} of example \(0, 1\)"):
        hard_target_loss(logits[None], labels[None])
    with pytest.raises(DataError, match=rf"{label}"):
        Examples.of(logits, labels) if label < 0 else hard_target_loss(logits, labels)


def test_labels_of_other_types_are_taken_or_refused():
    logits = torch.randn(3, 4)
    for kind in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert torch.equal(
            hard_target_loss(logits, torch.tensor([0, 3, 1], dtype=kind)),
            hard_target_loss(logits, torch.tensor([0, 3, 1])),
        )
    for wrong in (torch.zeros(3), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(DataError, match="labels must be integers"):
            hard_target_loss(logits, wrong)
    with pytest.raises(DataError, match=r"labels have \(3, 4\)"):
        hard_target_loss(logits, torch.zeros(3, 4, dtype=torch.int64))
    elsewhere = torch.zeros(3, dtype=torch.int64, device="meta")
    with pytest.raises(DataError, match="logits are on cpu, and the labels on meta"):
        hard_target_loss(logits, elsewhere)
    with pytest.raises(DataError, match="logits are on cpu, and the targets on meta"):
        soft_target_loss(logits, torch.zeros(3, 4, device="meta"))


def test_a_row_without_any_mass_is_refused():
    full, empty = torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 0.0], [-math.inf] * 3])
    for words, call in (
        ("targets of example 1", lambda: soft_target_loss(full, empty)),
        ("student's logits of example 1", lambda: soft_target_loss(empty, softened(full))),
        ("student's logits of example 1", lambda: hard_target_loss(empty, torch.zeros(2, dtype=torch.int64))),
        ("every class of example 1", lambda: logit_matching_loss(empty, empty)),
    ):
        with pytest.raises(DataError, match=words):
            call()


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
    with pytest.raises(DataError, match="one label per example"):
        hard_target_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="no labels: set hard_weight to 0"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=1.0, hard_weight=0.5)
    with pytest.raises(DataError, match="hard_weight must be in"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=1.0, hard_weight=1.5)
    with pytest.raises(DataError, match="label_smoothing must be in"):
        hard_target_loss(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), label_smoothing=1.0)
