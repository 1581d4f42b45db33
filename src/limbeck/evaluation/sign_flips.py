r"""A sign-flip permutation test of two models on grouped examples, such as the frames of an utterance.

Frames of an utterance are correlated, and thus not independent trials: whole groups are flipped.

Axes: ``N`` examples, ``G`` groups.
"""

__all__ = ["sign_flip_test"]

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import DataError

_CELLS = 1 << 22
"""Signs drawn at a time."""


def sign_flip_test(
    errors_a: ArrayLike, errors_b: ArrayLike, groups: ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> float:
    r"""p-value of the difference if both models were equally good in every group.

    Then the difference of a group is as likely of either sign, and

    .. math::
        p = \frac{1 + \#\{r : |\sum_g s_{rg} d_g| \ge |\sum_g d_g|\}}{1 + R}

    with :math:`d_g` the difference in errors of group g and :math:`s_{rg}` random signs.

    Args:
        errors_a: Where the first model errs, bool ``(N,)``.
        errors_b: Where the second errs, for the same examples.
        groups: Which group each example is in, integers from 0 ``(N,)``.
        resamples: R, how many sets of signs are drawn.
        seed: Seed of the draws.

    Returns:
        The p-value, two-sided, above 0.

    Raises:
        DataError: If the shapes differ.

    Example:
        >>> utterance = np.repeat(np.arange(100), 50)
        >>> worse = np.arange(5000) % 10 < 4
        >>> sign_flip_test(worse, worse, utterance)
        1.0
    """
    differences, _ = _by_group(errors_a, errors_b, groups)
    random, count, as_large = np.random.default_rng(seed), len(differences), 0
    observed = abs(differences.sum())
    step = max(1, _CELLS // count)
    for start in range(0, resamples, step):
        signs = 2.0 * random.integers(0, 2, (min(step, resamples - start), count)) - 1
        as_large += int((np.abs(signs @ differences) >= observed - 1e-9).sum())
    return (1 + as_large) / (1 + resamples)


def _by_group(
    errors_a: ArrayLike, errors_b: ArrayLike, groups: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors of a minus those of b, and examples, in each group."""
    a, b, place = np.asarray(errors_a, bool), np.asarray(errors_b, bool), np.asarray(groups)
    if not a.shape == b.shape == place.shape or a.ndim != 1 or not a.size:
        raise DataError(f"errors of shape {a.shape} and {b.shape} and groups of {place.shape} do not fit each other")
    difference = a.astype(np.float64) - b
    used = np.bincount(place) > 0
    return np.bincount(place, difference)[used].astype(np.float64), np.bincount(place)[used].astype(np.float64)
