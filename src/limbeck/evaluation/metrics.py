"""Metrics of predictions: pure functions of numpy arrays.

Axes: ``N`` examples, ``K`` classes. Log-probabilities are natural logarithms at temperature 1.
"""

__all__ = [
    "ReliabilityBins",
    "accuracy",
    "agreement",
    "balanced_accuracy",
    "bin_confidence",
    "confusion_matrix",
    "error_count",
    "error_mask",
    "expected_calibration_error",
    "negative_log_likelihood",
    "reliability_bins",
]

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

_CHUNK = 1 << 22  # values converted to float64 at a time: 32 MiB
_MASS_TOLERANCE = 0.02  # log-probabilities kept in 16 bits still sum to 1 within this


def error_mask(log_probs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which predictions are wrong; at ties the first class is predicted.

    There must be examples, shapes must fit, no value may be NaN and every label must be a class: anything else is a
    :class:`~limbeck.errors.DataError`, here and in all functions below.

    Args:
        log_probs: Log-probabilities or logits, ``(N, K)``.
        labels: True classes in [0, K), integers ``(N,)``.

    Returns:
        True where the top-1 class is not the label, ``(N,)``.

    Example:
        >>> error_mask(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
        array([False,  True])
    """
    labels = _checked(log_probs, labels)
    wrong: NDArray[np.bool_] = log_probs.argmax(-1) != labels
    return wrong


def balanced_accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    r"""Balanced accuracy: mean recall over the classes, so that rare classes count equally.

    .. math::
        \frac{1}{|C|} \sum_{c \in C} \frac{1}{n_c} \sum_{n : y_n = c} [\hat y_n = c]

    with C the classes that have examples.

    Args:
        predicted: Predicted classes, integers ``(N,)``.
        labels: True classes, integers ``(N,)``.

    Returns:
        The mean recall, in [0, 1].

    Raises:
        DataError: If there are no examples, or counts differ.

    Example:
        >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
        0.75
    """
    if predicted.shape != labels.shape or not len(labels):
        raise DataError(f"there are {len(labels)} labels and {len(predicted)} predictions: one of each is needed")
    counts = np.bincount(labels)
    right = np.bincount(labels[predicted == labels], minlength=len(counts))
    return float((right[counts > 0] / counts[counts > 0]).mean())


def error_count(log_probs: NDArray[Any], labels: NDArray[Any]) -> int:
    """The number of wrong predictions.

    Args:
        log_probs: Log-probabilities or logits, ``(N, K)``.
        labels: True classes in [0, K), integers ``(N,)``.

    Returns:
        A count from 0 to N.

    Example:
        >>> error_count(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
        1
    """
    return int(error_mask(log_probs, labels).sum())


def accuracy(log_probs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Accuracy: share of examples whose top-1 class is the label.

    Args:
        log_probs: Log-probabilities or logits, ``(N, K)``.
        labels: True classes in [0, K), integers ``(N,)``.

    Returns:
        A share from 0 to 1.

    Example:
        >>> accuracy(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
        0.5
    """
    return 1 - error_count(log_probs, labels) / len(labels)


def negative_log_likelihood(log_probs: NDArray[Any], labels: NDArray[Any]) -> float:
    r"""Negative log-likelihood: mean cross-entropy with the labels; probabilities must sum to 1.

    .. math::
        -\frac{1}{N} \sum_n \log p_{n y_n}

    Args:
        log_probs: Log-probabilities :math:`\log p`, ``(N, K)``.
        labels: True classes :math:`y` in [0, K), integers ``(N,)``.

    Returns:
        Nats per example, at least 0; infinite where a true class was given no mass.

    Example:
        >>> round(negative_log_likelihood(np.log([[0.5, 0.5], [0.2, 0.8]]), np.array([0, 1])), 4)
        0.4581
    """
    labels = _checked(log_probs, labels)
    _check_mass(log_probs)
    chosen = log_probs[np.arange(len(labels)), labels].astype(np.float64)
    return float(max(0.0, -chosen.mean()))


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """The bins of a reliability diagram.

    Attributes:
        edges: Limits of the bins from 0 to 1, ``(bins + 1,)``; a bin holds its upper limit only.
        counts: Examples in each bin, int64 ``(bins,)``.
        confidence: Mean top-1 probability, ``(bins,)``; NaN where a bin is empty.
        accuracy: Share of right predictions, ``(bins,)``; NaN where a bin is empty.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def expected_error(self) -> float:
        """Mean distance of confidence from accuracy, weighted by the counts."""
        full = self.counts > 0
        gaps = np.abs(self.confidence[full] - self.accuracy[full])
        return float((gaps * self.counts[full]).sum() / self.counts.sum())


def reliability_bins(log_probs: NDArray[Any], labels: NDArray[Any], bins: int = 15) -> ReliabilityBins:
    """Confidence and accuracy in bins of equal width, for a reliability diagram.

    Args:
        log_probs: Log-probabilities, ``(N, K)``.
        labels: True classes in [0, K), integers ``(N,)``.
        bins: How many bins, at least 1.

    Returns:
        The bins.

    Example:
        >>> reliability_bins(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), bins=2).counts
        array([0, 2])
    """
    labels = _checked(log_probs, labels)
    _check_mass(log_probs)
    answers = log_probs.argmax(-1)
    sure = np.exp(log_probs[np.arange(len(labels)), answers].astype(np.float64))
    return bin_confidence(sure, answers == labels, bins)


def bin_confidence(confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> ReliabilityBins:
    """Bins of equal width over given confidences; the second half of :func:`reliability_bins`.

    Args:
        confidence: Top-1 probability of each prediction, ``(N,)``.
        right: Whether the prediction is right, ``(N,)``.
        bins: How many bins, at least 1.

    Returns:
        The bins.

    Raises:
        DataError: If ``bins`` is below 1.

    Example:
        >>> bin_confidence(np.array([0.9, 0.8, 0.3]), np.array([True, False, False]), bins=2).accuracy
        array([0. , 0.5])
    """
    if bins < 1:
        raise DataError(f"bins must be at least 1, and is {bins}")
    sure = np.asarray(confidence, np.float64).clip(0, 1)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # an empty bin is 0 / 0
        means = [np.bincount(place, values, bins) / counts for values in (sure, right)]
    return ReliabilityBins(np.linspace(0, 1, bins + 1), counts.astype(np.int64), *means)


def expected_calibration_error(log_probs: NDArray[Any], labels: NDArray[Any], bins: int = 15) -> float:
    r"""Expected calibration error: mean distance of confidence from accuracy.

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{N} \, \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert

    over bins of equal width of the top-1 class's probability.

    Args:
        log_probs: Log-probabilities, ``(N, K)``.
        labels: True classes in [0, K), integers ``(N,)``.
        bins: How many bins, at least 1.

    Returns:
        A share from 0 (calibrated) to 1.

    References:
        Guo, Pleiss, Sun and Weinberger, `On Calibration of Modern Neural Networks
        <https://arxiv.org/abs/1706.04599>`_, 2017, equation 3.

    Example:
        >>> round(expected_calibration_error(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), bins=1), 4)
        0.35
    """
    return reliability_bins(log_probs, labels, bins).expected_error


def agreement(log_probs_a: NDArray[Any], log_probs_b: NDArray[Any]) -> float:
    """Agreement: share of examples with the same top-1 class of two models, right or wrong.

    Args:
        log_probs_a: One model's log-probabilities or logits, ``(N, K)``.
        log_probs_b: The other's for the same examples, ``(N, K)``.

    Returns:
        A share from 0 to 1.

    Raises:
        DataError: If the shapes differ.

    Example:
        >>> agreement(np.log([[0.9, 0.1], [0.8, 0.2]]), np.log([[0.6, 0.4], [0.4, 0.6]]))
        0.5
    """
    _check_scores(log_probs_a)
    _check_scores(log_probs_b)
    if log_probs_a.shape != log_probs_b.shape:
        raise DataError(
            f"answers of shape {log_probs_a.shape} and {log_probs_b.shape} cannot be compared: "
            "both models must answer the same examples over the same classes"
        )
    return float((log_probs_a.argmax(-1) == log_probs_b.argmax(-1)).mean())


def confusion_matrix(predicted: NDArray[Any], labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """The confusion matrix.

    Args:
        predicted: Predicted classes in [0, ``classes``), integers ``(N,)``.
        labels: True classes in [0, ``classes``), integers ``(N,)``.
        classes: Number of classes.

    Returns:
        Counts, true class by predicted class, int64 ``(classes, classes)``.

    Raises:
        DataError: If the shapes differ.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
        array([[1, 1],
               [0, 1]])
    """
    for name, values in (("answers", predicted), ("labels", labels)):
        _check_classes(values, classes, name)
    if predicted.shape != labels.shape:
        raise DataError(
            f"there are {len(predicted)} answers and {len(labels)} labels: one of each an example is needed"
        )
    place = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(place, minlength=classes * classes).astype(np.int64).reshape(classes, classes)


def _check_scores(scores: NDArray[Any]) -> None:
    if scores.ndim != 2 or 0 in scores.shape:
        raise DataError(
            f"scores must have the shape (examples, classes), at least one of each, and have {scores.shape}"
        )
    # The maximum is NaN where any value is, and needs no temporary array.
    if np.isnan(scores.max()):
        row = int(np.isnan(scores.max(-1)).argmax())
        raise DataError(f"scores hold NaN, first in example {row}: the model that gave them is broken")


def _check_classes(values: NDArray[Any], classes: int, name: str) -> None:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{name} must be integers with one axis, and are {values.dtype} of shape {values.shape}")
    outside = (values < 0) | (values >= classes)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(f"{name} must be in [0, {classes}), and example {row} has {int(values[row])}")


def _checked(log_probs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    _check_scores(log_probs)
    if labels.shape != log_probs.shape[:1]:
        raise DataError(
            f"scores have shape {log_probs.shape} and labels {labels.shape}: one label an example is needed"
        )
    _check_classes(labels, log_probs.shape[1], "labels")
    return labels.astype(np.int64, copy=False)


def _check_mass(log_probs: NDArray[Any]) -> None:
    step = max(1, _CHUNK // log_probs.shape[1])
    for start in range(0, len(log_probs), step):
        with np.errstate(over="ignore"):  # logits passed as log-probabilities overflow, and are refused below
            mass = np.exp(log_probs[start : start + step].astype(np.float64)).sum(-1)
        bad = ~(np.abs(mass - 1) <= _MASS_TOLERANCE)
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"probabilities of example {start + row} sum to {mass[row]:.6g} and not to 1: "
                "pass log-probabilities (log_softmax of the logits)"
            )
