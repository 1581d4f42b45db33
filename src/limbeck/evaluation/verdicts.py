"""The verdict on a student: whether distillation helped, in a sentence that says what is shown and what is not.

Axes: ``S`` seeds, ``N`` examples.
"""

__all__ = [
    "Verdict", "both_needed", "hedge", "in_points", "judge", "judge_many", "judge_seeds", "mean_errors", "scope",
    "sentences",
]  # fmt: skip

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import DataError
from limbeck.evaluation.class_harm import ClassHarm, harm_by_class
from limbeck.evaluation.paired_intervals import CrossedDifference, crossed_difference
from limbeck.evaluation.sign_flips import sign_flip_test
from limbeck.evaluation.statistics import Interval, as_array, by_seed, holm, mcnemar, paired
from limbeck.options.checks import shown


@dataclass(frozen=True)
class Verdict:
    """Whether distillation helped, against the same network trained on labels alone, for one seed or several.

    Attributes:
        judged_on: Which examples were evaluated on, "test" or "validation".
        examples: Number of examples, N.
        student_errors: Errors of each student, one per seed.
        baseline_errors: Errors of each baseline, in the same order.
        only_student: Errors that only the student of a pair makes, over all seeds.
        only_baseline: Errors that only the baseline of a pair makes, over all seeds.
        difference: Student's error rate minus the baseline's, mean over seeds, with its interval.
        relative_reduction: Relative reduction of the baselines' errors, negative where there are more; None where they
            make none.
        p_value: Of the same difference, two-sided: see :func:`judge` and :func:`judge_seeds`.
        helped: True or False where the interval excludes 0 and the p-value is small enough, else None.
        harm: Classes that lost, and those that gained; None where labels were not given.
        sentence: The verdict in words; classes that lost have a sentence of their own in ``harm``.
    """

    judged_on: str
    examples: int
    student_errors: tuple[int, ...]
    baseline_errors: tuple[int, ...]
    only_student: int
    only_baseline: int
    difference: Interval
    relative_reduction: float | None
    p_value: float
    helped: bool | None
    harm: ClassHarm | None
    sentence: str

    def __str__(self) -> str:
        return "\n".join([self.sentence, *([self.harm.sentence] if self.harm and self.harm.sentence else [])])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        Returns:
            The attributes by name.
        """
        return {
            **asdict(self),
            "student_errors": list(self.student_errors),
            "baseline_errors": list(self.baseline_errors),
            "difference": self.difference.to_dict(),
            "harm": None if self.harm is None else self.harm.to_dict(),
        }


def judge(
    student_errors: ArrayLike,
    baseline_errors: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    classes: Sequence[str] = (),
    judged_on: str = "test",
    confidence: float = 0.95,
    seed: int = 0,
) -> Verdict:
    """Compare a student with its baseline on the same examples: a claim about these two networks.

    A difference counts as shown only where Tango's interval excludes 0 and McNemar's exact p-value is below
    ``1 - confidence``. The interval is McNemar's test without the exactness, so the p-value decides where there are few
    discordant examples. Of examples in groups, the interval is over groups, and the p-value that of flipped signs.

    Args:
        student_errors: Where the student errs, bool ``(N,)``.
        baseline_errors: Where the same network trained on labels alone errs, bool ``(N,)``.
        groups: Which examples belong together (the utterance of a frame), integers ``(N,)``; None: all are independent.
        labels: True classes ``(N,)``, to name classes that lost; None: classes are not tested.
        classes: Names of the classes.
        judged_on: Which examples these are, "test" or "validation".
        confidence: Of the interval, in (0, 1).
        seed: Seed of the flipped signs.

    Returns:
        The verdict; it may be that distillation did not help.

    Raises:
        DataError: If the arguments do not fit each other.

    Example:
        >>> test = np.arange(10_000)
        >>> print(judge(test < 117, test < 168))
        Distillation helped: 117 test errors against 168 for the same network trained on labels alone,
        30 % fewer (95 % interval of the difference: 0.39 to 0.67 points fewer; McNemar p = 9e-16). This is about these
        two networks alone, on any such examples.
    """
    student_errors, baseline_errors = paired(student_errors, baseline_errors)
    groups = None if groups is None else as_array(groups)
    found = crossed_difference([student_errors], [baseline_errors], groups=groups)
    if groups is None:
        p_value = mcnemar(student_errors, baseline_errors).p_value
        said = f"McNemar p = {_p(p_value)}"
    else:
        p_value = sign_flip_test(student_errors, baseline_errors, groups, seed=seed)
        said = f"p = {_p(p_value)} by flipped signs over {found.units} groups of examples"
    harm = _harm([student_errors], [baseline_errors], labels, classes, groups, confidence)
    return _verdict(found, [student_errors], [baseline_errors], p_value, said, judged_on, confidence, harm)


def judge_seeds(
    student_errors: Sequence[ArrayLike],
    baseline_errors: Sequence[ArrayLike],
    *,
    groups: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    classes: Sequence[str] = (),
    judged_on: str = "test",
    confidence: float = 0.95,
    one_start: bool = False,
) -> Verdict:
    """Compare students with their baselines over several seeds, pair by pair: a claim about trainings like these.

    Seeds and examples (or groups) are crossed, and the interval holds the chance of both: it is about further trainings
    and further examples. See :class:`~limbeck.evaluation.paired_intervals.CrossedDifference`, whose p-value this is.

    Args:
        student_errors: Where each student errs, bool ``(N,)`` per seed, at least two seeds.
        baseline_errors: Where each baseline errs, in the same order of seeds.
        groups: Which examples belong together (the utterance of a frame), integers ``(N,)``; None: all are independent.
        labels: True classes ``(N,)``, to name classes that lost; None: classes are not tested.
        classes: Names of the classes.
        judged_on: Which examples these are, "test" or "validation".
        confidence: Of the interval, in (0, 1).
        one_start: Whether all seeds began with the same initial weights, so that the claim is about these alone.

    Returns:
        The verdict over all seeds.

    Raises:
        DataError: If there are fewer than two seeds, or the numbers of seeds or of examples differ.

    Example:
        >>> test = np.arange(10_000)
        >>> print(judge_seeds([test < 117, test < 120, test < 122], [test < 168, test < 160, test < 171]))
        Distillation helped: 119.7 test errors on average over 3 seeds against 166.3 for the same networks
        trained on labels alone, 28 % fewer (95 % interval of the difference: 0.30 to 0.66 points fewer;
        p = 0.0028).
        This is about any such trainings and examples.
    """
    student_errors, baseline_errors = by_seed(student_errors), by_seed(baseline_errors)
    if 0 < len(student_errors) < 2:
        raise DataError("a verdict over seeds needs at least 2, and was given 1: use judge for one")
    found = crossed_difference(student_errors, baseline_errors, groups=groups)
    harm = _harm(student_errors, baseline_errors, labels, classes, groups, confidence)
    said = f"p = {_p(found.p_value)}"
    return _verdict(
        found, student_errors, baseline_errors, found.p_value, said, judged_on, confidence, harm, one_start=one_start
    )


def judge_many(
    students: Mapping[str, Sequence[ArrayLike]],
    baseline_errors: Sequence[ArrayLike],
    *,
    groups: ArrayLike | None = None,
    judged_on: str = "test",
    confidence: float = 0.95,
) -> dict[str, Verdict]:
    """Compare several kinds of students with one baseline, p-values adjusted by Holm for their number.

    The more students are compared, the likelier one looks better by chance. A difference counts as shown where the
    interval excludes 0 and the adjusted p-value is below ``1 - confidence``; the intervals themselves are not widened.

    Args:
        students: Where the students of each kind err, bool ``(S, N)``, by name.
        baseline_errors: Where the baselines err, in the same order of seeds.
        groups: Which examples belong together, integers ``(N,)``; None: all are independent.
        judged_on: Which examples these are, "test" or "validation".
        confidence: Of the intervals, in (0, 1).

    Returns:
        A verdict per kind, by name.

    Raises:
        DataError: If the numbers of seeds or of examples differ.

    Example:
        >>> test = np.arange(1000)
        >>> found = judge_many({"dist": [test < 50], "dkd": [test < 53]}, [test < 60])
        >>> {name: (round(verdict.p_value, 4), verdict.helped) for name, verdict in found.items()}
        {'dist': (0.0039, True), 'dkd': (0.0156, True)}
    """
    if not isinstance(students, Mapping):
        raise DataError(f"students must be a mapping of names to errors, one row per seed, and are {shown(students)}")
    students, baseline_errors = {name: by_seed(each) for name, each in students.items()}, by_seed(baseline_errors)
    alone = {
        name: judge(errors[0], baseline_errors[0], groups=groups, judged_on=judged_on, confidence=confidence)
        if len(errors) == len(baseline_errors) == 1
        else judge_seeds(errors, baseline_errors, groups=groups, judged_on=judged_on, confidence=confidence)
        for name, errors in students.items()
    }
    adjusted = holm(
        [
            verdict.p_value
            if len(baseline_errors) == 1
            else crossed_difference(students[name], baseline_errors, groups=groups).cautious_p_value
            for name, verdict in alone.items()
        ]
    )
    return {
        name: _adjusted(verdict, float(p_value), len(alone), grouped=groups is not None)
        for (name, verdict), p_value in zip(alone.items(), adjusted, strict=True)
    }


def sentences(metrics: Mapping[str, Any]) -> list[str]:
    """The sentences of the verdicts in a run's metrics.

    Args:
        metrics: The contents of ``metrics.json``.

    Returns:
        The sentences of the verdict, of the margin's verdict and of their classes, and of the teacher's mistakes,
        those that are there.

    Example:
        >>> sentences({"verdict": {"sentence": "It helped.", "harm": {"sentence": "One class lost."}}, "margin": None})
        ['It helped.', 'One class lost.']
    """
    found = []
    for name in ("verdict", "margin"):
        verdict = metrics.get(name)
        if isinstance(verdict, Mapping):
            harm = verdict.get("harm")
            found += [verdict.get("sentence"), harm.get("sentence") if isinstance(harm, Mapping) else None]
    inherited = metrics.get("inherited")
    if isinstance(inherited, Mapping):
        found.append(inherited.get("sentence"))
    return [str(sentence) for sentence in found if sentence]


def scope(seeds: int, *, grouped: bool = False, one_start: bool = False) -> str:
    """A sentence on the scope of a claim.

    Args:
        seeds: S, trainings that were compared.
        grouped: Whether groups of examples were drawn.
        one_start: Whether all trainings began with the same initial weights.

    Returns:
        The sentence.

    Example:
        >>> scope(3)
        'This is about any such trainings and examples.'
    """
    examples = "groups of examples" if grouped else "examples"
    if seeds == 1:
        return f"This is about these two networks alone, on any such {examples}."
    if one_start:
        return (
            f"This is about trainings from these same initial weights, which differ only in order, views and dropout, "
            f"and any such {examples}."
        )
    return f"This is about any such trainings and {examples}."


def both_needed(interval: Interval) -> str:
    """Why a difference is not shown although its interval excludes 0, as a sentence after a space; else empty.

    Args:
        interval: Of a difference that is not shown.

    Returns:
        The sentence, or an empty text.

    Example:
        >>> both_needed(Interval(0.002, 0.001, 0.003, 0.95))
        ' The interval excludes 0, but a difference counts as shown only if the p-value is below 0.05 too.'
        >>> both_needed(Interval(0.002, -0.001, 0.005, 0.95))
        ''
    """
    if not interval.excludes_zero:
        return ""
    return (
        f" The interval excludes 0, but a difference counts as shown only if the p-value is below "
        f"{1 - interval.confidence:.2g} too."
    )


def hedge(judged_on: str) -> str:
    """A caveat where the evaluation is on validation, as a sentence after a space; else empty.

    Args:
        judged_on: "test" or "validation".

    Returns:
        The sentence, or an empty text.

    Example:
        >>> hedge("test")
        ''
    """
    if judged_on != "validation":
        return ""
    return " Validation may also have chosen the epoch that was kept, and then the errors look fewer than they are."


def mean_errors(errors: Sequence[int]) -> str:
    """Mean number of errors, as text.

    Args:
        errors: One number per seed.

    Returns:
        With one decimal where it is not whole.

    Example:
        >>> mean_errors((117, 120, 122)), mean_errors((4, 6))
        ('119.7', '5')
    """
    return f"{sum(errors) / len(errors):.1f}".removesuffix(".0")


def in_points(interval: Interval) -> str:
    """The limits of an interval as percentage points, in words rather than signs.

    Args:
        interval: Of a difference of error rates.

    Returns:
        The words.

    Example:
        >>> in_points(Interval(-0.003, -0.005, 0.001, 0.95))
        '0.50 points fewer to 0.10 points more'
    """
    low, high = 100 * interval.low, 100 * interval.high
    if high < 0:
        return f"{-high:.2f} to {-low:.2f} points fewer"
    if low > 0:
        return f"{low:.2f} to {high:.2f} points more"
    return f"{-low + 0.0:.2f} points fewer to {high:.2f} points more"


def _verdict(
    found: CrossedDifference,
    students: Sequence[ArrayLike],
    baselines: Sequence[ArrayLike],
    p_value: float,
    said: str,
    judged_on: str,
    confidence: float,
    harm: ClassHarm | None,
    *,
    one_start: bool = False,
) -> Verdict:
    interval = found.interval(confidence)
    shown = interval.excludes_zero and p_value < 1 - confidence
    cells = found.seeds * found.examples
    first, second = (tuple(int(np.sum(errors)) for errors in way) for way in (students, baselines))
    verdict = Verdict(
        judged_on,
        found.examples,
        first,
        second,
        round(found.rates[0] * cells),
        round(found.rates[1] * cells),
        interval,
        _reduction(first, second),
        p_value,
        interval.estimate < 0 if shown else None,
        harm,
        "",
    )
    return dataclasses.replace(verdict, sentence=_sentence(verdict, said, grouped=found.grouped, one_start=one_start))


def _adjusted(verdict: Verdict, p_value: float, students: int, *, grouped: bool) -> Verdict:
    """The verdict with a p-value adjusted for the number of students."""
    shown = verdict.difference.excludes_zero and p_value < 1 - verdict.difference.confidence
    changed = dataclasses.replace(verdict, p_value=p_value, helped=verdict.difference.estimate < 0 if shown else None)
    said = f"p = {_p(p_value)}, adjusted for {students} students"
    return dataclasses.replace(changed, sentence=_sentence(changed, said, grouped=grouped))


def _harm(
    students: Sequence[ArrayLike],
    baselines: Sequence[ArrayLike],
    labels: ArrayLike | None,
    classes: Sequence[str],
    groups: ArrayLike | None,
    confidence: float,
) -> ClassHarm | None:
    if labels is None:
        return None
    return harm_by_class(students, baselines, labels, classes, groups=groups, confidence=confidence)


def _sentence(verdict: Verdict, said: str, *, grouped: bool, one_start: bool = False) -> str:
    opening = {
        True: "Distillation helped",
        False: "Distillation did not help, it made things worse",
        None: "No difference can be shown",
    }[verdict.helped]
    seeds, interval = len(verdict.student_errors), verdict.difference
    over, plural = ("", "") if seeds == 1 else (f" on average over {seeds} seeds", "s")
    change = ""
    if verdict.helped is not None and verdict.relative_reduction is not None:
        reduction = verdict.relative_reduction
        change = f", {abs(reduction) * 100:.0f} % {'fewer' if reduction > 0 else 'more'}"
    doubt = both_needed(interval) if verdict.helped is None else ""
    return (
        f"{opening}: {mean_errors(verdict.student_errors)} {verdict.judged_on} errors{over} against "
        f"{mean_errors(verdict.baseline_errors)} for the same network{plural} trained on labels alone{change} "
        f"({interval.confidence * 100:g} % interval of the difference: {in_points(interval)}; {said}).{doubt} "
        f"{scope(seeds, grouped=grouped, one_start=one_start)}{hedge(verdict.judged_on)}"
    )


def _reduction(students: Sequence[int], baselines: Sequence[int]) -> float | None:
    return None if sum(baselines) == 0 else (sum(baselines) - sum(students)) / sum(baselines)


def _p(p_value: float) -> str:
    if p_value >= 0.001:
        return f"{p_value:.2g}"
    if p_value < 1e-300:
        return "below 1e-300"
    mantissa, exponent = f"{p_value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"
