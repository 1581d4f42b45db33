"""Each method against its formula: autograd and differences in float64, saturated logits, half precision."""

import math
import random

import pytest
import torch

from limbeck.errors import ConfigError, DataError
from limbeck.losses import distillation_loss, soft_target_loss, softened
from limbeck.methods import Output, make_method
from limbeck.options.methods import METHODS
from limbeck.protocols import Batch
from limbeck.teachers import Ensemble, StoredTargets
from limbeck.training.objective import DistillationObjective, check_objective

LOGITS_METHODS = ["kd", "logits", "dkd", "nkd", "dist", "ttm", "standardised"]
FORMS = [
    *((name, {}) for name in LOGITS_METHODS),
    ("dkd", {"alpha": 0.5, "beta": 2.0}),
    ("nkd", {"gamma": 0.0}),
    ("dist", {"variant": "paper", "beta": 2.0, "gamma": 0.0}),
    ("ttm", {"weighted": True}),
    ("standardised", {"variant": "control", "weight": 10.0}),
    ("kd:1+dkd:0.5+logits:2", {"beta": 3.0}),
]


def some_batch(count, classes, seed=0):
    labels = torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))
    return Batch(torch.arange(count), 0, torch.zeros(count, 1), labels)


def draws(count, classes, size=2.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    both = size * torch.randn(2, count, classes, generator=generator, dtype=torch.float64)
    return both.to(dtype).unbind()


def answered(method, logits):
    """The teacher's answer as an objective asks for it."""
    at = 1.0 if method.needs_logits else method.temperature
    return Output(softened(logits, at), {}, at)


def slope_of(method, logits, teacher, batch):
    leaf = logits.detach().requires_grad_()
    value = method(Output(leaf), teacher, batch)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


@pytest.mark.parametrize(("name", "options"), FORMS)
@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
@pytest.mark.parametrize(("count", "classes"), [(6, 5), (1, 5), (6, 2), (1, 2)])
def test_the_formula_is_autograds_gradient_and_that_of_the_value(name, options, temperature, count, classes):
    method, batch = make_method(name, options, temperature=temperature), some_batch(count, classes)
    z, v = draws(count, classes)
    teacher = answered(method, v)
    value, slope = slope_of(method, z, teacher, batch)
    right = method.reference_gradient(Output(z), teacher, batch).logits
    assert value.shape == (count,) and bool(value.isfinite().all())
    scale = float(right.abs().max())
    assert float((slope - right).abs().max()) <= 1e-6 * scale + 1e-12
    for seed in range(3):
        step = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ahead, behind = (method(Output(z + s * 1e-5 * step), teacher, batch).sum() for s in (1, -1))
        assert float((ahead - behind) / 2e-5) == pytest.approx(float((right * step).sum()), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("name", "options"), FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("count", "classes"), [(5, 10), (1, 3), (4, 2)])
def test_saturated_logits_of_any_precision_give_numbers(name, options, dtype, count, classes):
    method, batch = make_method(name, options), some_batch(count, classes)
    for size in (0.0, 1e-4, 30.0, 6e4 if dtype != torch.float32 else 1e8):
        z, v = ((1 - 2 * torch.eye(classes)[batch.labels]) * size * sign for sign in (1, -1))
        for student, taught in ((z, v), (z, z), (v, z)):
            half, teacher = student.detach().to(dtype), answered(method, taught.detach().to(dtype))
            leaf = half.float().clone().requires_grad_()  # as the engine has it
            value = method(Output(half), teacher, batch)
            assert value.dtype == torch.float32 and bool(value.isfinite().all()), (size, value)
            (slope,) = torch.autograd.grad(method(Output(leaf), teacher, batch).sum(), leaf)
            assert bool(slope.isfinite().all()), (size, slope)


@pytest.mark.parametrize("name", ["kd", "dkd", "nkd", "dist", "ttm"])
def test_a_teacher_that_gives_a_class_nothing_gives_numbers(name):
    method, batch = make_method(name), some_batch(6, 4)
    z, v = draws(6, 4)
    v[0, 1:] = -math.inf  # sure of one class
    v[1, batch.labels[1]] = -math.inf
    v[2, :2] = -math.inf
    teacher = answered(method, v)
    value, slope = slope_of(method, z, teacher, batch)
    right = method.reference_gradient(Output(z), teacher, batch).logits
    assert bool(value.isfinite().all())
    torch.testing.assert_close(slope, right, rtol=1e-9, atol=1e-9)


def test_parts_of_dkd_make_kd():
    """With alpha = 1 and, per example, beta = 1 - q_y it is kd."""
    z, v = draws(8, 6)
    batch = some_batch(8, 6)
    label = make_method("dkd", {"alpha": 1.0, "beta": 0.0})
    rest = make_method("dkd", {"alpha": 0.0, "beta": 1.0})
    teacher = answered(label, v)
    share = 1 - teacher.logits.exp().gather(1, batch.labels[:, None]).squeeze(1)
    both = label(Output(z), teacher, batch) + share * rest(Output(z), teacher, batch)
    torch.testing.assert_close(both, soft_target_loss(z, teacher.logits, temperature=4.0))


def test_limits_and_identities():
    z, v = draws(8, 6)
    batch = some_batch(8, 6)
    at_one = Output(softened(v, 1.0))
    plain = soft_target_loss(z, at_one.logits)
    # At T = 1 the teacher alone softened is both softened, in the weighted form too: its weights are 1.
    for weighted in (False, True):
        ttm = make_method("ttm", {"weighted": weighted}, temperature=1.0)
        torch.testing.assert_close(ttm(Output(z), at_one, batch), plain)
    control = make_method("standardised", {"variant": "control", "weight": 3.0}, temperature=2.0)
    expected = 3 * soft_target_loss(z, softened(v, 2.0), temperature=2.0)
    torch.testing.assert_close(control(Output(z), at_one, batch), expected)
    # Standardised logits do not know their size; of logits that have deviation 1 it is kd.
    standardised = make_method("standardised", temperature=2.0)
    one, other = ((each - each.mean(-1, keepdim=True)) / each.std(-1, keepdim=True) for each in (z, v))
    found = standardised(Output(7 * z + 3), at_one, batch)
    torch.testing.assert_close(found, soft_target_loss(one, softened(other, 2.0), temperature=2.0), rtol=1e-5, atol=0)
    # nkd of a teacher that knows the label is the cross-entropy, and the others have no share.
    sure = Output(torch.where(torch.eye(6)[batch.labels] > 0, 0.0, -math.inf).double())
    nkd = make_method("nkd", temperature=1.0)
    truth = torch.nn.functional.cross_entropy(z, batch.labels, reduction="none")
    torch.testing.assert_close(nkd(Output(z), sure, batch), truth)


def test_dist_is_one_less_correlations_and_couples_the_batch():
    z, v = draws(8, 6)
    batch = some_batch(8, 6)
    method = make_method("dist", {"beta": 2.0, "gamma": 0.5}, temperature=3.0)
    p, q = (z / 3).softmax(-1), (v / 3).softmax(-1)
    across = torch.stack([torch.corrcoef(torch.stack([p[n], q[n]]))[0, 1] for n in range(8)])
    within = torch.stack([torch.corrcoef(torch.stack([p[:, k], q[:, k]]))[0, 1] for k in range(6)])
    expected = 9 * (2 * (1 - across) + 0.5 * (1 - within).mean())
    torch.testing.assert_close(method(Output(z), answered(method, v), batch), expected, rtol=1e-6, atol=1e-6)
    paper = make_method("dist", {"beta": 2.0, "gamma": 0.5, "variant": "paper"}, temperature=3.0)
    torch.testing.assert_close(9 * paper(Output(z), answered(paper, v), batch), expected, rtol=1e-6, atol=1e-6)
    alone = method(Output(z[:1]), answered(method, v[:1]), some_batch(1, 6))
    assert method.coupled and not torch.allclose(alone, expected[:1])
    assert not any(make_method(name).coupled for name in LOGITS_METHODS if name != "dist")


def test_named_kd_is_the_loss_that_it_was():
    z, v = draws(8, 6)
    batch, stored = some_batch(8, 6), StoredTargets(v.log_softmax(-1), torch.arange(8))
    objective = DistillationObjective(stored, hard_weight=0.3, temperature=4.0, label_smoothing=0.1)
    expected = distillation_loss(
        z, softened(v, 4.0), batch.labels, temperature=4.0, hard_weight=0.3, label_smoothing=0.1
    )
    torch.testing.assert_close(objective(z, batch).per_example, expected, rtol=1e-5, atol=1e-5)


def some_right_objective(seed):
    """Any method with any settings, on data of any kind, at any size of logits."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    classes, count = draw.choice([2, 3, 10, 100, 1000]), draw.choice([1, 2, 40])
    names = draw.sample(LOGITS_METHODS, draw.choice([1, 1, 1, 2]))
    weights = [round(10 ** draw.uniform(-2, 2), 3) for _ in names]
    name = (
        "+".join(f"{each}:{weight}" for each, weight in zip(names, weights, strict=True))
        if len(names) > 1
        else names[0]
    )
    options = {}
    for each in names:
        chosen = {
            "dkd": {"alpha": draw.choice([0.0, 1.0, 10 ** draw.uniform(-2, 2)]), "beta": 10 ** draw.uniform(-2, 2)},
            "nkd": {"gamma": draw.choice([0.0, 1.5, 10 ** draw.uniform(-2, 2)])},
            "dist": {"variant": draw.choice(["code", "paper"]), "gamma": draw.choice([0.0, 1.0, 2.0])},
            "ttm": {"weighted": draw.random() < 0.5},
            "standardised": {"variant": draw.choice(["standardised", "control"]), "weight": 10 ** draw.uniform(-1, 1)},
        }.get(each, {})
        options |= {f"{each}.{key}": value for key, value in chosen.items()}
    temperature = draw.choice([1.0, 10 ** draw.uniform(-1.3, 2)])
    logits = 10 ** draw.uniform(-3, 6) * torch.randn(count, classes, generator=generator)
    kind = draw.choice(["plain", "plain", "saturated", "even", "excluded", "arithmetic", "alike"])
    if kind == "saturated":
        logits[:, 0] += 1e9
    if kind == "even":
        logits.zero_()
    if kind == "alike":
        logits[:] = logits[:1]
    if kind == "excluded":
        logits[:, 1:][torch.rand(count, classes - 1, generator=generator) < 0.5] = -math.inf
    teacher = StoredTargets(logits.log_softmax(-1), torch.arange(count))
    if kind == "arithmetic":
        other = torch.randn(count, classes, generator=generator).log_softmax(-1)
        teacher = Ensemble([teacher, StoredTargets(other, torch.arange(count))])
    method = make_method(name, options, temperature=temperature)
    method.require(classes)
    objective = DistillationObjective(
        teacher, method=method, hard_weight=draw.choice([0.0, 0.1, draw.random()]),
        label_smoothing=draw.choice([0.0, draw.random()]),
    )  # fmt: skip
    return objective, some_batch(count, classes, seed)


def check_some(seed):
    try:
        objective, batch = some_right_objective(seed)
        check_objective(objective, batch, objective.taught(batch).logits.shape[1])
    except (ConfigError, DataError) as error:
        # Limits that are named; each has a test of its own.
        named = ("logits are not known", "use kd", "learns nothing of two classes", "lower temperature")
        assert any(words in str(error) for words in named), (seed, error)


@pytest.mark.parametrize("first", range(0, 60, 15))
def test_what_is_right_raises_no_alarm(first):
    for seed in range(first, first + 15):
        check_some(seed)


@pytest.mark.slow
def test_what_is_right_raises_no_alarm_in_a_thousand_cases():
    for seed in range(60, 1060):
        check_some(seed)


def test_every_method_of_logits_is_tested_here():
    taps = {name for name in METHODS if make_method(name).student_taps or not make_method(name).reads_logits}
    assert set(METHODS) - taps == set(LOGITS_METHODS)
