"""What a report may hold, and what is refused."""

import numpy as np
import pytest
from scipy.special import softmax

from limbeck.errors import DataError
from limbeck.report import Contents, Model


def model(log_probs, role="teacher"):
    return Model(role, "net", log_probs)


def contents(**changes):
    log_probs = np.log(np.full((4, 2), 0.5))
    usual = {"title": "t", "created": "now", "classes": ("a", "b"), "models": (model(log_probs),)}
    return Contents(**(usual | {"labels": np.array([0, 1, 1, 0])} | changes))


def test_softened_answers_are_a_softmax_of_divided_scores():
    scores = np.random.default_rng(0).normal(size=(6, 5)) * 4
    net = model(scores - np.log(np.exp(scores).sum(-1, keepdims=True)))
    rows = np.array([4, 0])
    for temperature in (0.5, 1.0, 8.0):
        np.testing.assert_allclose(net.softened(rows, temperature), softmax(scores[rows] / temperature, axis=-1))
    np.testing.assert_array_equal(net.predicted, scores.argmax(-1))
    np.testing.assert_allclose(net.confidence, softmax(scores, axis=-1).max(-1))


def test_models_are_found_by_role_if_they_answered():
    answers = np.log(np.full((4, 2), 0.5))
    report = contents(models=(Model("teacher", "silent"), model(answers, "student")))
    assert report.model("teacher") is None
    assert report.model("student") is report.models[1]
    assert report.answering == report.models[1:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "at least one model"),
        ({"labels": np.array([0, 1, 2, 0])}, r"integers in \[0, 2\)"),
        ({"labels": np.array([0.0, 1.0])}, r"integers in \[0, 2\)"),
        ({"labels": np.zeros(0, int)}, "at least one"),
        ({"labels": np.array([0, 1])}, r"ask for \(2, 2\)"),
        ({"labels": None}, "no labels"),
        ({"classes": ("a", "b", "c")}, r"ask for \(4, 3\)"),
        ({"models": (model(np.full((4, 2), np.nan)),)}, "NaN"),
        ({"models": (model(np.full((4, 2), -np.inf)),)}, "no class has any"),
        ({"images": np.zeros((4, 3, 3))}, "uint8"),
        ({"images": np.zeros((3, 3, 3), np.uint8)}, "uint8 of shape"),
        ({"images": np.zeros((4, 3, 3, 4), np.uint8)}, "uint8 of shape"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        contents(**changes)


def test_asking_a_silent_model_is_refused():
    with pytest.raises(DataError, match="the teacher has no predictions"):
        _ = Model("teacher", "silent").predicted
