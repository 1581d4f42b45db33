r"""Intervals for the difference of two error rates on the same examples: of one pair of models, and over seeds.

Over seeds there are two samples, crossed: the examples (or groups of examples) and the pairs of trainings. With
:math:`d_{se} \in \{-1, 0, 1\}` the first model's error less the second's, for the pair of seed s on example e, the mean
:math:`\bar d` has variance

.. math::
    \mathrm{var}(\bar d) = v_S / S + v_E / E + v_{SE} / (S E)

and a claim about trainings and examples that were not drawn needs all three.

Axes: ``S`` seeds, ``N`` examples, ``G`` groups.
"""

__all__ = ["CrossedDifference", "crossed_difference", "tango_interval"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import DataError
from limbeck.evaluation.mean_squares import mean_squares, normal_quantile, squared_distance, t_quantile
from limbeck.evaluation.statistics import Interval, as_array, by_seed, checked_confidence, paired


def tango_interval(only_a: float, only_b: float, examples: float, *, confidence: float = 0.95) -> Interval:
    r"""Tango's score interval for the difference of two error rates on the same examples, ``a - b``.

    It holds the differences :math:`\Delta` that the score test does not reject,

    .. math::
        \frac{(b - c - n \Delta)^2}{n \, (2 \tilde q + \Delta (1 - \Delta))} \le z^2

    where :math:`\tilde q` is the maximum-likelihood probability of the second kind of discordance under
    :math:`\Delta`. At :math:`\Delta = 0` this is McNemar's test without correction. It keeps its coverage with few
    discordant examples, and is not of zero width without any.

    Args:
        only_a: b, how many examples only the first model gets wrong.
        only_b: c, how many only the second gets wrong.
        examples: n, at least ``only_a + only_b``.
        confidence: Share of experiments whose interval holds the true difference, in (0, 1).

    Returns:
        The difference as a share of the examples, and its limits in [-1, 1].

    Raises:
        DataError: If the counts do not fit each other, or ``confidence`` is out of its range.

    References:
        Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design, Statistics in Medicine, 1998.

    Example:
        >>> interval = tango_interval(1, 7, 21)
        >>> round(interval.low, 4), round(interval.high, 4)
        (-0.5172, -0.026)
    """
    if not (only_a >= 0 and only_b >= 0 and only_a + only_b <= examples and 0 < examples < math.inf):
        raise DataError(
            f"counts of discordant examples must be at least 0 and together at most the number of examples, and are "
            f"{only_a} and {only_b} of {examples}"
        )
    z = normal_quantile((1 - checked_confidence(confidence)) / 2)
    rates, estimate = (only_a / examples, only_b / examples), (only_a - only_b) / examples
    low, high = _limits(estimate, lambda delta: z * z * _restricted_variance(*rates, delta) / examples)
    return Interval(estimate, low, high, confidence)


@dataclass(frozen=True)
class CrossedDifference:
    """The mean difference of error rates over seeds and examples, with the parts of its variance.

    Attributes:
        estimate: Mean of the first model's error rate less the second's.
        seeds: S, pairs of trainings.
        examples: N.
        units: What was drawn: the examples, or the G groups of examples.
        grouped: Whether the units are groups.
        told_apart: Units on which the two models differ, over all seeds.
        rates: Shares of examples that only the first, and only the second model gets wrong, mean over seeds.
        seed_variance: Estimate of :math:`v_S / S + v_{SE} / (S E)`, with S - 1 degrees of freedom; 0 for one seed.
        interaction: Estimate of the latter of the two by itself, with many degrees of freedom; 0 for one seed.
        example_share: Estimate of :math:`v_E / E` as a share of the variance that one pair of models has on as many
            independent examples; above 1 where examples of a group err alike, and never below what one example (or
            group) adds.
    """

    estimate: float
    seeds: int
    examples: int
    units: int
    grouped: bool
    told_apart: int
    rates: tuple[float, float]
    seed_variance: float
    interaction: float
    example_share: float

    def interval(self, confidence: float = 0.95) -> Interval:
        r"""The interval of the mean difference, over trainings and examples alike; of one seed, over examples.

        It holds each :math:`\Delta` with

        .. math::
            |\bar d - \Delta| \le \frac{t_{S-1} U + z K(\Delta)}{U + K(\Delta)} \sqrt{U + K(\Delta)}

        where U is the seeds' part of the variance and K the examples', the latter at :math:`\Delta` as in Tango's
        interval: see :func:`~limbeck.evaluation.mean_squares.squared_distance`. Of groups, z becomes
        :math:`t_{G-1}`. For one seed and single examples it is Tango's interval.

        Args:
            confidence: Share of experiments whose interval holds the true difference, in (0, 1).

        Returns:
            The difference as a share of the examples, and its limits in [-1, 1].

        Example:
            >>> same = crossed_difference([[False] * 1000] * 3, [[False] * 1000] * 3)
            >>> round(same.interval().high, 5)
            0.00383
        """
        of_seeds, of_examples = self._quantiles((1 - checked_confidence(confidence)) / 2)

        def allowed(delta: float) -> float:
            return self._allowed(delta, of_seeds, of_examples)

        return Interval(self.estimate, *_limits(self.estimate, allowed), confidence)

    def contains(self, delta: float, confidence: float = 0.95) -> bool:
        """Whether the interval holds a difference, without looking for its limits.

        Args:
            delta: The difference, in [-1, 1].
            confidence: Of the interval, in (0, 1).

        Returns:
            True or False.

        Example:
            >>> crossed_difference([[True] * 8 + [False] * 92], [[False] * 100]).contains(0.0)
            False
        """
        tail = (1 - checked_confidence(confidence)) / 2
        return (delta - self.estimate) ** 2 <= self._allowed(delta, *self._quantiles(tail))

    @property
    def p_value(self) -> float:
        """One minus the largest confidence at which the interval excludes 0, two-sided.

        It is never below what flipping the signs of the units on which the models differ could give, ``2 ** (1 - n)``
        for n of them: a handful of examples proves nothing, whatever the number of seeds.

        Returns:
            In [0, 1].

        Example:
            >>> round(crossed_difference([[True] * 8 + [False] * 92], [[False] * 100]).p_value, 4)
            0.0078
        """
        least = min(1.0, 2.0 ** (1 - self.told_apart))
        distance = self.estimate**2

        def excess(logarithm: float) -> float:
            return distance - self._allowed(0.0, *self._quantiles(math.exp(logarithm) / 2))

        return max(least, math.exp(_root(excess, -300.0, 0.0)))

    @property
    def cautious_p_value(self) -> float:
        """The p-value for comparisons that are adjusted for their number, which ask for very small ones.

        Few errors make seeds agree to the last error much more often than a t distribution allows for: that is no
        evidence of 1 in 1,000. Here the seeds' part of the variance is at least the interaction that it holds.

        Returns:
            In [0, 1], at least :attr:`p_value`.

        Example:
            >>> test = np.arange(1000)
            >>> found = crossed_difference([test < 20, abs(test - 20) < 10], [test < 2, abs(test - 500) < 1])
            >>> found.p_value < 0.001 < found.cautious_p_value
            True
        """
        return replace(self, seed_variance=max(self.seed_variance, self.interaction)).p_value

    def _quantiles(self, tail: float) -> tuple[float, float]:
        """The quantiles of the seeds' and of the examples' part for this two-sided share."""
        of_examples = t_quantile(tail, self.units - 1) if self.grouped else normal_quantile(tail)
        return t_quantile(tail, self.seeds - 1) if self.seeds > 1 else of_examples, of_examples

    def _allowed(self, delta: float, of_seeds: float, of_examples: float) -> float:
        """The largest squared distance from the estimate that a true difference of ``delta`` allows."""
        if self.grouped and self.units == 1:
            return math.inf  # one group says nothing about the variance between groups
        examples = self.example_share * _restricted_variance(*self.rates, delta) / self.examples
        return squared_distance(self.seed_variance, examples, self.seeds, of_seeds=of_seeds, of_units=of_examples)


def crossed_difference(
    errors_a: Sequence[ArrayLike], errors_b: Sequence[ArrayLike], *, groups: ArrayLike | None = None
) -> CrossedDifference:
    r"""Estimate the difference of error rates, ``a - b``, and the parts of its variance by mean squares.

    What is counted is the first model's errors less the second's, by seed and example, or by seed and group (a group is
    one example where none are given). :func:`~limbeck.evaluation.mean_squares.mean_squares` has the formulas; its U,
    R and W less R estimate :math:`v_S / S + v_{SE} / (SE)`, :math:`v_{SE} / (SE)` and :math:`v_E / E`. Of groups, W is
    the jackknife's.

    Args:
        errors_a: Where the first model of each pair errs, bool ``(S, N)``, or a sequence of ``(N,)``.
        errors_b: Where the second errs, in the same order of seeds and examples.
        groups: Which examples belong together (the utterance of a frame), integers from 0 ``(N,)``; None: all are
            independent.

    Returns:
        The difference; ask it for its interval.

    Raises:
        DataError: If numbers of seeds or examples differ, or there are none.

    Example:
        >>> test = np.arange(1000)
        >>> found = crossed_difference([test < 20, test < 22], [test < 30, test < 31])
        >>> found.estimate, found.interval().excludes_zero
        (-0.0095, True)
    """
    errors_a, errors_b = by_seed(errors_a), by_seed(errors_b)
    if len(errors_a) != len(errors_b):
        raise DataError(f"got {len(errors_a)} students and {len(errors_b)} baselines: pair them by seed")
    pairs = [paired(a, b) for a, b in zip(errors_a, errors_b, strict=True)]
    if not pairs:
        raise DataError("a difference needs at least one seed, and was given none")
    lengths = sorted({len(a) for a, _ in pairs})
    if len(lengths) != 1:
        raise DataError(f"seeds were tested on different numbers of examples, {lengths}: use one test set")
    each = np.stack([a.view(np.int8) - b.view(np.int8) for a, b in pairs])
    seeds, examples = each.shape
    rates = int(np.count_nonzero(each > 0)) / each.size, int(np.count_nonzero(each < 0)) / each.size
    sums: NDArray[np.int8] | NDArray[np.float64] = each
    sizes: NDArray[np.float64] = np.ones(1)
    if groups is not None:
        sums, sizes = _by_group(each, groups)
    units, estimate = sums.shape[1], rates[0] - rates[1]
    parts = mean_squares(sums, sizes, examples, jackknife=groups is not None)
    own = parts.unit_variance * examples
    one_pair = sum(rates) - estimate**2
    if one_pair > 0:
        # What one unit of the usual size adds: that so much is the same for every seed could not be told from nothing.
        size = float(np.square(sums, dtype=np.float64).sum()) / max(1, int(np.count_nonzero(sums)))
        share = max(size * min(1.0, 1 / (examples * one_pair)), own / one_pair)
    else:
        share = examples / units
    return CrossedDifference(
        estimate,
        seeds,
        examples,
        units,
        groups is not None,
        int(np.count_nonzero((sums != 0).any(0))),
        rates,
        parts.seed_variance,
        parts.interaction,
        float(share),
    )


def _by_group(sums: NDArray[np.int8], groups: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences summed by group, ``(S, G)``, and the number of examples of each group."""
    place = as_array(groups)
    if place.shape != sums.shape[1:] or not np.issubdtype(place.dtype, np.integer):
        raise DataError(f"errors of {sums.shape[1]} examples and groups of shape {place.shape} do not fit each other")
    _, place, sizes = np.unique(place, return_inverse=True, return_counts=True)
    added = np.stack([np.bincount(place, row.astype(np.float64), len(sizes)) for row in sums])
    return added.astype(np.float64), sizes.astype(np.float64)


def _restricted_variance(rate_a: float, rate_b: float, delta: float) -> float:
    """Variance of one example's difference with mean ``delta``, at the maximum-likelihood rates; Tango, equation 5."""
    half = (2 - rate_a + rate_b) * delta - rate_a - rate_b
    root = math.sqrt(max(0.0, half * half + 8 * rate_b * delta * (1 - delta)))
    # Of the two ways to write the root of a quadratic, the one without cancellation.
    only_b = (root - half) / 4 if half <= 0 else 2 * rate_b * -delta * (1 - delta) / -(root + half)
    return max(0.0, 2 * only_b + delta * (1 - delta))


def _limits(estimate: float, allowed: Callable[[float], float]) -> tuple[float, float]:
    """Ends of the range of differences whose squared distance from the estimate is allowed, within [-1, 1]."""

    def excess(delta: float) -> float:
        return (delta - estimate) ** 2 - allowed(delta)

    def end(outside: float) -> float:
        if excess(outside) <= 0:
            return outside
        # A step away from the estimate, for without discordant examples nothing is allowed in its very place.
        return _root(excess, estimate + _STEP * (outside - estimate), outside)

    return end(-1.0), end(1.0)


_STEP = 1e-9


def _root(rising: Callable[[float], float], start: float, stop: float) -> float:
    """Where a function that goes from negative to positive is 0; the nearer end where it does not."""
    from scipy.optimize import brentq

    if rising(start) >= 0:
        return start
    return stop if rising(stop) <= 0 else float(brentq(rising, start, stop, xtol=1e-13))
