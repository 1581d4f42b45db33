"""Temperature scaling against scipy's minimiser, a grid and slow loops."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from limbeck.errors import DataError
from limbeck.evaluation import calibration
from limbeck.evaluation.calibration import (
    NoTemperature,
    calibrated,
    debiased_calibration_error,
    fit_temperature,
)
from limbeck.evaluation.metrics import bin_confidence, negative_log_likelihood


def answers(seed=0, examples=400, classes=5, sharpness=3.0, truth=1.0):
    """Logits ``sharpness`` times those by which the labels were drawn."""
    generator = np.random.default_rng(seed)
    scores = truth * generator.normal(size=(examples, classes))
    labels = (scores + generator.gumbel(size=scores.shape)).argmax(-1)
    return sharpness * scores, labels


def loss(logits, labels, temperature):
    return -log_softmax(logits / temperature, -1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("sharpness", [0.05, 1.0, 8.0, 200.0])
def test_the_fitted_temperature_is_the_minimum_that_scipy_finds(sharpness):
    logits, labels = answers(sharpness=sharpness)
    found = fit_temperature(logits, labels)
    best = minimize_scalar(
        lambda beta: loss(logits, labels, 1 / beta), bounds=(1e-3, 100), method="bounded", options={"xatol": 1e-10}
    )
    assert found == pytest.approx(1 / best.x, rel=1e-4)
    grid = [loss(logits, labels, found * scale) for scale in np.geomspace(0.5, 2, 41)]
    assert min(grid) == grid[20]
    # Labels drawn by softmax(z / sharpness): the temperature that was put in comes out, but for chance.
    assert found == pytest.approx(sharpness, rel=0.3)


def test_it_goes_with_the_scale_and_is_one_for_what_is_fitted():
    logits, labels = answers(seed=1)
    once = fit_temperature(logits, labels)
    assert fit_temperature(7 * logits, labels) == pytest.approx(7 * once, rel=1e-9)
    assert fit_temperature(log_softmax(logits, -1), labels) == pytest.approx(once, rel=1e-9)
    scaled = calibrated(logits, once)
    assert fit_temperature(scaled, labels) == pytest.approx(1.0, rel=1e-9)
    assert negative_log_likelihood(scaled, labels) == pytest.approx(loss(logits, labels, once), rel=1e-12)


def test_classes_without_mass_and_chunks_change_nothing(monkeypatch):
    logits, labels = answers(seed=2)
    once = fit_temperature(logits, labels)
    wider = np.concatenate([logits, np.full((len(logits), 2), -np.inf)], -1)
    assert fit_temperature(wider, labels) == pytest.approx(once, rel=1e-12)
    monkeypatch.setattr(calibration, "_CHUNK", 37)
    assert fit_temperature(logits, labels) == pytest.approx(once, rel=1e-12)


@pytest.mark.parametrize(
    ("logits", "labels", "why"),
    [
        ([[2.0, 0.0], [0.0, 1.0]], [0, 1], "answered rightly"),
        ([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0]], [1, 1, 0], "no more of the labels than chance"),
        ([[0.0, -math.inf], [1.0, 0.0]], [1, 1], "given no mass"),
        ([[1e-3, 0.0], [1e-9, 0.0]], [0, 1], "nearly ties"),
    ],
)
def test_where_no_temperature_is_best_it_is_said_why(logits, labels, why):
    with pytest.raises(NoTemperature, match=why):
        fit_temperature(np.array(logits), np.array(labels))


@pytest.mark.parametrize(
    ("logits", "labels", "why"),
    [
        (np.zeros((2, 3)), np.zeros(3, int), "labels \\(3,\\)"),
        (np.full((2, 3), np.nan), np.zeros(2, int), "NaN"),
        (np.zeros((2, 3)), np.array([0, 3]), "\\[0, 3\\)"),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits, labels, why):
    with pytest.raises(DataError, match=why):
        fit_temperature(logits, labels)
    with pytest.raises(DataError, match="positive"):
        calibrated(np.zeros((1, 2)), 0.0)


def slow_debiased(confidence, right, bins):
    """Sort, cut, and add up one example at a time."""
    pairs = sorted(zip(confidence.tolist(), right.tolist(), strict=True), key=lambda pair: pair[0])
    base, more = divmod(len(pairs), bins)
    total, start = 0.0, 0
    for b in range(bins):
        part = pairs[start : start + base + (b < more)]
        start += len(part)
        sure = sum(c for c, _ in part) / len(part)
        share = sum(r for _, r in part) / len(part)
        total += len(part) * ((sure - share) ** 2 - share * (1 - share) / (len(part) - 1))
    return math.sqrt(max(0.0, total / len(pairs)))


@pytest.mark.parametrize("seed", range(3))
def test_the_debiased_error_against_a_slow_loop(seed):
    generator = np.random.default_rng(seed)
    sure = generator.uniform(0.2, 1, 307)
    right = generator.random(307) < sure**2
    assert debiased_calibration_error(sure, right) == pytest.approx(slow_debiased(sure, right, 15), abs=1e-12)


def test_the_bias_of_few_examples_is_gone():
    """A model that is calibrated perfectly: the usual error is above 0 on 60 examples, the debiased square is not."""
    generator = np.random.default_rng(0)
    usual, squares = [], []
    for _ in range(400):
        sure = generator.uniform(0.5, 1, 60)
        right = generator.random(60) < sure
        usual.append(bin_confidence(sure, right).expected_error)
        # The root is cut off at 0: the mean of what is not cut off is compared instead.
        squares.append(debiased_calibration_error(sure, right, bins=3) ** 2)
    assert np.mean(usual) > 0.1 and np.sqrt(np.mean(squares)) < 0.06
    assert debiased_calibration_error(np.array([0.7]), np.array([True])) == pytest.approx(0.3)
