"""Non-inferiority: whether a model is as good as another within a margin.

An insignificant difference is not equality: that needs an interval below a margin set in advance.
"""

__all__ = ["MarginVerdict", "Outcome", "checked_margin", "judge_margin"]

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.class_harm import ClassHarm, harm_by_class
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.statistics import Interval, by_seed
from limbeck.evaluation.verdicts import hedge, in_points, mean_errors, scope
from limbeck.options.checks import as_type

Outcome = Literal["as good", "worse", "cannot be said"]
"""The outcome of a non-inferiority test."""


@dataclass(frozen=True)
class MarginVerdict:
    """The verdict on a model's non-inferiority to its reference within a margin.

    Attributes:
        outcome: "as good": the interval's upper limit is below the margin. "worse": it is not, and the lower limit is
            above 0. "cannot be said": neither.
        margin: Largest number of points by which the error rate may be higher.
        judged_on: Which examples were evaluated on, "test" or "validation".
        examples: Number of examples.
        errors: Errors of the model, one per seed.
        reference_errors: Errors of its reference, one per seed.
        difference: Model's error rate minus the reference's, with the interval of 90 % whose limits are each passed by
            the true difference in 5 % of experiments.
        harm: Classes that lost against the reference; None without labels.
        sentence: The verdict in words.
    """

    outcome: Outcome
    margin: float
    judged_on: str
    examples: int
    errors: tuple[int, ...]
    reference_errors: tuple[int, ...]
    difference: Interval
    harm: ClassHarm | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        Returns:
            The attributes by name.
        """
        return {
            **asdict(self),
            "errors": list(self.errors),
            "reference_errors": list(self.reference_errors),
            "difference": self.difference.to_dict(),
            "harm": None if self.harm is None else self.harm.to_dict(),
        }


def checked_margin(margin: float) -> float:
    """Check a margin.

    Args:
        margin: Percentage points of the error rate.

    Returns:
        The margin.

    Raises:
        ConfigError: If it is not above 0 and below 100.

    Example:
        >>> checked_margin(0.5)
        0.5
    """
    margin = as_type("margin", margin, float)
    if not (math.isfinite(margin) and 0 < margin < 100):
        raise ConfigError(f"margin must be above 0 and below 100 percentage points, and is {margin}")
    return margin


def judge_margin(
    errors: Sequence[ArrayLike],
    reference_errors: Sequence[ArrayLike],
    margin: float,
    *,
    model: str = "student",
    reference: str = "teacher",
    judged_on: str = "test",
    groups: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    classes: Sequence[str] = (),
    alpha: float = 0.05,
    one_start: bool = False,
) -> MarginVerdict:
    """Test whether a model is as good as a reference within a margin, worse, or neither can be said.

    Both claims are one-sided with a chance of ``alpha`` of being false, so the interval has a confidence of
    ``1 - 2 * alpha``. A model can be as good within the margin and yet shown to be a little worse: the sentence says
    so.

    Args:
        errors: Where each model errs, bool ``(S, N)``, one row per seed.
        reference_errors: Where its reference errs; a reference that is one fixed model is given S times.
        margin: Percentage points of the error rate, above 0.
        model: Name of the model.
        reference: Name of the reference.
        judged_on: Which examples these are, "test" or "validation".
        groups: Which examples belong together, integers ``(N,)``; None: all are independent.
        labels: True classes ``(N,)``, to name classes that lost; None: classes are not tested.
        classes: Names of the classes.
        alpha: Chance of a false claim, in (0, 0.5).
        one_start: Whether all seeds began with the same initial weights, so that the claim is about these alone.

    Returns:
        The verdict.

    Raises:
        ConfigError: If the margin is not above 0 and below 100.
        DataError: If the errors are not of the same examples and seeds.

    Example:
        >>> test = np.arange(10_000)
        >>> print(judge_margin([test < 121], [(test > 30) & (test < 150)], 0.5))
        The student is as good as the teacher within 0.5 points: 121 test errors against 119 (90 % interval of the
        difference: 0.11 points fewer to 0.15 points more). This is about these two networks alone, on any such
        examples.
    """
    margin, alpha = checked_margin(margin), as_type("alpha", alpha, float)
    errors, reference_errors = by_seed(errors), by_seed(reference_errors)
    if len(errors) != len(reference_errors):
        raise DataError(f"got errors of {len(errors)} and of {len(reference_errors)} seeds: give one row per seed")
    found = crossed_difference(errors, reference_errors, groups=groups)
    difference = found.interval(1 - 2 * alpha)
    if 100 * difference.high < margin:
        outcome: Outcome = "as good"
    else:
        outcome = "worse" if difference.low > 0 else "cannot be said"
    own, other = _counts(errors), _counts(reference_errors)
    harm = (
        None
        if labels is None
        else harm_by_class(errors, reference_errors, labels, classes, groups=groups, reference=reference)
    )
    opening = {
        "as good": f"The {model} is as good as the {reference} within {margin:g} points",
        "worse": f"The {model} is worse than the {reference}",
        "cannot be said": f"Whether the {model} is as good as the {reference} within {margin:g} points cannot be said",
    }[outcome]
    if outcome == "as good" and difference.low > 0:
        opening += ", though worse"
    if 100 * difference.low > margin:
        opening += f" by more than {margin:g} points"
    sentence = (
        f"{opening}: {mean_errors(own)} {judged_on} errors{_over(len(own))} against {mean_errors(other)} "
        f"({difference.confidence * 100:g} % interval of the difference: {in_points(difference)}). "
        f"{scope(len(own), grouped=groups is not None, one_start=one_start)}{hedge(judged_on)}"
    )
    return MarginVerdict(outcome, margin, judged_on, found.examples, own, other, difference, harm, sentence)


def _over(seeds: int) -> str:
    return "" if seeds == 1 else f" on average over {seeds} seeds"


def _counts(errors: Sequence[ArrayLike]) -> tuple[int, ...]:
    return tuple(int(np.sum(row)) for row in errors)
