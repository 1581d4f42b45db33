r"""Temperature scaling: calibration of probabilities by a single parameter.

Axes: ``N`` examples, ``K`` classes. Log-probabilities are natural logarithms; ``T`` is the temperature, without unit.
"""

__all__ = ["NoTemperature", "calibrated", "debiased_calibration_error", "fit_temperature"]

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

_CHUNK = 1 << 20
"""Numbers looked at a time: 8 MiB in float64."""
_MOST = 1024.0
"""Temperatures from 1 / 1024 to 1024 are looked for."""
_STEPS = 200
_CLOSE = 1e-12


class NoTemperature(DataError):
    """No temperature minimises the negative log-likelihood of these predictions."""


def fit_temperature(log_probs: NDArray[Any], labels: NDArray[Any]) -> float:
    r"""The temperature that minimises the negative log-likelihood.

    .. math::
        \hat T = \arg\min_T \frac{1}{N} \sum_n \Bigl( \log \sum_k e^{z_{nk} / T} - z_{n y_n} / T \Bigr)

    In :math:`\beta = 1 / T` this is convex: Newton's method finds the zero of its derivative inside a bracket that is
    halved wherever a step leaves it, in float64. The top-1 class of no example changes.

    Args:
        log_probs: Log-probabilities, or logits, :math:`z`, ``(N, K)``.
        labels: True classes :math:`y` in [0, K), integers ``(N,)``.

    Returns:
        T: above 1 for an overconfident model, below 1 for an underconfident one.

    Raises:
        DataError: If the shapes do not fit.
        NoTemperature: If the best temperature is 0 (every example is answered rightly), infinite (the answers say no
            more of the labels than chance), or makes no difference, since a true class has no mass.

    References:
        Guo, Pleiss, Sun and Weinberger, `On Calibration of Modern Neural Networks
        <https://arxiv.org/abs/1706.04599>`_, 2017, section 4.2.

    Example:
        >>> z = np.log([[0.9, 0.1]] * 4)  # right three times of four, with a confidence of nine in ten
        >>> round(fit_temperature(z, np.array([0, 0, 0, 1])), 6)
        2.0
    """
    _check(log_probs, labels)
    place = np.arange(len(labels))
    true = log_probs[place, labels]
    if not np.isfinite(true).all():
        raise NoTemperature("a true class was given no mass, which no temperature changes")
    if (true >= log_probs.max(-1)).all():
        raise NoTemperature("every example is answered rightly, so that any lower temperature fits better")
    low, high, beta = 1 / _MOST, _MOST, 1.0
    if _derivatives(log_probs, labels, low)[0] >= 0:
        raise NoTemperature("the answers say no more of the labels than chance, so that any higher one fits better")
    if _derivatives(log_probs, labels, high)[0] <= 0:
        raise NoTemperature(f"the best one is below {1 / _MOST:.2g}: wrong answers are nearly ties")
    for _ in range(_STEPS):
        slope, curvature = _derivatives(log_probs, labels, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        following = beta - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = (low * high) ** 0.5
        if abs(following - beta) <= _CLOSE * beta:
            return 1 / following
        beta = following
    return 1 / beta


def calibrated(log_probs: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    r"""Log-probabilities at another temperature, :math:`\log \mathrm{softmax}(z / T)`.

    Args:
        log_probs: Log-probabilities, or logits, :math:`z`, ``(N, K)``.
        temperature: T, positive and finite.

    Returns:
        Natural logarithms, ``(N, K)``.

    Raises:
        DataError: If the temperature is not positive and finite.

    Example:
        >>> np.exp(calibrated(np.log([[0.9, 0.1]]), 2.0)).round(6)
        array([[0.75, 0.25]])
    """
    if not 0 < temperature < float("inf"):
        raise DataError(f"temperature must be positive and finite, and is {temperature}")
    scaled = log_probs.astype(np.float64) / temperature
    scaled -= scaled.max(-1, keepdims=True)
    found: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
    return found


def debiased_calibration_error(confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> float:
    r"""Debiased root-mean-square calibration error.

    The examples are sorted by confidence into bins of equal numbers. Of a bin with n examples, mean confidence c and
    accuracy a, the squared distance is lowered by the variance of a:

    .. math::
        \hat{E}^2 = \sum_b \frac{n_b}{N} \Bigl( (c_b - a_b)^2 - \frac{a_b (1 - a_b)}{n_b - 1} \Bigr)

    The usual calibration error of few examples is far above 0 also for a model that is calibrated perfectly; the mean
    of this square is 0 then.

    Args:
        confidence: Probability of each answer, ``(N,)``.
        right: Whether the answer is right, ``(N,)``.
        bins: Number of bins, at least 1; fewer where there are not two examples per bin.

    Returns:
        The root of the square, 0 where that is negative.

    Raises:
        DataError: If there are no examples, the shapes differ, or ``bins`` is below 1.

    References:
        Kumar, Liang and Ma, `Verified Uncertainty Calibration <https://arxiv.org/abs/1909.10155>`_, 2019, section 5.

    Example:
        >>> debiased_calibration_error(np.full(8, 0.75), np.arange(8) % 2 == 0, bins=1) ** 2 < 0.25 ** 2
        True
    """
    if confidence.shape != right.shape or not len(right) or bins < 1:
        raise DataError(
            f"{len(confidence)} confidences, {len(right)} answers and {bins} bins: as many of one as of the other, "
            "and at least one of each, are needed"
        )
    order = np.argsort(confidence, kind="stable")
    total = 0.0
    for part in np.array_split(order, max(1, min(bins, len(order) // 2))):
        share = float(right[part].mean())
        gap = float(confidence[part].mean(dtype=np.float64)) - share
        total += len(part) * (gap**2 - share * (1 - share) / max(1, len(part) - 1))
    return float(max(0.0, total / len(order)) ** 0.5)


def _derivatives(log_probs: NDArray[Any], labels: NDArray[Any], beta: float) -> tuple[float, float]:
    r"""First and second derivative in beta of the mean negative log-likelihood: mean and variance of z under p."""
    slope = curvature = 0.0
    for scores, right in _chunks(log_probs, labels):
        # Differences from the top-1 class, so that nothing is rounded away; classes without mass are skipped.
        apart = scores - scores.max(-1, keepdims=True)
        mass = np.exp(beta * apart)
        probs = mass / mass.sum(-1, keepdims=True)
        apart[probs == 0] = 0.0
        mean = (probs * apart).sum(-1)
        chosen = scores[np.arange(len(right)), right] - scores.max(-1)
        slope += float((mean - chosen).sum())
        curvature += float((probs * (apart - mean[:, None]) ** 2).sum())
    return slope / len(labels), curvature / len(labels)


def _chunks(log_probs: NDArray[Any], labels: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    step = max(1, _CHUNK // log_probs.shape[1])
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        yield log_probs[rows].astype(np.float64), labels[rows].astype(np.int64)


def _check(log_probs: NDArray[Any], labels: NDArray[Any]) -> None:
    if log_probs.ndim != 2 or 0 in log_probs.shape or labels.shape != log_probs.shape[:1]:
        raise DataError(
            f"answers have shape {log_probs.shape} and labels {labels.shape}: (examples, classes) and (examples,) are "
            "needed, at least one of each"
        )
    if np.isnan(log_probs.max()):
        raise DataError("answers hold NaN: the model that gave them is broken")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= log_probs.shape[1]:
        raise DataError(f"labels must be integers in [0, {log_probs.shape[1]})")
