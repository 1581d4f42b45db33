"""Metrics against scikit-learn and against slow, obvious loops."""

import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from limbeck.errors import DataError
from limbeck.evaluation.metrics import (
    accuracy,
    agreement,
    bin_confidence,
    confusion_matrix,
    error_count,
    error_mask,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)


def answers(seed=0, examples=400, classes=7, sharpness=2.0):
    generator = np.random.default_rng(seed)
    scores = sharpness * generator.normal(size=(examples, classes))
    log_probs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    labels = np.where(generator.random(examples) < 0.6, scores.argmax(-1), generator.integers(0, classes, examples))
    return log_probs.astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn(seed):
    log_probs, labels = answers(seed)
    predicted = log_probs.argmax(-1)
    probs = np.exp(log_probs.astype(np.float64))
    probs /= probs.sum(-1, keepdims=True)
    assert accuracy(log_probs, labels) == pytest.approx(oracle.accuracy_score(labels, predicted), abs=1e-12)
    assert negative_log_likelihood(log_probs, labels) == pytest.approx(oracle.log_loss(labels, probs), rel=1e-6)
    assert error_count(log_probs, labels) == (labels != predicted).sum() == error_mask(log_probs, labels).sum()
    expected = oracle.confusion_matrix(labels, predicted, labels=range(7))
    np.testing.assert_array_equal(confusion_matrix(predicted, labels, 7), expected)


def slow_calibration_error(log_probs, labels, bins):
    inside = [[] for _ in range(bins)]
    for row, label in zip(log_probs.astype(np.float64), labels, strict=True):
        best = max(range(len(row)), key=lambda k: row[k])
        confidence = math.exp(row[best])
        for b in range(bins):
            if b / bins < confidence <= (b + 1) / bins:
                inside[b].append((confidence, best == label))
    total = 0.0
    for members in inside:
        if members:
            confidence = sum(c for c, _ in members) / len(members)
            right = sum(r for _, r in members) / len(members)
            total += len(members) / len(labels) * abs(confidence - right)
    return total


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_calibration_error_is_what_the_paper_defines(bins):
    log_probs, labels = answers(4)
    expected = slow_calibration_error(log_probs, labels, bins)
    assert expected > 0.01
    assert expected_calibration_error(log_probs, labels, bins) == pytest.approx(expected, abs=1e-12)


def test_a_bin_holds_its_upper_limit():
    bins = bin_confidence(np.array([0.0, 0.5, 0.75, 0.75, 1.0]), np.array([True, True, True, False, True]), bins=4)
    assert bins.counts.tolist() == [1, 1, 2, 1]
    assert bins.accuracy.tolist() == [1, 1, 0.5, 1]
    assert bins.confidence.tolist() == [0, 0.5, 0.75, 1]


def test_certain_and_right_is_perfect():
    log_probs = np.log(np.eye(3) + 1e-300)
    labels = np.arange(3)
    assert expected_calibration_error(log_probs, labels) == 0
    assert negative_log_likelihood(log_probs, labels) == 0
    assert reliability_bins(log_probs, labels).counts[-1] == 3


def test_confidence_equal_to_accuracy_is_calibrated():
    log_probs = np.log(np.tile([0.8, 0.2], (10, 1)))
    labels = np.array([0] * 8 + [1] * 2)
    assert expected_calibration_error(log_probs, labels) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(log_probs, 1 - labels) == pytest.approx(0.6)


def test_uniform_answers_cost_the_logarithm_of_the_number_of_classes():
    log_probs = np.full((5, 10), -math.log(10))
    assert negative_log_likelihood(log_probs, np.arange(5)) == pytest.approx(math.log(10))


def test_no_mass_for_the_truth_costs_infinitely():
    with np.errstate(divide="ignore"):
        log_probs = np.log([[1.0, 0.0]])
    assert negative_log_likelihood(log_probs, np.array([1])) == math.inf
    assert error_count(log_probs, np.array([1])) == 1


def test_agreement_counts_equal_answers():
    log_probs, _ = answers(1)
    other, _ = answers(2)
    expected = sum(a.argmax() == b.argmax() for a, b in zip(log_probs, other, strict=True)) / len(log_probs)
    assert agreement(log_probs, other) == pytest.approx(expected)
    assert agreement(log_probs, log_probs) == 1
    assert agreement(log_probs, -log_probs) == 0


def test_large_sets_are_checked_in_pieces():
    classes = 1 << 22
    log_probs = np.full((2, classes), -math.log(classes), np.float32)
    assert negative_log_likelihood(log_probs, np.array([0, 5])) == pytest.approx(math.log(classes))
    with pytest.raises(DataError, match="example 1 sum to 2"):
        negative_log_likelihood(log_probs + np.array([[0], [math.log(2)]], np.float32), np.array([0, 5]))


@pytest.mark.parametrize(
    ("log_probs", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "at least one of each"),
        (np.zeros(3), np.zeros(3, int), "shape"),
        (np.log(np.full((2, 2), 0.5)), np.array([0]), "one label an example"),
        (np.log(np.full((2, 2), 0.5)), np.array([0, 2]), r"in \[0, 2\), and example 1 has 2"),
        (np.log(np.full((2, 2), 0.5)), np.array([-1, 0]), "example 0 has -1"),
        (np.log(np.full((2, 2), 0.5)), np.array([0.0, 1.0]), "integers"),
        (np.array([[0.0, -1.0], [np.nan, 0.0]]), np.array([0, 1]), "NaN, first in example 1"),
        (np.array([[5.0, -1.0]]), np.array([0]), "log_softmax"),
        (np.array([[1e4, -1.0]]), np.array([0]), "log_softmax"),
    ],
)
def test_bad_input_is_refused(log_probs, labels, message):
    with pytest.raises(DataError, match=message):
        expected_calibration_error(log_probs, labels)
    with pytest.raises(DataError, match=message):
        negative_log_likelihood(log_probs, labels)


def test_mismatched_arguments_are_refused():
    log_probs, labels = answers()
    with pytest.raises(DataError, match="bins must be at least 1, and is 0"):
        reliability_bins(log_probs, labels, 0)
    with pytest.raises(DataError, match="cannot be compared"):
        agreement(log_probs, log_probs[:, :-1])
    with pytest.raises(DataError, match="400 answers and 399 labels"):
        confusion_matrix(labels, labels[:-1], 7)
    with pytest.raises(DataError, match="answers must be in"):
        confusion_matrix(labels + 5, labels, 7)


@pytest.mark.parametrize(("mass", "taken"), [(0.99, True), (1.01, True), (0.95, False), (1.05, False), (1.5, False)])
def test_rows_may_be_rounded_to_16_bits_and_no_more(mass, taken):
    log_probs, labels = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]) * mass), np.array([0, 1])
    if taken:
        assert negative_log_likelihood(log_probs, labels) == pytest.approx(-np.log(mass * np.sqrt(0.5 * 0.75)))
        return
    with pytest.raises(DataError, match="sum to"):
        negative_log_likelihood(log_probs, labels)
