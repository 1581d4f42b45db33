"""Whether a difference is more than chance: paired tests, intervals, and the verdict on a student.

Two models are compared on the same examples, so everything here is paired. Examples are taken to be
independent, unless it is said which belong together: frames of one utterance are alike, and then it is utterances that
are drawn.
"""

__all__ = [
    "Interval",
    "McNemar",
    "SeedsVerdict",
    "Verdict",
    "bootstrap_difference",
    "judge",
    "judge_seeds",
    "mcnemar",
    "mean_interval",
]

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.clusters import bootstrap_groups, sign_flip_test
from limbeck.errors import DataError


@dataclass(frozen=True)
class Interval:
    """An estimate and a range that holds the true value in a given share of experiments.

    Attributes:
        estimate: The best single value.
        low: Lower limit; minus infinity where nothing is known.
        high: Upper limit; infinity where nothing is known.
        confidence: That share, in (0, 1).
    """

    estimate: float
    low: float
    high: float
    confidence: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole range lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON.

        Returns:
            The attributes by name; an infinite limit becomes None.
        """
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class McNemar:
    """Outcome of McNemar's test.

    Attributes:
        only_a: Examples that only the first model gets wrong.
        only_b: Examples that only the second model gets wrong.
        p_value: Chance of a split at least as uneven if both were equally good, two-sided.
    """

    only_a: int
    only_b: int
    p_value: float


def mcnemar(errors_a: ArrayLike, errors_b: ArrayLike) -> McNemar:
    r"""McNemar's exact test of whether two models err equally often.

    Only examples on which exactly one model errs tell the two apart. If both are equally good, that one is
    either model with probability 1/2, so with :math:`n` such examples and :math:`k` of them the rarer sort

    .. math::
        p = \min\Bigl(1, \; 2 \sum_{i=0}^{k} \binom{n}{i} 2^{-n}\Bigr)

    Args:
        errors_a: Where the first model errs, bool ``(N,)``.
        errors_b: Where the second model errs, for the same examples, bool ``(N,)``.

    Returns:
        Both counts and the p-value.

    References:
        McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
        Psychometrika, 1947.

    Example:
        >>> mcnemar([True, True, True, False], [False, False, False, False])
        McNemar(only_a=3, only_b=0, p_value=0.25)
    """
    from scipy.special import bdtr

    only_a, only_b, _ = _discordant(errors_a, errors_b)
    p_value = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a != only_b else 1.0
    return McNemar(only_a, only_b, p_value)


def bootstrap_difference(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the difference of two error rates, ``a - b``, on the same examples.

    An example contributes -1, 0 or 1 to the difference, so drawing N examples with replacement is one draw
    from a multinomial distribution over these three: the same bootstrap, without touching the examples again.

    Args:
        errors_a: Where the first model errs, bool ``(N,)``.
        errors_b: Where the second model errs, for the same examples, bool ``(N,)``.
        resamples: How many sets of examples are drawn, at least 1.
        confidence: Share of the draws inside the interval, in (0, 1).
        seed: Seed of the draws.

    Returns:
        The difference as a share of the examples, negative where ``a`` errs less often.

    Raises:
        DataError: If shapes differ, there are no examples, or an argument is out of its range.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Example:
        >>> worse, better = np.arange(1000) < 60, np.arange(1000) < 30
        >>> interval = bootstrap_difference(better, worse)
        >>> interval.estimate, interval.excludes_zero
        (-0.03, True)
    """
    only_a, only_b, count = _discordant(errors_a, errors_b)
    if resamples < 1:
        raise DataError(f"resamples must be at least 1, and is {resamples}")
    tail = (1 - _checked_confidence(confidence)) / 2
    shares = np.array([only_a, only_b, count - only_a - only_b]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, resamples)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / count, [tail, 1 - tail])
    return Interval((only_a - only_b) / count, float(low), float(high), confidence)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    r"""Student's t interval of a mean over a few seeds.

    .. math::
        \bar v \pm t_{n-1} \; s / \sqrt{n}

    Args:
        values: One value a seed, ``(n,)``.
        confidence: Share of experiments whose interval holds the true mean, in (0, 1).

    Returns:
        The mean and its interval; of one value the limits are infinite, for nothing is known of the spread.

    Raises:
        DataError: If there are no values, one is not finite, or ``confidence`` is out of its range.

    Example:
        >>> interval = mean_interval([1.0, 2.0, 3.0])
        >>> round(interval.low, 3), round(interval.high, 3)
        (-0.484, 4.484)
    """
    from scipy.special import stdtrit

    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise DataError(f"a mean needs at least one value, all finite, on one axis, and was given {values!r}")
    tail = (1 - _checked_confidence(confidence)) / 2
    mean, count = float(array.mean()), len(array)
    if count == 1:
        return Interval(mean, -math.inf, math.inf, confidence)
    half = float(stdtrit(count - 1, 1 - tail) * array.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, confidence)


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
    pairs = [_paired(a, b) for a, b in zip(student_errors, baseline_errors, strict=True)]
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


def _paired(errors_a: ArrayLike, errors_b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = np.asarray(errors_a), np.asarray(errors_b)
    if a.dtype != np.bool_ or b.dtype != np.bool_:
        raise DataError(f"errors must be arrays of bool, one value an example, and are {a.dtype} and {b.dtype}")
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise DataError(f"errors must be of the same examples, at least one, and have shapes {a.shape} and {b.shape}")
    return a, b


def _discordant(errors_a: ArrayLike, errors_b: ArrayLike) -> tuple[int, int, int]:
    a, b = _paired(errors_a, errors_b)
    return int((a & ~b).sum()), int((b & ~a).sum()), len(a)


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise DataError(f"confidence must be in (0, 1), and is {confidence}")
    return confidence
