"""Intervals for rates that are counted by group, such as word errors by speaker.

Axes: ``S`` seeds, ``G`` groups.
"""

__all__ = ["group_rate_difference", "group_rate_interval"]

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import DataError
from limbeck.evaluation.mean_squares import mean_squares, squared_distance, t_quantile
from limbeck.evaluation.statistics import Interval, checked_confidence


def group_rate_interval(errors: ArrayLike, sizes: ArrayLike, *, confidence: float = 0.95) -> Interval:
    r"""The interval of a rate over groups, and with several seeds over trainings too.

    The rate is :math:`\sum_{sg} e_{sg} / (S \sum_g n_g)`, as a word error rate is: errors in all, for all words. A
    group may have more errors than words, so there is no binomial variance to lean on: the spread between groups is
    the jackknife's, with a t distribution of G - 1 degrees of freedom (groups of no size are not counted), and that
    between seeds is added as in :func:`~limbeck.evaluation.paired_intervals.crossed_difference`. The spread is never
    below that of a single error.

    Args:
        errors: Errors by seed and group, ``(S, G)``, none negative.
        sizes: What they are counted among, such as words, by group, none negative and not all 0, ``(G,)``.
        confidence: Share of experiments whose interval holds the true rate, in (0, 1).

    Returns:
        The rate with its limits, which are infinite where only one group has a size, and else not below 0.

    Raises:
        DataError: If shapes do not fit, a value is not finite or negative, or sizes are all 0.

    References:
        Bisani and Ney, Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP 2004, on why
        the unit is not the word; Cochran, Sampling Techniques, 1977, chapter 6, on the jackknife of a ratio.

    Example:
        >>> interval = group_rate_interval([[30, 42, 25, 37]], [100, 110, 95, 102])
        >>> print(f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})")
        0.329 (0.242 to 0.416)
    """
    counted, among = _checked(errors, sizes)
    if (counted < 0).any():
        raise DataError("errors of a group must not be negative")
    found = _interval(counted, among, confidence)
    return replace(found, low=max(found.low, 0.0)) if math.isfinite(found.low) else found


def group_rate_difference(
    errors_a: ArrayLike, errors_b: ArrayLike, sizes: ArrayLike, *, confidence: float = 0.95
) -> Interval:
    """The difference of two systems' rates on the same groups, ``a - b``, with its interval.

    It is :func:`group_rate_interval` for the differences of errors. A handful of groups proves nothing: where flipping
    the signs of those on which the systems differ could not give a p-value below one minus the confidence, which takes
    six groups for 95 %, the interval holds 0.

    Args:
        errors_a: Errors of the first system by seed and group, ``(S, G)``.
        errors_b: Those of the second, in the same order; ``(1, G)`` for one system beside all seeds of the first.
        sizes: As for :func:`group_rate_interval`.
        confidence: Share of experiments whose interval holds the true difference, in (0, 1).

    Returns:
        The difference with its limits.

    Raises:
        DataError: As for :func:`group_rate_interval`, or if the two are of different groups.

    Example:
        >>> found = group_rate_difference([[30, 42, 25, 37]], [[35, 47, 31, 41]], [100, 110, 95, 102])
        >>> round(found.estimate, 3), found.high
        (-0.049, 0.0)
    """
    first, among = _checked(errors_a, sizes)
    second, _ = _checked(errors_b, sizes)
    if 1 not in {len(first), len(second)} and len(first) != len(second):
        raise DataError(f"got {len(first)} and {len(second)} seeds: pair them, or give one of the one system")
    each = first - second
    found = _interval(each, among, confidence)
    if 2.0 ** (1 - int(np.count_nonzero(each.any(0)))) > 1 - confidence:
        return replace(found, low=min(found.low, 0.0), high=max(found.high, 0.0))
    return found


def _checked(errors: ArrayLike, sizes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    counted, among = np.asarray(errors, np.float64), np.asarray(sizes, np.float64)
    if counted.ndim != 2 or among.shape != counted.shape[1:] or not counted.size:
        raise DataError(
            f"errors are by seed and group (S, G), sizes by group (G,): these are {counted.shape} and {among.shape}"
        )
    if not (np.isfinite(counted).all() and np.isfinite(among).all() and (among >= 0).all() and among.any()):
        raise DataError("errors and sizes of groups must be finite, and sizes not negative nor all 0")
    return counted, among


def _interval(errors: NDArray[np.float64], sizes: NDArray[np.float64], confidence: float) -> Interval:
    seeds, groups, words = len(errors), int(np.count_nonzero(sizes)), float(sizes.sum())
    rate, tail = float(errors.sum()) / (seeds * words), (1 - checked_confidence(confidence)) / 2
    if groups == 1:
        return Interval(rate, -math.inf, math.inf, confidence)  # one group says nothing of how groups differ
    parts = mean_squares(errors, sizes, words, jackknife=True)
    of_groups = t_quantile(tail, groups - 1)
    of_seeds = t_quantile(tail, seeds - 1) if seeds > 1 else of_groups
    spread = max(parts.unit_variance, words**-2)  # of one error: that no group differs could not be told from that
    half = math.sqrt(squared_distance(parts.seed_variance, spread, seeds, of_seeds=of_seeds, of_units=of_groups))
    return Interval(rate, rate - half, rate + half, confidence)
