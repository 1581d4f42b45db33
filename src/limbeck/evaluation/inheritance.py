"""Which of a teacher's mistakes its student repeats, and whether it repeats more of them than labels alone would.

Two networks that learn from the same data make many of the same mistakes anyway, on examples that are hard or wrongly
labelled. What a student inherits is therefore what it repeats beyond the same network trained on labels alone.

Axes: ``S`` seeds, ``N`` examples, ``K`` classes.
"""

__all__ = ["ClassInheritance", "Inherited", "inherited_mistakes"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import DataError
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.statistics import Interval, mcnemar


@dataclass(frozen=True)
class ClassInheritance:
    """The teacher's mistakes on the examples of one true class.

    Attributes:
        name: The class.
        mistakes: How many the teacher makes.
        student: How many of them the student repeats, mean over seeds.
        baseline: How many the baseline repeats, mean over seeds; None where there is none.
    """

    name: str
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
        sentence: In words.
    """

    mistakes: int
    student: float
    baseline: float | None
    difference: Interval | None
    p_value: float | None
    by_class: tuple[ClassInheritance, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "by_class": [asdict(row) for row in self.by_class]}


def inherited_mistakes(
    teacher: ArrayLike,
    students: Sequence[ArrayLike],
    baselines: Sequence[ArrayLike],
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    groups: ArrayLike | None = None,
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
    by_class = []
    for number in np.unique(truth[rows]):
        here = truth[rows] == number
        few = None if share is None else float(alone[:, here].sum(1).mean())
        by_class.append(ClassInheritance(classes[number], int(here.sum()), float(repeated[:, here].sum(1).mean()), few))
    by_class.sort(key=lambda row: -row.mistakes)
    shown = p_value is not None and difference is not None and difference.excludes_zero and p_value < 1 - confidence
    sentence = _sentence(len(rows), float(repeated.mean()), share, shown=shown)
    return Inherited(len(rows), float(repeated.mean()), share, difference, p_value, tuple(by_class), sentence)


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
