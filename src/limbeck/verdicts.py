"""The verdict on a student: whether distillation helped, in a sentence that says what is shown and what is not."""

__all__ = ["SeedsVerdict", "Verdict", "judge", "judge_seeds"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.clusters import bootstrap_groups, sign_flip_test
from limbeck.errors import DataError
from limbeck.statistics import Interval, bootstrap_difference, mcnemar, mean_interval, paired


@dataclass(frozen=True)
class Verdict:
    """Whether distillation helped one student, against the same network trained on labels alone.

    Attributes:
        examples: Test examples, N.
        student_errors: How many the student gets wrong.
        baseline_errors: How many the baseline gets wrong.
        only_student: How many only the student gets wrong.
        only_baseline: How many only the baseline gets wrong.
        difference: Student's error rate minus the baseline's, with its bootstrap interval.
        relative_reduction: Share of the baseline's errors that went away, negative where there are more; None
            where the baseline makes none.
        p_value: McNemar's exact test; of examples in groups, the test of flipped signs over groups.
        helped: True or False where the interval excludes 0 and the test agrees, else None.
        sentence: All this in words.
    """

    examples: int
    student_errors: int
    baseline_errors: int
    only_student: int
    only_baseline: int
    difference: Interval
    relative_reduction: float | None
    p_value: float
    helped: bool | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        Returns:
            The attributes by name.
        """
        return asdict(self) | {"difference": self.difference.to_dict()}


def judge(
    student_errors: ArrayLike,
    baseline_errors: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Verdict:
    """Compare a student with its baseline on the same test examples.

    A difference counts as shown only where the bootstrap interval excludes 0 and McNemar's exact p-value is
    below ``1 - confidence``: with a handful of errors the percentile bootstrap alone is too hopeful.

    Args:
        student_errors: Where the student errs, bool ``(N,)``.
        baseline_errors: Where the same network trained on labels alone errs, bool ``(N,)``.
        groups: Which examples belong together (the utterance of a frame), integers ``(N,)``; None: each is by itself.
        resamples: Draws of the bootstrap.
        confidence: Of the interval, in (0, 1).
        seed: Seed of the bootstrap.

    Returns:
        The verdict; it may be that distillation did not help.

    Example:
        >>> test = np.arange(10_000)
        >>> print(judge(test < 117, test < 168))
        Distillation helped: 117 test errors against 168 for the same network trained on labels alone,
        30 % fewer (95 % interval of the difference: 0.3... to 0.6... points fewer; McNemar p = 9e-16).
    """
    test = mcnemar(student_errors, baseline_errors)
    p_value, said = test.p_value, f"McNemar p = {_p(test.p_value)}"
    if groups is None:
        interval = bootstrap_difference(
            student_errors, baseline_errors, resamples=resamples, confidence=confidence, seed=seed
        )
    else:
        limits = bootstrap_groups(
            student_errors, baseline_errors, groups, resamples=resamples, confidence=confidence, seed=seed
        )
        interval = Interval(*limits, confidence)
        p_value = sign_flip_test(student_errors, baseline_errors, groups, resamples=resamples, seed=seed)
        said = f"p = {_p(p_value)} by flipped signs over {len(np.unique(groups))} utterances"
    student, baseline = int(np.sum(student_errors)), int(np.sum(baseline_errors))
    shown = interval.excludes_zero and p_value < 1 - confidence
    helped = interval.estimate < 0 if shown else None
    sentence = _sentence(
        helped,
        f"{student} test errors",
        str(baseline),
        _share(student, baseline),
        interval,
        said,
    )
    return Verdict(
        len(np.asarray(student_errors)),
        student,
        baseline,
        test.only_a,
        test.only_b,
        interval,
        _reduction(student, baseline),
        p_value,
        helped,
        sentence,
    )


@dataclass(frozen=True)
class SeedsVerdict:
    """Whether distillation helped, over several pairs of trainings that differ by their seed.

    Attributes:
        examples: Test examples, N, the same for every seed.
        student_errors: Errors of each student.
        baseline_errors: Errors of each baseline, in the same order of seeds.
        difference: Mean over seeds of student's minus baseline's error rate, with its t interval.
        relative_reduction: Share of the baselines' errors that went away, or None where they make none.
        helped: True or False where the interval excludes 0, else None.
        sentence: All this in words.
    """

    examples: int
    student_errors: tuple[int, ...]
    baseline_errors: tuple[int, ...]
    difference: Interval
    relative_reduction: float | None
    helped: bool | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        Returns:
            The attributes by name.
        """
        lists = {name: list(getattr(self, name)) for name in ("student_errors", "baseline_errors")}
        return asdict(self) | lists | {"difference": self.difference.to_dict()}


def judge_seeds(
    student_errors: Sequence[ArrayLike], baseline_errors: Sequence[ArrayLike], *, confidence: float = 0.95
) -> SeedsVerdict:
    """Compare students with their baselines over several seeds, pair by pair.

    The interval is of the mean difference over seeds on this test set: it holds the chance of training, not
    that of drawing the test set. Where all seeds give the very same difference the spread is unknown, and
    nothing is shown.

    Args:
        student_errors: Where each student errs, bool ``(N,)`` a seed, at least two seeds.
        baseline_errors: Where each baseline errs, in the same order of seeds.
        confidence: Of the interval, in (0, 1).

    Returns:
        The verdict over all seeds.

    Raises:
        DataError: If there are fewer than two seeds, or the numbers of seeds or of examples differ.

    Example:
        >>> test = np.arange(10_000)
        >>> print(judge_seeds([test < 117, test < 120, test < 122], [test < 168, test < 160, test < 171]))
        Distillation helped: 119.7 test errors on average over 3 seeds against 166.3 for the same networks
        trained on labels alone, 28 % fewer (95 % interval of the difference: 0.32 to 0.61 points fewer).
    """
    if len(student_errors) != len(baseline_errors):
        raise DataError(f"got {len(student_errors)} students and {len(baseline_errors)} baselines: pair them by seed")
    if len(student_errors) < 2:
        raise DataError(
            f"a verdict over seeds needs at least 2, and was given {len(student_errors)}: use judge for one"
        )
    pairs = [paired(a, b) for a, b in zip(student_errors, baseline_errors, strict=True)]
    sizes = {len(a) for a, _ in pairs}
    if len(sizes) != 1:
        raise DataError(f"seeds were tested on different numbers of examples, {sorted(sizes)}: use one test set")
    examples = sizes.pop()
    students = tuple(int(a.sum()) for a, _ in pairs)
    baselines = tuple(int(b.sum()) for _, b in pairs)
    differences = [a - b for a, b in zip(students, baselines, strict=True)]
    in_counts = mean_interval(differences, confidence)
    interval = Interval(in_counts.estimate / examples, in_counts.low / examples, in_counts.high / examples, confidence)
    shown = interval.excludes_zero and len(set(differences)) > 1
    helped = interval.estimate < 0 if shown else None
    student, baseline = sum(students), sum(baselines)
    seeds = len(pairs)
    sentence = _sentence(
        helped,
        f"{_mean(student, seeds)} test errors on average over {seeds} seeds",
        _mean(baseline, seeds),
        _share(student, baseline),
        interval,
        plural="s",
    )
    return SeedsVerdict(examples, students, baselines, interval, _reduction(student, baseline), helped, sentence)


def _mean(total: int, seeds: int) -> str:
    return f"{total / seeds:.1f}".removesuffix(".0")


def _sentence(
    helped: bool | None,
    student: str,
    baseline: str,
    share: str,
    interval: Interval,
    *more: str,
    plural: str = "",
) -> str:
    opening = {
        True: "Distillation helped",
        False: "Distillation did not help, it made things worse",
        None: "No difference can be shown",
    }[helped]
    details = "; ".join([f"{interval.confidence * 100:g} % interval of the difference: {_points(interval)}", *more])
    change = share if helped is not None else ""
    rival = f"{baseline} for the same network{plural} trained on labels alone"
    return f"{opening}: {student} against {rival}{change} ({details})."


def _points(interval: Interval) -> str:
    # The limits as percentage points, in words rather than signs.
    low, high = 100 * interval.low, 100 * interval.high
    if high < 0:
        return f"{-high:.2f} to {-low:.2f} points fewer"
    if low > 0:
        return f"{low:.2f} to {high:.2f} points more"
    return f"{-low + 0.0:.2f} points fewer to {high:.2f} points more"


def _share(student: int, baseline: int) -> str:
    reduction = _reduction(student, baseline)
    if reduction is None:
        return ""
    return f", {abs(reduction) * 100:.0f} % {'fewer' if reduction > 0 else 'more'}"


def _reduction(student: int, baseline: int) -> float | None:
    return None if baseline == 0 else (baseline - student) / baseline


def _p(p_value: float) -> str:
    if p_value >= 0.001:
        return f"{p_value:.2g}"
    mantissa, exponent = f"{p_value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"
