"""Which of a teacher's mistakes its student repeats, and whether it repeats more of them than labels alone would.

Two networks that learn from the same data make many of the same mistakes anyway, on examples that are hard or wrongly
labelled. What a student inherits is therefore what it repeats beyond the same network trained on labels alone.

Axes: ``S`` seeds, ``N`` examples, ``K`` classes.
"""

__all__ = ["Inherited", "InheritedPart", "inherited_mistakes"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import DataError
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.statistics import Interval, mcnemar

_MOST_GROUPS = 100
"""Groups that are kept: those in which the teacher makes most mistakes."""


@dataclass(frozen=True)
class InheritedPart:
    """The teacher's mistakes on the examples of one true class, or of one group.

    Attributes:
        name: The class or the group.
        examples: How many examples it has.
        mistakes: How many mistakes the teacher makes on them.
        student: How many of these the student repeats, mean over seeds.
        baseline: How many the baseline repeats, mean over seeds; None where there is none.
    """

    name: str
    examples: int
    mistakes: int
    student: float
    baseline: float | None


@dataclass(frozen=True)
class Inherited:
    """How many of a teacher's mistakes are repeated, with the same wrong answer.

    Attributes:
        mistakes: How many the teacher makes.
        student: Share of them that the student repeats, mean over seeds.
        baseline: Share that the baseline repeats, mean over seeds; None where there is none.
        difference: Student's share minus the baseline's, with its interval over seeds and the teacher's mistakes; None
            where there is no baseline.
        p_value: Of the same difference, two-sided: McNemar's exact test for one pair, else the cautious p-value of
            :class:`~limbeck.evaluation.paired_intervals.CrossedDifference`; None where there is no baseline.
        by_class: For each true class on which the teacher errs, those with most mistakes first.
        by_group: The same for groups of examples that have names, at most 100; empty where they have none.
        groups: In how many named groups the teacher errs.
        sentence: In words.
    """

    mistakes: int
    student: float
    baseline: float | None
    difference: Interval | None
    p_value: float | None
    by_class: tuple[InheritedPart, ...]
    by_group: tuple[InheritedPart, ...]
    groups: int
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {"by_class": self.by_class, "by_group": self.by_group}
        return {**asdict(self), **{name: [asdict(row) for row in rows] for name, rows in parts.items()}}


def inherited_mistakes(
    teacher: ArrayLike,
    students: Sequence[ArrayLike],
    baselines: Sequence[ArrayLike],
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    group_names: Sequence[Any] | None = None,
    confidence: float = 0.95,
) -> Inherited | None:
    r"""Compare how many of the teacher's mistakes student and baseline repeat.

    With the teacher's answers :math:`t_n`, the labels :math:`y_n` and a model's answers :math:`a_n`, it is

    .. math::
        \frac{\#\{n : t_n \ne y_n, a_n = t_n\}}{\#\{n : t_n \ne y_n\}}

    Args:
        teacher: Top-1 classes of the teacher, integers ``(N,)``.
        students: Those of each student, one per seed.
        baselines: Those of each baseline, in the same order; empty where there is none.
        labels: True classes, integers ``(N,)``.
        classes: Names of the K classes.
        groups: Which examples belong together, integers ``(N,)``; None: each is by itself.
        group_names: What each example belongs to by name, such as a speaker or a region, ``(N,)``, to count by; None
            where that has no name.
        confidence: Of the interval, in (0, 1).

    Returns:
        The shares; None where the teacher makes no mistake.

    Raises:
        DataError: If the arrays do not fit each other.

    Example:
        >>> truth = np.zeros(100, int)
        >>> teacher = np.where(np.arange(100) < 20, 1, 0)
        >>> student, baseline = np.where(np.arange(100) < 18, 1, 0), np.where(np.arange(100) < 4, 1, 0)
        >>> print(inherited_mistakes(teacher, [student], [baseline], truth, ("cat", "dog")).sentence)
        Of the teacher's 20 mistakes the student repeats 90 %, the baseline 20 %: more than labels alone explain.
    """
    said, truth = np.asarray(teacher), np.asarray(labels)
    own, before = (_stacked(rows, truth) for rows in (students, baselines))
    if said.shape != truth.shape or not len(own) or (len(before) and own.shape != before.shape):
        raise DataError(
            f"answers of shape {said.shape}, {own.shape} and {before.shape} and labels of {truth.shape} do not fit"
        )
    if group_names is not None and len(group_names) != len(truth):
        raise DataError(f"{len(group_names)} names of groups and {len(truth)} labels do not fit")
    rows = np.flatnonzero(said != truth)
    if not len(rows):
        return None
    repeated, alone = own[:, rows] == said[rows], before[:, rows] == said[rows]
    difference = p_value = share = None
    if len(before):
        together = None if groups is None else np.unique(np.asarray(groups)[rows], return_inverse=True)[1]
        share = float(alone.mean())
        found = crossed_difference(list(repeated), list(alone), groups=together)
        difference, p_value = found.interval(confidence), found.cautious_p_value
        if len(repeated) == 1 and together is None:
            p_value = mcnemar(repeated[0], alone[0]).p_value
    by_class = _parts(truth, classes, rows, repeated, alone)
    by_group: list[InheritedPart] = []
    if group_names is not None:
        names, place = np.unique([str(name) for name in group_names], return_inverse=True)
        by_group = _parts(place, names.tolist(), rows, repeated, alone)
    shown = p_value is not None and difference is not None and difference.excludes_zero and p_value < 1 - confidence
    sentence = _sentence(len(rows), float(repeated.mean()), share, shown=shown)
    return Inherited(
        len(rows), float(repeated.mean()), share, difference, p_value, tuple(by_class), tuple(by_group[:_MOST_GROUPS]),
        len(by_group), sentence,
    )  # fmt: skip


def _parts(
    place: NDArray[Any], names: Sequence[str], rows: NDArray[Any], repeated: NDArray[Any], alone: NDArray[Any]
) -> list[InheritedPart]:
    """The teacher's mistakes part by part, most mistakes first; ``place`` is the number of each example's part."""
    examples, mistakes = np.bincount(place, minlength=len(names)), np.bincount(place[rows], minlength=len(names))
    own, before = (
        np.bincount(place[rows], some.sum(0), len(names)) / len(some) if len(some) else None
        for some in (repeated, alone)
    )
    assert own is not None
    found = [
        InheritedPart(
            names[n], int(examples[n]), int(mistakes[n]), float(own[n]), None if before is None else float(before[n])
        )
        for n in np.flatnonzero(mistakes).tolist()
    ]
    return sorted(found, key=lambda row: -row.mistakes)


def _stacked(rows: Sequence[ArrayLike], truth: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(rows) if len(rows) else np.empty((0, *truth.shape), int)


def _sentence(mistakes: int, student: float, baseline: float | None, *, shown: bool) -> str:
    count = "one mistake" if mistakes == 1 else f"{mistakes:,} mistakes"
    said = f"Of the teacher's {count} the student repeats {100 * student:.0f} %"
    if baseline is None:
        return f"{said}."
    told = "no difference can be shown"
    if shown:
        told = "more than labels alone explain" if student > baseline else "fewer than labels alone"
    return f"{said}, the baseline {100 * baseline:.0f} %: {told}."
