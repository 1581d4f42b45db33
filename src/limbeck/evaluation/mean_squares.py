r"""The variance of a mean over seeds and units, crossed: its parts by mean squares, and the distance they allow.

Axes: ``S`` seeds, ``G`` units (single examples, or groups of them).
"""

__all__ = ["MeanSquares", "mean_squares", "normal_quantile", "squared_distance", "t_quantile"]

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MeanSquares:
    """Parts of the variance of a mean over seeds and units.

    Attributes:
        seed_variance: U, of the seeds; it holds the interaction. 0 for one seed.
        unit_variance: W less R, of the units by themselves, at least 0.
        interaction: R, of seeds and units; 0 for one seed.
    """

    seed_variance: float
    unit_variance: float
    interaction: float


def mean_squares(
    sums: NDArray[np.int8] | NDArray[np.float64], sizes: NDArray[np.float64], count: float, *, jackknife: bool
) -> MeanSquares:
    r"""Estimate the parts.

    With :math:`r_{sg}` the sum of seed s over unit g less what is usual for the unit's size :math:`n_g`, and
    :math:`N = \sum_g n_g`,

    .. math::
        U = \frac{\sum_s r_{s \cdot}^2}{S (S - 1) N^2}, \quad
        W = \frac{\sum_g \bar r_g^2}{N^2}, \quad
        R = \frac{\sum_{sg} (r_{sg} - \bar r_g - r_{s \cdot} n_g / N)^2}{S (S - 1) N^2}

    Both U and W hold the interaction R, which counts once: the variance is :math:`U + \max(W - R, 0)`. With the
    jackknife W has :math:`\bar r_g / (1 - n_g / N)` and :math:`(G - 1) / G`.

    Args:
        sums: What is counted, by seed and unit, ``(S, G)``.
        sizes: Sizes of the units, ``(G,)``, or ``(1,)`` where all have one.
        count: N.
        jackknife: Whether W is the jackknife's, as units of several sizes need it.

    Returns:
        The parts.

    References:
        Searle, Casella and McCulloch, Variance Components, 1992, chapter 4.

    Example:
        >>> mean_squares(np.array([[1.0, 3.0]]), np.ones(1), 2, jackknife=False).unit_variance
        0.5
    """
    seeds, units = sums.shape
    estimate = float(sums.sum(dtype=np.float64)) / (seeds * count)
    by_seed = sums.sum(1, dtype=np.float64) / count - estimate
    mean = sums.mean(0, dtype=np.float64) - estimate * sizes
    alone = (row - (estimate + off) * sizes - mean for row, off in zip(sums, by_seed, strict=True))
    degrees = seeds * max(seeds - 1, 1)
    interaction = sum(float(values @ values) for values in alone) / degrees
    whole = float(mean @ mean)
    if jackknife and units > 1:
        # The jackknife's: a large unit draws the estimate to itself, and its residual is too small.
        alone_off = mean / (1 - sizes / count)
        whole = float(alone_off @ alone_off) * (units - 1) / units
    return MeanSquares(
        float(by_seed @ by_seed) / degrees, max(0.0, whole - interaction) / count**2, interaction / count**2
    )


def squared_distance(
    seed_variance: float, unit_variance: float, seeds: int, *, of_seeds: float, of_units: float
) -> float:
    r"""The largest squared distance of a mean from the truth that the two parts of its variance allow.

    It is :math:`(t U + z K)^2 / (U + K)`, Cochran's mean of the two quantiles, weighted by the parts: Satterthwaite's
    degrees of freedom are too hopeful where U happens to be small. For two seeds even Cochran's mean covers only 94 %,
    and the squares are added, :math:`t^2 U + z^2 K`, which never covers less than is said.

    Args:
        seed_variance: U.
        unit_variance: K.
        seeds: S.
        of_seeds: The quantile of the seeds' part.
        of_units: That of the units' part.

    Returns:
        The square.

    References:
        Cochran, Approximate significance levels of the Behrens-Fisher test, Biometrics, 1964.

    Example:
        >>> squared_distance(0.0, 4.0, 1, of_seeds=9.0, of_units=2.0)
        16.0
    """
    whole = seed_variance + unit_variance
    if whole == 0:
        return 0.0
    if seeds == 2:
        return of_seeds**2 * seed_variance + of_units**2 * unit_variance
    return (of_seeds * seed_variance + of_units * unit_variance) ** 2 / whole


def normal_quantile(tail: float) -> float:
    """The value that a standard normal variable exceeds with this probability.

    Args:
        tail: In (0, 1).

    Returns:
        The quantile.

    Example:
        >>> round(normal_quantile(0.025), 2)
        1.96
    """
    from scipy.special import ndtri

    return -float(ndtri(tail))


def t_quantile(tail: float, degrees: int) -> float:
    """The same of Student's t.

    Args:
        tail: In (0, 1).
        degrees: Degrees of freedom; without any the quantile is infinite.

    Returns:
        The quantile.

    Example:
        >>> round(t_quantile(0.025, 2), 3), t_quantile(0.025, 0)
        (4.303, inf)
    """
    from scipy.special import stdtrit

    return -float(stdtrit(degrees, tail)) if degrees > 0 else math.inf
