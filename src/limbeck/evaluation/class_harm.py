"""Per-class tests: which classes got worse, even where the mean improved.

Axes: ``S`` seeds, ``N`` examples, ``K`` classes.
"""

__all__ = ["ClassChange", "ClassHarm", "harm_by_class"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import DataError
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.statistics import as_array, by_seed, holm, mcnemar


@dataclass(frozen=True)
class ClassChange:
    """The effect of a change on the examples of one class.

    Attributes:
        name: The class.
        examples: How many examples it has.
        errors: Errors on them, mean over seeds.
        before: Errors of the reference on them, mean over seeds.
        p_value: Paired test of both, two-sided, adjusted by Holm over the classes.
    """

    name: str
    examples: int
    errors: float
    before: float
    p_value: float


@dataclass(frozen=True)
class ClassHarm:
    """Classes on which a model is shown to have more, or fewer, errors than its reference.

    Attributes:
        classes: How many classes were tested: those with examples.
        lost: Those with more errors, the most significant first.
        gained: Those with fewer errors, in the same order.
        sentence: A sentence on the lost classes; empty where there are none.
    """

    classes: int
    lost: tuple[ClassChange, ...]
    gained: tuple[ClassChange, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        Returns:
            The attributes by name.
        """
        return {
            **asdict(self),
            "lost": [asdict(change) for change in self.lost],
            "gained": [asdict(change) for change in self.gained],
        }


def harm_by_class(
    errors: Sequence[ArrayLike],
    reference_errors: Sequence[ArrayLike],
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    reference: str = "baseline",
) -> ClassHarm:
    """Test each true class for a difference in errors, and name those that lost.

    One pair of models is compared by McNemar's exact test, several seeds (or examples in groups) by the cautious
    p-value of :class:`~limbeck.evaluation.paired_intervals.CrossedDifference`, on the examples of each class. They are
    adjusted by Holm, so that where no class has changed, one is named in at most ``1 - confidence`` of experiments.

    Args:
        errors: Where each model errs, bool ``(S, N)``, one row per seed.
        reference_errors: Where its reference errs, bool ``(S, N)``.
        labels: True classes, integers ``(N,)``.
        classes: Names of the K classes.
        groups: Which examples belong together, integers ``(N,)``; None: all are independent.
        confidence: One minus the chance of a false alarm over all classes, in (0, 1).
        reference: Name of the reference in the sentence.

    Returns:
        The classes that lost, and those that gained.

    Raises:
        DataError: If labels do not fit the errors or the names.

    Example:
        >>> labels = np.repeat([0, 1], 500)
        >>> place = np.arange(1000)
        >>> found = harm_by_class([(place > 480) & (place < 520)], [place < 90], labels, ("cat", "dog"))
        >>> print(found.sentence)
        One class lost: "dog" has 20 errors of 500 for the baseline's 0.
        >>> [change.name for change in found.gained]
        ['cat']
    """
    own, before = np.asarray(by_seed(errors)), np.asarray(by_seed(reference_errors))
    place, together = as_array(labels), None if groups is None else as_array(groups)
    if place.shape != own.shape[1:] or own.shape != before.shape:
        raise DataError(f"errors of shape {own.shape} and {before.shape} and labels of {place.shape} do not fit")
    if place.size and not 0 <= place.min() <= place.max() < len(classes):
        raise DataError(f"labels from {place.min()} to {place.max()} do not fit {len(classes)} classes")
    found = []
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place, minlength=len(classes)))
    for name, rows in zip(classes, np.split(order, ends[:-1]), strict=True):
        if len(rows):
            a, b = own[:, rows], before[:, rows]
            p_value = _p_value(a, b, None if together is None else together[rows])
            found.append(ClassChange(name, len(rows), float(a.sum(1).mean()), float(b.sum(1).mean()), p_value))
    adjusted = holm([change.p_value for change in found])
    shown = sorted(
        (
            ClassChange(change.name, change.examples, change.errors, change.before, float(p))
            for change, p in zip(found, adjusted, strict=True)
            if p < 1 - confidence
        ),
        key=lambda change: change.p_value,
    )
    lost = tuple(change for change in shown if change.errors > change.before)
    gained = tuple(change for change in shown if change.errors < change.before)
    return ClassHarm(len(found), lost, gained, _sentence(lost, reference))


def _p_value(errors: np.ndarray[Any, Any], before: np.ndarray[Any, Any], groups: ArrayLike | None) -> float:
    if not (errors != before).any():
        return 1.0
    if len(errors) == 1 and groups is None:
        return mcnemar(errors[0], before[0]).p_value
    return crossed_difference(list(errors), list(before), groups=groups).cautious_p_value


_NAMED = 10
"""Number of classes named in the sentence."""


def _sentence(lost: Sequence[ClassChange], reference: str) -> str:
    if not lost:
        return ""
    count = "One class" if len(lost) == 1 else f"{len(lost)} classes"
    said = [
        f'"{change.name}" has {_count(change.errors)} errors of {change.examples:,} for the {reference}\'s '
        f"{_count(change.before)}"
        for change in lost[:_NAMED]
    ]
    rest = f", and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    return f"{count} lost: {', '.join(said)}{rest}."


def _count(errors: float) -> str:
    return f"{errors:,.1f}".removesuffix(".0")
