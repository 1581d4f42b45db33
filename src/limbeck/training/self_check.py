"""The self-check of a run's objective before the first step: a wrong loss is refused.

Rounding is distinguished from mistakes in two ways. On the run's device, with its teacher and data, an objective may be
off by what a forward error analysis of float32 allows, which grows with T, the logits and K. In addition its formula is
checked on the CPU in float64, on synthetic logits as large as the temperature: nothing cancels there, so each mistake
is as large as the gradient itself, at any temperature.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["check_objective", "exact", "name_examples"]

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from limbeck.errors import DataError, SelfCheckError
from limbeck.methods import Method, Output
from limbeck.protocols import Batch, MixedLabels, Objective

_EXAMPLES = 32
"""Number of examples of the first batch to use."""
_PROBES = 8
"""Number of synthetic examples."""
_NUMBERS = 1 << 20
"""Number of logits to check, so that the check is fast with very many classes."""
_ROUNDINGS = 16
"""Roundings that may add up in one number."""
_STRICTER = 1e-4
"""Share of the tolerance in float64, so that a mistake in a small term is seen beside a large one."""
_NAMED = 5
"""Number of examples that a message names."""
_OF_FEATURES = 1e-6
"""Largest error of a gradient by features in float64, as a share of the largest."""
_FAR = 3000.0
"""Logits of saturated answers, as multiples of the temperature."""


@runtime_checkable
class _Distilling(Objective, Protocol):
    """An objective with a teacher, which can be checked with a synthetic one."""

    method: Method
    hard_weight: float
    asked_at: float

    def taught(self, batch: Batch) -> Output: ...

    def remembering(self, batch: Batch) -> Self: ...

    @property
    def features(self) -> Mapping[str, Tensor]: ...

    def fixed(self, teacher: Output) -> Self: ...

    def made_up(self, logits: Tensor) -> Output: ...

    def rounding(self, logits: Tensor, batch: Batch, unit: float, moved: float) -> tuple[Tensor, Tensor] | None: ...

    def fault_of_teacher(self, batch: Batch) -> tuple[str, Tensor] | None: ...

    def in_phase(self, phase: int) -> Self: ...


@runtime_checkable
class _Proving(Protocol):
    """An objective around another one, which checks both."""

    def prove(self, batch: Batch, classes: int) -> None: ...


def exact(values: Tensor) -> Tensor:
    """A copy on the CPU in float64; in float32 where PyTorch has no float64.

    Args:
        values: Any tensor.

    Returns:
        The numbers, without gradient.
    """
    return values.detach().cpu().to(_exact_type())


def _exact_type() -> torch.dtype:
    try:
        return torch.zeros((), dtype=torch.float64).dtype
    except (TypeError, RuntimeError):
        return torch.float32


def name_examples(numbers: Sequence[int]) -> str:
    """Name some examples by index, for a message.

    Args:
        numbers: The examples' indices.

    Returns:
        The text for a message.

    Example:
        >>> name_examples([4]), name_examples(range(9))
        ('example 4', 'examples 0, 1, 2, 3, 4 and 4 more')
    """
    shown = ", ".join(str(number) for number in numbers[:_NAMED])
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"example{'' if len(numbers) == 1 else 's'} {shown}{more}"


def check_objective(objective: Objective, batch: Batch, classes: int, *, tolerance: float = 1e-4) -> None:
    r"""Check an objective before the first step of a run, and refuse to train with a wrong one.

    Checked are: one finite value per example; the gradient, and the value's slope, against the formula; no change of
    value or gradient when a constant is added to the logits; no gradient to anything but the logits; and, for
    distillation, that the teacher answers with log-probabilities, and zero gradient of the soft term where the
    student's logits are the teacher's. Each phase of a method is checked. A loss that forgets :math:`T^2`, averages
    over classes, does not soften the student or softens the teacher twice fails; one that is right passes at any
    temperature and size of logits.

    Args:
        objective: What the run will minimise.
        batch: Its first batch; up to 32 examples are used.
        classes: Number of classes K.
        tolerance: Largest error accepted in addition to rounding, relative to the largest gradient.

    Raises:
        DataError: If the teacher's answers are not log-probabilities; the message names an example.
        SelfCheckError: If a check fails; the message says which, and by how much.
    """
    if isinstance(objective, _Proving):
        objective.prove(batch, classes)
        return
    few = batch.head(max(1, min(_EXAMPLES, _NUMBERS // classes)))
    if isinstance(objective, _Distilling) and objective.hard_weight < 1:
        for phase in range(objective.method.phases):
            _check_distilling(objective.in_phase(phase), few, classes, tolerance)
        return
    if frozen := getattr(objective, "frozen", None):
        objective = frozen()
    _prove(objective, _moderate(few, classes, torch.Generator().manual_seed(0)), few, 1.0, tolerance)


def _moderate(few: Batch, classes: int, generator: torch.Generator) -> Tensor:
    """Logits of a usual size."""
    return (3 * torch.randn(len(few.index), classes, generator=generator)).to(few.index.device)


def _check_distilling(asked: _Distilling, few: Batch, classes: int, tolerance: float) -> None:
    """Check one phase of an objective, on the run's first batch and on synthetic logits."""
    generator = torch.Generator().manual_seed(0)
    # A teacher may be random, which is not a fault of the loss.
    kept = asked.remembering(few)
    fault = kept.fault_of_teacher(few)
    if fault is not None:
        words, numbers = fault
        raise DataError(f"the teacher's answer to {name_examples(numbers.tolist())} {words}; nothing was trained")
    prove_logits = _prove if not asked.method.hints else _prove_hints
    prove_logits(kept, _moderate(few, classes, generator), few, 1.0, tolerance)
    count = max(2, min(_PROBES, _NUMBERS // classes))
    made_up = dataclasses.replace(
        few,
        index=torch.arange(count),
        inputs=torch.zeros(count, 1),
        labels=None if few.labels is None else torch.arange(count) % classes,
        mixed=None if few.mixed is None else _made_up_mixture(count, classes),
        taught=None,
    )
    strict = tolerance * (_STRICTER if _exact_type() == torch.float64 else 1.0)
    for size in dict.fromkeys((asked.method.temperature, 1.0)):
        taught, learnt = (3 * size * exact(torch.randn(2, count, classes, generator=generator))).unbind()
        proven = asked.fixed(asked.made_up(taught))
        prove_logits(proven, learnt, made_up, size, strict)
        if not asked.method.hints:
            _prove_known(proven, taught, made_up, strict * size)
        if asked.method.hints or asked.method.phases == 1:
            _prove_features(proven, learnt, made_up)
    if asked.method.hints:
        return
    # Logits so far apart that a mask of -1000, or the logarithm of a probability that is 0, shows.
    distance = _FAR * max(asked.method.temperature, 1.0)
    far, apart = (distance * exact(torch.randn(2, count, classes, generator=generator))).unbind()
    _prove_far(asked.fixed(asked.made_up(far)), apart, made_up, strict)


def _prove_hints(objective: Objective, logits: Tensor, few: Batch, size: float, tolerance: float) -> None:
    """Check a phase on features only: the value is finite, and independent of the logits."""
    value = objective(leaf := logits.detach().requires_grad_(True), few).per_example
    found = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
    if value.shape != few.index.shape or not bool(value.isfinite().all()) or (found is not None and bool(found.any())):
        raise SelfCheckError(
            "a method that learns hints must give one finite value per example, to which logits do not count: nothing "
            "was trained"
        )


def _made_up_mixture(count: int, classes: int) -> MixedLabels:
    """Partners of other classes, with shares from 0 to 1."""
    return MixedLabels((torch.arange(count) + 1) % classes, torch.linspace(0, 1, count))


def _prove(objective: Objective, logits: Tensor, few: Batch, size: float, tolerance: float) -> None:
    """Check value, gradient and slope on some logits that are as large as ``size``."""
    generator = torch.Generator().manual_seed(1)
    if objective(logits.detach(), few).per_example.requires_grad:
        raise SelfCheckError(
            "the objective's value carries a gradient to something beside the logits: detach its targets; nothing was "
            "trained"
        )
    value, gradient = _value_and_gradient(objective, logits, few)
    if value.shape != few.index.shape or not bool(value.isfinite().all()):
        raise SelfCheckError(
            f"the objective must give one finite value per example: {len(few.index)} examples gave shape "
            f"{tuple(value.shape)}, {int((~value.isfinite()).sum())} of them not finite; nothing was trained"
        )
    reference = objective.reference_gradient(logits, few)
    bounds = None if reference is None else _rounding(objective, logits, few, 5.0 * size)
    if reference is None or bounds is None:
        return  # no formula is known
    of_value, of_gradient = bounds
    scale = float(reference.abs().max())
    wrong = (gradient - reference).abs()
    if not bool((wrong <= tolerance * scale + of_gradient).all()):
        raise SelfCheckError(
            f"the objective's gradient differs from its formula in float64 by {float(wrong.max()):.3g}, where the "
            f"largest gradient is {scale:.3g}: the loss is wrong, and nothing was trained"
        )
    method = objective.method if isinstance(objective, _Distilling) else None
    if method is None or method.shift_invariant:
        _prove_shift(objective, logits, few, size, tolerance, (value, gradient, of_value, of_gradient))
    # The value must have that gradient too: a loss may work both out apart.
    step = torch.randn(logits.shape, generator=generator).to(reference)
    length = size * (1e-4 if logits.dtype == torch.float64 else 1e-2)
    ahead, behind = (exact(objective(logits + sign * length * step.to(logits), few).per_example) for sign in (1, -1))
    off = (ahead - behind) / (2 * length) - (reference * step).sum(-1)
    if method is not None and method.coupled:  # an example's value is not its own
        off = off.sum(0, keepdim=True).expand_as(off)
    off = off.abs()
    steepest = float(reference.norm(dim=-1).max())
    allowed = 1e-2 * steepest + of_value / length + (of_gradient * step.abs()).sum(-1)
    if not bool((off <= allowed).all()):
        raise SelfCheckError(
            f"the objective's value rises by {float(off.max()):.3g} per unit otherwise than its gradient says: value "
            "and gradient do not belong together, and nothing was trained"
        )


def _prove_features(objective: _Distilling, logits: Tensor, few: Batch) -> None:
    """Check the gradient by the student's features against its formula, for feature methods."""
    if not objective.features:
        return
    # Real batches have duplicates and all-zero features, and methods divide by lengths.
    for features in (objective.features, {name: _alike(value) for name, value in objective.features.items()}):
        _prove_slopes(objective, logits, few, features)


def _alike(features: Tensor) -> Tensor:
    """The first example's features 0, and the next two the same."""
    found = features.clone()
    found[0] = 0
    found[1:3] = found[1].clone()
    return found


def _prove_slopes(objective: _Distilling, logits: Tensor, few: Batch, features: Mapping[str, Tensor]) -> None:
    """Check the gradient by some features against its formula, where this is finite, and that it is finite."""
    method, says = objective.method, objective.taught(few)
    leaves = {name: value.detach().requires_grad_(True) for name, value in features.items()}
    reference = method.reference_gradient(Output(logits, features), says, few)
    value = method(Output(logits, leaves), says, few)
    found = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True)
    for (name, leaf), slope in zip(leaves.items(), found, strict=True):
        if slope is None:
            raise SelfCheckError(f"method {method.name} does not learn from layer {name}, which it reads")
        right = slope if reference is None else reference.features.get(name, torch.zeros_like(leaf))
        if not bool(slope.isfinite().all()):
            raise SelfCheckError(
                f"the gradient by layer {name} is not finite where two examples are alike, or one has features of 0: "
                "the method divides by a length; nothing was trained"
            )
        wrong = float((slope - right).abs().max())
        if bool(right.isfinite().all()) and wrong > _OF_FEATURES * float(right.abs().max()):
            raise SelfCheckError(
                f"the gradient by layer {name} differs from its formula by {wrong:.3g}, where the largest is "
                f"{float(right.abs().max()):.3g}: the loss is wrong, and nothing was trained"
            )


def _prove_far(objective: _Distilling, logits: Tensor, few: Batch, tolerance: float) -> None:
    """Check the gradient where student and teacher are confident, and differ."""
    reference = objective.reference_gradient(logits, few)
    if reference is None or not bool(reference.isfinite().all()):  # a formula that was written for moderate logits
        return
    value, gradient = _value_and_gradient(objective, logits, few)
    bounds = _rounding(objective, logits, few, 0.0)
    if not bool(value.isfinite().all()) or not bool(gradient.isfinite().all()):
        raise SelfCheckError(
            "the objective is not finite where student and teacher are sure of different classes: it takes the "
            "logarithm of a probability that is 0; nothing was trained"
        )
    wrong, allowed = (gradient - reference).abs(), tolerance * float(reference.abs().max())
    if bounds is not None and not bool((wrong <= allowed + bounds[1]).all()):
        raise SelfCheckError(
            f"where student and teacher are sure of different classes the objective's gradient differs from its "
            f"formula by {float(wrong.max()):.3g}: the loss is wrong there, and nothing was trained"
        )


def _prove_shift(
    objective: Objective,
    logits: Tensor,
    few: Batch,
    size: float,
    tolerance: float,
    before: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Check that adding a constant to the logits changes neither value nor gradient, up to rounding."""
    value, gradient, of_value, of_gradient = before
    moved_value, moved_gradient = _value_and_gradient(objective, logits + 5.0 * size, few)
    of_values, of_gradients = (moved_value - value).abs(), (moved_gradient - gradient).abs()
    if not (
        bool((of_values <= tolerance * value.abs().max() + of_value).all())
        and bool((of_gradients <= tolerance * gradient.abs().max() + 2 * of_gradient).all())
    ):
        change = max(float(of_values.max()), float(of_gradients.max()))
        raise SelfCheckError(
            f"adding a constant to the logits changed the objective by {change:.3g}: it must not, since a softmax "
            "does not; nothing was trained"
        )


def _value_and_gradient(objective: Objective, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().requires_grad_(True)
    value = objective(leaf, batch).per_example
    found = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
    if found is None:
        raise SelfCheckError("the objective does not depend on the logits, so that nothing would be learnt from it")
    return exact(value), exact(found)


def _rounding(objective: Objective, logits: Tensor, few: Batch, moved: float) -> tuple[Tensor, Tensor] | None:
    """Bounds on the rounding error of an objective: of each value, ``(N,)``, and of its gradient, ``(N, K)``.

    Args:
        objective: The objective to check.
        logits: Logits of the student, ``(N, K)``.
        few: The examples.
        moved: The constant that is added to the logits.

    Returns:
        Both bounds; None where the objective knows none.
    """
    z, unit = exact(logits), _ROUNDINGS * torch.finfo(logits.dtype).eps
    largest = z.abs().amax(-1, keepdim=True) + moved
    of_labels = unit * (largest + math.log(z.shape[-1]) + 1)
    if not isinstance(objective, _Distilling) or objective.hard_weight == 1:
        return of_labels.squeeze(-1), of_labels.expand_as(z)
    found = objective.rounding(logits, few, unit, moved)
    if found is None:
        return None
    return of_labels.squeeze(-1) + found[0], of_labels * torch.softmax(z, -1) + found[1]


def _prove_known(objective: _Distilling, logits: Tensor, few: Batch, tolerance: float) -> None:
    """Check the method's gradient where it is known without a formula: mostly zero where student equals teacher."""
    known = objective.method.known_gradient(logits, few) if objective.method.reads_logits else None
    if known is None:
        return
    place, expected = known
    same = place.detach().requires_grad_(True)
    value = objective.method(Output(same, objective.features), objective.taught(few), few)
    (leftover,) = torch.autograd.grad(value.sum(), same)
    bounds = _rounding(objective, place, few, 0.0)
    off = (exact(leftover) - exact(expected)).abs()
    if bounds is not None and not bool((off <= tolerance + bounds[1]).all()):
        where = "the student equals the teacher" if place is logits else "the student is the softened teacher"
        raise SelfCheckError(
            f"where {where} the soft term's gradient is {float(leftover.abs().max()):.3g} and must be "
            f"{float(expected.abs().max()):.3g}: teacher and student are not softened alike; nothing was trained"
        )
