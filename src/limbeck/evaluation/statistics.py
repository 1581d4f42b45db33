"""Paired tests and intervals for differences between models.

Two models are compared on the same examples, so everything here is paired. Examples are assumed independent, unless
groups are given: frames of one utterance are correlated, and then utterances are the sampling units.
"""

__all__ = [
    "Interval",
    "McNemar",
    "as_array",
    "by_seed",
    "checked_confidence",
    "clopper_pearson",
    "holm",
    "mcnemar",
    "mean_interval",
    "paired",
]

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import DataError
from limbeck.options.checks import as_type, shown


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval.

    Attributes:
        estimate: The best single value.
        low: Lower limit; minus infinity where unknown.
        high: Upper limit; infinity where unknown.
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

    Only examples on which exactly one model errs are informative. If both are equally good, that one is
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


def clopper_pearson(count: int, examples: int, confidence: float = 0.95) -> Interval:
    r"""The exact (Clopper-Pearson) interval of a proportion.

    With :math:`\alpha` one less the confidence its limits are quantiles of beta distributions,

    .. math::
        B(\alpha / 2; k, n - k + 1) \quad \text{and} \quad B(1 - \alpha / 2; k + 1, n - k)

    Args:
        count: k, how many of the examples it happened to.
        examples: n, at least 1.
        confidence: Share of experiments whose interval holds the true share, at least, in (0, 1).

    Returns:
        The share, and its limits in [0, 1].

    Raises:
        DataError: If the count is not from 0 to n, or the confidence is out of its range.

    References:
        Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial,
        Biometrika, 1934.

    Example:
        >>> none = clopper_pearson(0, 10_000)
        >>> none.low, round(none.high, 6)
        (0.0, 0.000369)
    """
    from scipy.special import betaincinv

    if not 0 <= count <= examples or examples < 1:
        raise DataError(f"a share needs a count from 0 to the number of examples, and is {count} of {examples}")
    tail = (1 - checked_confidence(confidence)) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, examples - count + 1, tail))
    high = 1.0 if count == examples else float(betaincinv(count + 1, examples - count, 1 - tail))
    return Interval(count / examples, low, high, confidence)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Holm's adjustment of p-values for several comparisons.

    With the m p-values in rising order,

    .. math::
        \tilde p_{(i)} = \max_{j \le i} \; \min\bigl(1, (m - j + 1) \, p_{(j)}\bigr)

    Naming each comparison with :math:`\tilde p < \alpha` makes one false claim or more in at most :math:`\alpha` of
    experiments, whatever the comparisons have to do with each other.

    Args:
        p_values: One per comparison, ``(m,)``, in [0, 1].

    Returns:
        Adjusted p-values in the same order.

    Raises:
        DataError: If a p-value is not in [0, 1].

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"p-values must be in [0, 1], on one axis, and are {p_values!r}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    r"""Student's t interval of a mean over a few seeds.

    .. math::
        \bar v \pm t_{n-1} \; s / \sqrt{n}

    Args:
        values: One value per seed, ``(n,)``.
        confidence: Share of experiments whose interval holds the true mean, in (0, 1).

    Returns:
        The mean and its interval; of one value the limits are infinite, since the spread is unknown.

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
    tail = (1 - checked_confidence(confidence)) / 2
    mean, count = float(array.mean()), len(array)
    if count == 1:
        return Interval(mean, -math.inf, math.inf, confidence)
    half = float(stdtrit(count - 1, 1 - tail) * array.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, confidence)


def as_array(values: ArrayLike) -> NDArray[Any]:
    """An array of a list, an array, or a tensor of PyTorch on any device.

    Args:
        values: Any of them.

    Returns:
        The array.
    """
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor = values.detach().cpu()
    return np.asarray(tensor.numpy() if str(tensor.dtype) != "torch.bfloat16" else tensor.float().numpy())


def by_seed(errors: Sequence[ArrayLike]) -> list[NDArray[Any]]:
    """The errors of several trainings as arrays.

    Args:
        errors: A row ``(N,)`` for each seed.

    Returns:
        An array for each seed.

    Raises:
        DataError: If they have no rows.

    Example:
        >>> by_seed([[True, False], [False, False]])[0]
        array([ True, False])
    """
    listed = hasattr(errors, "__len__") and not isinstance(errors, str | bytes | Mapping)
    if not listed or getattr(errors, "ndim", 1) == 0:
        raise DataError(f"errors over seeds must be a list of an array for each seed, and are {shown(errors)}")
    return [as_array(row) for row in errors]


def paired(errors_a: ArrayLike, errors_b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Check the errors of two models on the same examples, and convert them to arrays.

    Args:
        errors_a: Where one model errs, bool ``(N,)``.
        errors_b: Where the other errs, bool ``(N,)``.

    Returns:
        Both as arrays.

    Raises:
        DataError: If they are not of bool, not of one shape, or of no examples.

    Example:
        >>> paired([True, False], [False, False])[0]
        array([ True, False])
    """
    a, b = as_array(errors_a), as_array(errors_b)
    if a.dtype != np.bool_ or b.dtype != np.bool_:
        raise DataError(f"errors must be arrays of bool, one value per example, and are {a.dtype} and {b.dtype}")
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise DataError(f"errors must be of the same examples, at least one, and have shapes {a.shape} and {b.shape}")
    return a, b


def _discordant(errors_a: ArrayLike, errors_b: ArrayLike) -> tuple[int, int, int]:
    a, b = paired(errors_a, errors_b)
    return int((a & ~b).sum()), int((b & ~a).sum()), len(a)


def checked_confidence(confidence: float) -> float:
    """Check that a confidence is in (0, 1).

    Args:
        confidence: Share of experiments.

    Returns:
        The same.

    Raises:
        DataError: If it is not.
        ConfigError: If it is not a number.

    Example:
        >>> checked_confidence(0.95)
        0.95
    """
    if not 0 < as_type("confidence", confidence, float) < 1:
        raise DataError(f"confidence must be in (0, 1), and is {confidence}")
    return confidence
